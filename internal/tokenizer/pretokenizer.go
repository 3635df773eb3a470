package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A step cuts a piece of text into smaller ones, in order. first says that the piece begins where the text begins.
type step interface {
	split(piece string, first bool, emit func(piece string, first bool))
}

// preTokenizer reads the pre_tokenizer of a tokenizer.json as a list of steps, and whether the last of them is ByteLevel: then words stay raw bytes.
func preTokenizer(v any) (steps []step, raw bool, err error) {
	if v == nil {
		return nil, false, nil
	}
	steps, err = appendSteps(nil, v, 0)
	if err != nil {
		return nil, false, err
	}
	for i, s := range steps {
		if b, ok := s.(*byteLevelStep); ok {
			last := i == len(steps)-1
			b.encode = !last
			raw = last
		}
	}
	return steps, raw, nil
}

func appendSteps(steps []step, v any, depth int) ([]step, error) {
	c, err := newComponent("pre_tokenizer", v)
	if err != nil {
		return nil, err
	}
	switch c.kind {
	case "Sequence":
		list, err := c.list("pretokenizers", depth)
		if err != nil {
			return nil, err
		}
		for _, v := range list {
			if steps, err = appendSteps(steps, v, depth+1); err != nil {
				return nil, err
			}
		}
		return steps, nil
	case "ByteLevel":
		s := &byteLevelStep{space: c.flag("add_prefix_space", true), regex: c.flag("use_regex", true)}
		return append(steps, s), c.err
	case "Digits":
		s := digitsStep{single: c.flag("individual_digits", false)}
		return append(steps, s), c.err
	case "Split":
		s, err := newSplitStep(c)
		return append(steps, s), err
	case "Metaspace":
		s, err := newMetaspace(c)
		return append(steps, s), err
	}
	return nil, c.unsupported()
}

// byteLevelStep is the ByteLevel pre-tokenizer.
type byteLevelStep struct {
	space  bool // add_prefix_space, to every piece that does not begin with one
	regex  bool
	encode bool // write bytes as characters, for steps that follow
}

func (b *byteLevelStep) split(piece string, first bool, emit func(string, bool)) {
	if b.space && piece[0] != ' ' {
		piece = " " + piece
	}
	if b.encode {
		inner := emit
		emit = func(s string, first bool) { inner(byteLevel(s), first) }
	}
	if !b.regex {
		emit(piece, first)
		return
	}
	scanAll(scanGPT2, piece, first, emit)
}

func scanAll(scan scanner, piece string, first bool, emit func(string, bool)) {
	t := classTable()
	for i := 0; i < len(piece); {
		end := scan(t, piece, i)
		emit(piece[i:end], first)
		i, first = end, false
	}
}

// byteLevel writes each byte as its character.
func byteLevel(s string) string { return string(appendByteLevel(nil, s)) }

func appendByteLevel(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = utf8.AppendRune(dst, byteToRune[s[i]])
	}
	return dst
}

// digitsStep is the Digits pre-tokenizer: it cuts around numbers, or around each of their characters.
type digitsStep struct{ single bool }

func (d digitsStep) split(piece string, first bool, emit func(string, bool)) {
	t := classTable()
	for i := 0; i < len(piece); {
		end := run(t, piece, i, ^numericSet)
		switch {
		case end > i:
		case d.single:
			_, n := classOf(t, piece, i)
			end += n
		default:
			end = run(t, piece, i, numericSet)
		}
		emit(piece[i:end], first)
		i, first = end, false
	}
}

// splitStep is the Split pre-tokenizer with a pattern that may leave text between its matches.
type splitStep struct {
	next     func(s string, from int) (start, end int) // the next match; start < 0: none
	behavior string
	invert   bool
}

// scanStep is the Split pre-tokenizer with a pattern that covers the text, isolated.
type scanStep struct{ scan scanner }

func (s scanStep) split(piece string, first bool, emit func(string, bool)) {
	scanAll(s.scan, piece, first, emit)
}

func newSplitStep(c *component) (step, error) {
	isRegex, pattern := c.pattern()
	behavior := c.text("behavior")
	invert := c.flag("invert", false)
	if c.err != nil {
		return nil, c.err
	}
	switch behavior {
	case "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous":
	default:
		return nil, c.errorf("behavior %q is not supported", behavior)
	}
	if !isRegex {
		return splitStep{next: literal(pattern), behavior: behavior, invert: invert}, nil
	}
	if scan, ok := scannerOf(pattern); ok {
		if behavior == "Isolated" || behavior == "Removed" && invert {
			return scanStep{scan}, nil
		}
		return splitStep{next: covering(scan), behavior: behavior, invert: invert}, nil
	}
	next, err := compile(pattern)
	if err != nil {
		return nil, c.errorf("with pattern %q is not supported: %v", pattern, err)
	}
	return splitStep{next: next, behavior: behavior, invert: invert}, nil
}

func literal(pattern string) func(string, int) (int, int) {
	return func(s string, from int) (int, int) {
		i := strings.Index(s[from:], pattern)
		if i < 0 {
			return -1, -1
		}
		return from + i, from + i + len(pattern)
	}
}

func covering(scan scanner) func(string, int) (int, int) {
	return func(s string, from int) (int, int) {
		if from >= len(s) {
			return -1, -1
		}
		return from, scan(classTable(), s, from)
	}
}

// span is a match of a pattern, or the text between two.
type span struct {
	start, end int
	match      bool
}

func (p splitStep) split(piece string, first bool, emit func(string, bool)) {
	for _, s := range p.spans(piece) {
		if s.end > s.start {
			emit(piece[s.start:s.end], first && s.start == 0)
		}
	}
}

// spans applies the behavior as Hugging Face does (tokenizers/src/tokenizer/normalizer.rs, split).
func (p splitStep) spans(s string) []span {
	var found []span
	at := 0
	for at < len(s) {
		start, end := p.next(s, at)
		if start < 0 {
			break
		}
		if start > at {
			found = append(found, span{at, start, p.invert})
		}
		found = append(found, span{start, end, !p.invert})
		at = end
	}
	if at < len(s) {
		found = append(found, span{at, len(s), p.invert})
	}
	out := found[:0]
	previous := false
	switch p.behavior {
	case "Isolated":
		return found
	case "Removed":
		for _, f := range found {
			if !f.match {
				out = append(out, f)
			}
		}
	case "Contiguous", "MergedWithPrevious":
		for _, f := range found {
			join := f.match == previous
			if p.behavior == "MergedWithPrevious" {
				join = f.match && !previous
			}
			if previous = f.match; join && len(out) > 0 {
				out[len(out)-1].end = f.end
			} else {
				out = append(out, f)
			}
		}
	case "MergedWithNext":
		// From right to left, writing the result to the right end of the same list.
		w := len(found)
		for i := len(found) - 1; i >= 0; i-- {
			f := found[i]
			join := f.match && !previous && w < len(found)
			if previous = f.match; join {
				found[w].start = f.start
			} else {
				w--
				found[w] = f
			}
		}
		return found[w:]
	}
	return out
}

// metaspace is the Metaspace pre-tokenizer and decoder.
type metaspace struct {
	mark   string // one character
	scheme string // always, first, never
	cut    bool
}

func newMetaspace(c *component) (*metaspace, error) {
	m := &metaspace{mark: c.text("replacement"), scheme: "always", cut: c.flag("split", true)}
	if s, ok := c.fields["prepend_scheme"]; ok {
		m.scheme, _ = s.(string)
	}
	if c.err != nil {
		return nil, c.err
	}
	if utf8.RuneCountInString(m.mark) != 1 {
		return nil, c.errorf("replacement %q is not one character", m.mark)
	}
	if m.scheme != "always" && m.scheme != "first" && m.scheme != "never" {
		return nil, c.errorf("prepend_scheme %q is not supported", m.scheme)
	}
	if !c.flag("add_prefix_space", true) {
		if _, given := c.fields["prepend_scheme"]; given && m.scheme != "never" {
			return nil, c.errorf("add_prefix_space false contradicts prepend_scheme %q", m.scheme)
		}
		m.scheme = "never"
	}
	return m, c.err
}

func (m *metaspace) split(piece string, first bool, emit func(string, bool)) {
	piece = strings.ReplaceAll(piece, " ", m.mark)
	if (m.scheme == "always" || m.scheme == "first" && first) && !strings.HasPrefix(piece, m.mark) {
		piece = m.mark + piece
	}
	if !m.cut {
		emit(piece, first)
		return
	}
	splitStep{next: literal(m.mark), behavior: "MergedWithNext"}.split(piece, first, emit)
}

// component is one object with a "type" inside tokenizer.json: a normalizer, pre-tokenizer, post-processor or decoder.
type component struct {
	role   string
	kind   string
	fields map[string]any
	err    error // the first field of a wrong type
}

func newComponent(role string, v any) (*component, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("tokenizer.json: %s is not an object", role)
	}
	kind, ok := fields["type"].(string)
	if !ok {
		return nil, fmt.Errorf("tokenizer.json: %s has no type", role)
	}
	return &component{role: role, kind: kind, fields: fields}, nil
}

func (c *component) errorf(format string, args ...any) error {
	return fmt.Errorf("tokenizer.json: %s %s: %s", c.role, c.kind, fmt.Sprintf(format, args...))
}

func (c *component) unsupported() error {
	return fmt.Errorf("tokenizer.json: %s %s is not supported", c.role, c.kind)
}

func (c *component) fail(key, want string) {
	if c.err == nil {
		c.err = c.errorf("%s is missing or not %s", key, want)
	}
}

// flag reads a bool; missing or null is the default.
func (c *component) flag(key string, missing bool) bool {
	v, ok := c.fields[key]
	if !ok || v == nil {
		return missing
	}
	b, ok := v.(bool)
	if !ok {
		c.fail(key, "true or false")
	}
	return b
}

func (c *component) text(key string) string {
	s, ok := c.fields[key].(string)
	if !ok {
		c.fail(key, "a string")
	}
	return s
}

// count reads a whole number from 0 to 2^20.
func (c *component) count(key string) int {
	n, _ := c.fields[key].(number)
	v, err := parseCount(string(n))
	if err != nil {
		c.fail(key, "a whole number")
	}
	return v
}

// list reads the members of a Sequence.
func (c *component) list(key string, depth int) ([]any, error) {
	list, ok := c.fields[key].([]any)
	if !ok {
		return nil, c.errorf("%s is missing or not a list", key)
	}
	if depth > 8 || len(list) > 256 {
		return nil, c.errorf("too many members")
	}
	return list, nil
}

// pattern reads {"String": s} or {"Regex": s}.
func (c *component) pattern() (isRegex bool, pattern string) {
	m, _ := c.fields["pattern"].(map[string]any)
	if s, ok := m["Regex"].(string); ok && len(m) == 1 && s != "" {
		return true, s
	}
	if s, ok := m["String"].(string); ok && len(m) == 1 && s != "" {
		return false, s
	}
	c.fail("pattern", `{"String": …} or {"Regex": …}`)
	return false, ""
}
