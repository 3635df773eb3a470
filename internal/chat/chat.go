// Package chat makes a prompt of a conversation by a model's chat template, as transformers' apply_chat_template does without tools and documents.
//
// It promises the text of Jinja2 for what it takes, refuses what it does not know by name, and holds a template, which is a stranger's program, to limits of
// size, work and time: it can neither reach anything but the conversation nor run on.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// Code names this package's behaviour in cache keys: it changes when a prompt could.
const Code = "chat/1"

// maxConfig bounds tokenizer_config.json; the largest in use, Gemma's, has 1.2 MB.
const maxConfig = 16 << 20

// Message is one turn of a conversation.
type Message struct {
	Role, Content string
}

// Options are what a template is told beside the messages.
type Options struct {
	AddGenerationPrompt bool      // end with what opens the model's turn
	Now                 time.Time // for strftime_now; zero is the current time
}

// Template is a chat template with the special tokens of its tokenizer. It may be used by several goroutines at once.
type Template struct {
	source   string
	compiled *jinja.Template
	tokens   map[string]string // bos_token, eos_token …
	extra    []string          // additional_special_tokens
	limit    time.Duration     // of one rendering
}

// Load reads the chat template of a model folder: chat_template.jinja, else chat_template in tokenizer_config.json. It returns nil, nil where there is none.
func Load(dir string) (*Template, error) {
	config, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "chat_template.jinja")
	source, err := readFile(path, maxSource)
	if errors.Is(err, os.ErrNotExist) {
		path = filepath.Join(dir, "tokenizer_config.json")
		source, err = config.template()
		if source == "" && err == nil {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t, err := Parse(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.tokens, t.extra = config.tokens()
	return t, nil
}

// Parse reads a template that has no special tokens.
func Parse(source string) (t *Template, err error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("chat template: %d bytes; the limit is %d", len(source), maxSource)
	}
	if !utf8.ValidString(source) {
		return nil, fmt.Errorf("chat template: not valid UTF-8")
	}
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("chat template: cannot be read: %v", r)
		}
	}()
	text, err := translate(source)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	compiled, err := jinja.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	return &Template{source: source, compiled: compiled, limit: maxTime}, nil
}

// UsesDate reports whether the template may print the date: then the same conversation gives another prompt tomorrow.
func (t *Template) UsesDate() bool { return strings.Contains(t.source, "strftime_now") }

// Render returns the prompt. A *RaisedError is the template's own refusal, for example of a role it does not know.
func (t *Template) Render(messages []Message, o Options) (prompt string, err error) {
	m := &machine{now: o.Now, deadline: time.Now().Add(t.limit), limit: t.limit, spaces: map[*jinja.Dict]bool{}, kinds: map[*jinja.List]string{}}
	if m.now.IsZero() {
		m.now = time.Now()
	}
	defer func() {
		if r := recover(); r != nil {
			prompt, err = "", fmt.Errorf("chat template: fails: %v", r)
		}
	}()
	prompt, err = t.compiled.RenderValues(t.context(m, messages, o))
	switch {
	case err != nil && m.raised != nil:
		return "", m.raised
	case err == nil && m.failed != nil:
		err = m.failed
		fallthrough
	case err != nil:
		return "", fmt.Errorf("chat template: %w", err)
	case len(prompt) > maxOutput:
		return "", fmt.Errorf("chat template: makes more than %d MiB of text", maxOutput>>20)
	}
	return prompt, nil
}

// context is what the template sees.
func (t *Template) context(m *machine, messages []Message, o Options) map[string]Value {
	out := map[string]Value{}
	for name, f := range m.functions() {
		out[name] = jinja.NewCallable(name, f)
	}
	list := make([]Value, 0, len(messages))
	for _, msg := range messages {
		v := jinja.NewDict()
		v.AsDict().Set("role", jinja.NewString(msg.Role))
		v.AsDict().Set("content", jinja.NewString(msg.Content))
		list = append(list, v)
	}
	for name, s := range t.tokens {
		out["v_"+name] = jinja.NewString(s)
	}
	if t.extra != nil {
		out["v_additional_special_tokens"] = jinja.NewList(texts(t.extra))
	}
	out["v_messages"] = jinja.NewList(list)
	out["v_add_generation_prompt"] = jinja.NewBool(o.AddGenerationPrompt)
	out["v_tools"] = none
	out["v_documents"] = none
	return out
}

// config is tokenizer_config.json.
type config map[string]json.RawMessage

func readConfig(dir string) (config, error) {
	path := filepath.Join(dir, "tokenizer_config.json")
	text, err := readFile(path, maxConfig)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func readFile(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return string(data), err
}

// template returns chat_template: a string, or of a list of named ones the default, or the only one. The names lead nowhere: they are compared, no more.
func (c config) template() (string, error) {
	raw := c["chat_template"]
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one, nil
	}
	var named []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if err := json.Unmarshal(raw, &named); err != nil {
		return "", fmt.Errorf("chat_template is neither a string nor a list of templates with names")
	}
	for _, n := range named {
		if n.Name == "default" {
			return n.Template, nil
		}
	}
	switch len(named) {
	case 0:
		return "", nil
	case 1:
		return named[0].Template, nil
	}
	return "", fmt.Errorf("chat_template has %d templates and none is named default", len(named))
}

// tokens returns the special tokens that transformers hands to templates.
func (c config) tokens() (map[string]string, []string) {
	out := map[string]string{}
	for _, name := range []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"} {
		if s, ok := tokenText(c[name]); ok {
			out[name] = s
		}
	}
	var list []json.RawMessage
	_ = json.Unmarshal(c["additional_special_tokens"], &list) // absent or of another form: none
	var extra []string
	for _, raw := range list {
		if s, ok := tokenText(raw); ok {
			extra = append(extra, s)
		}
	}
	return out, slices.Clip(extra)
}

// tokenText reads a token: a string, or {"content": …}.
func tokenText(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || string(raw) == "null" {
		return "", false
	}
	if json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	var token struct {
		Content *string `json:"content"`
	}
	if json.Unmarshal(raw, &token) != nil || token.Content == nil {
		return "", false
	}
	return *token.Content, true
}
