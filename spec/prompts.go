package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

func (l *loader) prompts(r *Recipe, section *node) {
	for _, f := range section.fieldsOf() {
		set := l.promptSet(f.key, f.value)
		set.Pos = f.pos
		r.Prompts = append(r.Prompts, set)
	}
}

// promptSet reads a list of prompts, or {prompts or file, chat, system}.
func (l *loader) promptSet(name string, n *node) PromptSet {
	set := PromptSet{Name: name}
	if n == nil {
		return set
	}
	set.Pos = n.pos
	items := n.items
	if n.kind == mapping {
		set.Chat = n.get("chat").boolOr(false)
		set.System = n.get("system").textOr("")
		items = n.get("prompts").itemsOf()
		file := n.get("file")
		switch {
		case file == nil && n.get("prompts") == nil:
			l.fail(n.pos, "write prompts: [...] or file: prompts.jsonl", "the prompt set has no prompts")
		case file != nil && n.get("prompts") != nil:
			l.fail(file.pos, "take one of them out", "a prompt set has prompts or a file, not both")
		case file != nil:
			set.Prompts = l.promptFile(file)
		}
		if set.System != "" && !set.Chat {
			l.fail(n.get("system").pos, "add chat: true", "system goes with chat: true only")
		}
	}
	for _, item := range items {
		if p, ok := l.prompt(item); ok {
			set.Prompts = append(set.Prompts, p)
		}
	}
	return set
}

func (l *loader) prompt(n *node) (Prompt, bool) {
	if text, ok := n.text(); ok {
		if text == "" {
			l.fail(n.pos, "", "a prompt is empty")
		}
		return Prompt{Text: text, Pos: n.pos}, true
	}
	p := Prompt{Pos: n.pos}
	for _, m := range n.get("messages").itemsOf() {
		p.Messages = append(p.Messages, Message{m.get("role").textOr(""), m.get("content").textOr("")})
	}
	return p, len(p.Messages) > 0
}

// maxPromptFile is the largest prompt file, in bytes; maxPrompts the most prompts in it.
const (
	maxPromptFile = 16 << 20
	maxPrompts    = 100_000
)

// promptFile reads JSON lines, or plain text with one prompt a line.
func (l *loader) promptFile(n *node) []Prompt {
	name, ok := n.text()
	if !ok {
		return nil
	}
	path := filepath.Join(l.dirs[n.pos.File], filepath.FromSlash(name))
	l.promptFiles = append(l.promptFiles, path)
	data, err := readPromptFile(path)
	if err != nil {
		l.fail(n.pos, "paths are relative to the recipe", "%s: %v", name, err)
		return nil
	}
	var out []Prompt
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimRight(line, "\r")
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		p, err := promptLine(name, line)
		if err != nil {
			l.fail(n.pos, `each line is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}`, "%s:%d: %v", name, i+1, err)
			return out
		}
		p.Pos = n.pos
		if out = append(out, p); len(out) > maxPrompts {
			l.fail(n.pos, "", "%s has more than %d prompts", name, maxPrompts)
			return nil
		}
	}
	if out == nil {
		l.fail(n.pos, "", "%s has no prompts", name)
	}
	return out
}

func readPromptFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("there is no such file")
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPromptFile+1))
	if err == nil && len(data) > maxPromptFile {
		err = fmt.Errorf("it has more than %d bytes", maxPromptFile)
	}
	if err == nil && !utf8.Valid(data) {
		err = fmt.Errorf("it is not UTF-8")
	}
	return data, err
}

func promptLine(name string, line []byte) (Prompt, error) {
	if strings.HasSuffix(name, ".txt") {
		return Prompt{Text: string(line)}, nil
	}
	var v struct {
		Prompt   *string `json:"prompt"`
		Messages []struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return Prompt{}, fmt.Errorf("it is not JSON: %w", err)
	}
	if (v.Prompt == nil) == (v.Messages == nil) {
		return Prompt{}, fmt.Errorf("it has neither prompt nor messages, or both")
	}
	if v.Prompt != nil {
		return Prompt{Text: *v.Prompt}, nil
	}
	var p Prompt
	for _, m := range v.Messages {
		p.Messages = append(p.Messages, Message{m.Role, m.Content})
	}
	return p, nil
}
