package lock

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// Parse reads a lock. name is for messages.
func Parse(name string, data []byte) (*Lock, error) {
	p := parser{name: name, lock: New(), seen: map[string]int{}, files: map[string]File{}}
	switch {
	case len(data) > MaxSize:
		return nil, p.fail("git checkout "+name+" brings back the last one", "it has %d bytes, more than any lock", len(data))
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return nil, p.fail("git checkout "+name+" brings back the last one", "it is not text")
	}
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if err := p.header(lines[0]); err != nil {
		return nil, err
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		p.line = len(lines)
		return nil, p.fail("git checkout "+name+" brings back the last one", "the last line is cut off")
	}
	for i, line := range lines[1:] {
		p.line = i + 2
		if i > maxLines {
			return nil, p.fail("", "it has more than %d lines", maxLines)
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := p.entry(line); err != nil {
			return nil, err
		}
	}
	for at := range p.lock.Files {
		files := p.lock.Files[at]
		sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	}
	return p.lock, p.whole()
}

// whole looks whether each model has the files that it was locked with.
func (p *parser) whole() error {
	first := ""
	for source, pin := range p.lock.Pins {
		if pin.Kind == "model" && Tree(p.lock.Files[At(source, pin.Commit)]) != pin.Tree && (first == "" || source < first) {
			first = source
		}
	}
	if first == "" {
		return nil
	}
	p.line = p.seen["model"+first]
	return p.fail("bring back the last lock with git; or delete this line, and `mlxbuild lock` asks the Hub again", "the files of %s are not those that it was locked with: a line is missing, or was changed", first)
}

// parser reads line by line. seen has the line of each fact, so that two that contradict each other are told with both places.
type parser struct {
	name  string
	line  int
	lock  *Lock
	seen  map[string]int
	files map[string]File // by commit and path
}

func (p *parser) fail(do, format string, args ...any) error {
	return &Error{File: p.name, Line: p.line, What: fmt.Sprintf(format, args...), Do: do}
}

const mergeHint = "keep the lines of both sides and delete the marks; where both have a `model` line of one source, keep one of them"

func (p *parser) header(line string) error {
	p.line = 1
	if conflict(line) {
		return p.fail(mergeHint, "here is a mark of a merge conflict")
	}
	text, ok := strings.CutPrefix(line, magic)
	n, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil || n < 1 || text != strconv.Itoa(n):
		return p.fail("its first line is `"+magic+strconv.Itoa(Version)+"`; delete the file and `mlxbuild lock` writes it anew", "this is no lock of mlxbuild")
	case n > Version:
		return p.fail("update mlxbuild", "a newer mlxbuild wrote it (format %d; this one knows %d)", n, Version)
	}
	return nil
}

func conflict(line string) bool {
	for _, mark := range []string{"<<<<<<<", "=======", ">>>>>>>", "|||||||"} {
		if strings.HasPrefix(line, mark) {
			return true
		}
	}
	return false
}

func (p *parser) entry(line string) error {
	if conflict(line) {
		return p.fail(mergeHint, "here is a mark of a merge conflict")
	}
	words, ok := split(line)
	if !ok {
		return p.malformed(line)
	}
	switch words[0] {
	case "model", "dataset":
		return p.pin(line, words)
	case "file":
		return p.file(line, words)
	case "tool":
		return p.tool(line, words)
	}
	return p.fail("entries are model, dataset, file and tool; if a newer mlxbuild wrote it, update this one", "no entry begins with %q", words[0])
}

func (p *parser) malformed(line string) error {
	if len(line) > 120 {
		line = line[:120] + "…"
	}
	return p.fail("bring back the last lock with git", "this is not an entry: %q", line)
}

// split a line into words; a quoted one may hold anything.
func split(line string) (words []string, ok bool) {
	for line != "" {
		var word string
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, false
			}
			word, _ = strconv.Unquote(quoted)
			if word == "" || !utf8.ValidString(word) || plain(word) { // one way to write each
				return nil, false
			}
			line = line[len(quoted):]
		} else {
			word, _, _ = strings.Cut(line, " ")
			if !plain(word) {
				return nil, false
			}
			line = line[len(word):]
		}
		words = append(words, word)
		if line == "" {
			break
		}
		if line = line[1:]; line == "" || line[0] == ' ' {
			return nil, false
		}
	}
	return words, len(words) > 0
}

// isCommit: 40 hexadecimal digits in lower case.
func isCommit(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 40
}

// isSource: hf:NAME, with or without a revision behind an @.
func isSource(s string) bool {
	uri, revision, asked := strings.Cut(s, "@")
	name, ok := strings.CutPrefix(uri, "hf:")
	return ok && plain(name) && !strings.Contains(name, ":") && (!asked || revision != "" && !strings.Contains(revision, "@"))
}

func (p *parser) pin(line string, words []string) error {
	fields := map[string]int{"model": 5, "dataset": 4}
	if len(words) != fields[words[0]] || !isSource(words[1]) || !isCommit(words[2]) {
		return p.malformed(line)
	}
	kind, source, pin := words[0], words[1], Pin{Kind: words[0], Commit: words[2], Type: words[3]}
	if kind == "model" {
		hex, isSHA := strings.CutPrefix(words[4], "sha256:")
		tree, err := cache.ParseDigest(hex)
		if !isSHA || err != nil {
			return p.malformed(line)
		}
		pin.Tree = tree
	}
	if first, ok := p.lock.Pins[source]; ok && first != pin {
		return p.fail("keep the line that you mean", "%s is pinned twice, in another way on line %d", source, p.seen[kind+source])
	}
	p.seen[kind+source] = p.line
	p.lock.Pins[source] = pin
	return nil
}

func (p *parser) file(line string, words []string) error {
	if len(words) != 5 {
		return p.malformed(line)
	}
	at, commit, ok := strings.Cut(words[1], "@")
	size, err := strconv.ParseInt(words[3], 10, 64)
	hex, isSHA := strings.CutPrefix(words[4], "sha256:")
	digest, bad := cache.ParseDigest(hex)
	if !ok || !isSource(at) || !isCommit(commit) || err != nil || size < 0 || strconv.FormatInt(size, 10) != words[3] || !isSHA || bad != nil {
		return p.malformed(line)
	}
	f := File{Path: words[2], Size: size, SHA256: digest}
	key := words[1] + " " + f.Path
	if first, ok := p.seen[key]; ok {
		if p.files[key] != f {
			return p.fail("one commit has one content: bring back the last lock with git", "%s of %s is there twice, in another way on line %d", f.Path, at, first)
		}
		return nil
	}
	p.seen[key], p.files[key] = p.line, f
	p.lock.Files[words[1]] = append(p.lock.Files[words[1]], f)
	return nil
}

func (p *parser) tool(line string, words []string) error {
	if len(words) != 3 {
		return p.malformed(line)
	}
	if have, ok := p.lock.Tools[words[1]]; ok && have != words[2] {
		return p.fail("keep the line that you mean", "the tool %s is there twice, with another version on line %d", words[1], p.seen["tool"+words[1]])
	}
	p.seen["tool"+words[1]] = p.line
	p.lock.Tools[words[1]] = words[2]
	return nil
}
