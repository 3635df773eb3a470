package tokenizer

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a tokenizer.json; real files need about ten.
const maxDepth = 64

// reader walks JSON text once, without building a tree: a tokenizer.json is megabytes of two flat lists, vocab and merges.
type reader struct {
	data  []byte // valid UTF-8
	pos   int
	depth int
	buf   []byte // the last string that had escapes
}

func (r *reader) errorf(format string, args ...any) error {
	return fmt.Errorf("tokenizer.json: byte %d: %s", r.pos, fmt.Sprintf(format, args...))
}

// peek returns the next byte that is not white space, 0 at the end.
func (r *reader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\n', '\t', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *reader) expect(c byte) error {
	if got := r.peek(); got != c {
		return r.errorf("want %q, have %s", c, r.here())
	}
	r.pos++
	return nil
}

// here names what stands at the current position, for messages.
func (r *reader) here() string {
	if r.pos >= len(r.data) {
		return "the end of the file"
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	return strconv.QuoteRune(c)
}

// text reads a string. The result is valid until the next call.
func (r *reader) text() ([]byte, error) {
	if err := r.expect('"'); err != nil {
		return nil, err
	}
	start := r.pos
	for i := start; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.pos = i + 1
			return r.data[start:i], nil
		case c == '\\':
			return r.escaped(start, i)
		case c < ' ':
			r.pos = i
			return nil, r.errorf("control character in a string")
		}
	}
	r.pos = len(r.data)
	return nil, r.errorf("string without an end")
}

// escaped goes on with text at its first backslash.
func (r *reader) escaped(start, i int) ([]byte, error) {
	r.buf = append(r.buf[:0], r.data[start:i]...)
	for r.pos = i; r.pos < len(r.data); {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			return r.buf, nil
		case c < ' ':
			return nil, r.errorf("control character in a string")
		case c != '\\':
			r.buf = append(r.buf, c)
		default:
			if err := r.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, r.errorf("string without an end")
}

// escape reads what follows a backslash.
func (r *reader) escape() error {
	if r.pos >= len(r.data) {
		return r.errorf("string without an end")
	}
	c := r.data[r.pos]
	r.pos++
	switch c {
	case '"', '\\', '/':
		r.buf = append(r.buf, c)
	case 'b':
		r.buf = append(r.buf, '\b')
	case 'f':
		r.buf = append(r.buf, '\f')
	case 'n':
		r.buf = append(r.buf, '\n')
	case 'r':
		r.buf = append(r.buf, '\r')
	case 't':
		r.buf = append(r.buf, '\t')
	case 'u':
		u, err := r.hex4()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(u) {
			if !bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
				return r.errorf("half of a surrogate pair")
			}
			r.pos += 2
			low, err := r.hex4()
			if err != nil {
				return err
			}
			if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
				return r.errorf("half of a surrogate pair")
			}
		}
		r.buf = utf8.AppendRune(r.buf, u)
	default:
		return r.errorf("unknown escape \\%c", c)
	}
	return nil
}

func (r *reader) hex4() (rune, error) {
	if len(r.data)-r.pos < 4 {
		return 0, r.errorf("\\u needs four hexadecimal digits")
	}
	var u rune
	for _, c := range r.data[r.pos : r.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			u = u<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			u = u<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, r.errorf("\\u needs four hexadecimal digits")
		}
	}
	r.pos += 4
	return u, nil
}

// object calls each for every key; each must read the value. The key is valid until each reads a string.
func (r *reader) object(each func(key []byte) error) error {
	if err := r.open('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		if done, err := r.next('}', first); done || err != nil {
			return err
		}
		key, err := r.text()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := each(key); err != nil {
			return err
		}
	}
}

// array calls each for every element; each must read it.
func (r *reader) array(each func() error) error {
	if err := r.open('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		if done, err := r.next(']', first); done || err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
	}
}

func (r *reader) open(c byte) error {
	if err := r.expect(c); err != nil {
		return err
	}
	if r.depth++; r.depth > maxDepth {
		return r.errorf("nested more than %d levels deep", maxDepth)
	}
	return nil
}

// next moves to the next element of a list, or past its end.
func (r *reader) next(end byte, first bool) (done bool, err error) {
	if r.peek() == end {
		r.pos++
		r.depth--
		return true, nil
	}
	if first {
		return false, nil
	}
	if err := r.expect(','); err != nil {
		return false, err
	}
	if r.peek() == end {
		return false, r.errorf("a comma before %q", end)
	}
	return false, nil
}

// uint reads a whole number of at most nine digits.
func (r *reader) uint() (int, error) {
	r.peek()
	n, start := 0, r.pos
	for r.pos < len(r.data) && r.data[r.pos]-'0' <= 9 {
		n = n*10 + int(r.data[r.pos]-'0')
		if r.pos++; r.pos-start > 9 {
			return 0, r.errorf("number too large")
		}
	}
	if r.pos == start {
		return 0, r.errorf("want a whole number, have %s", r.here())
	}
	if r.pos < len(r.data) && bytes.IndexByte([]byte(".eE"), r.data[r.pos]) >= 0 {
		return 0, r.errorf("want a whole number")
	}
	return n, nil
}

// number is the text of a JSON number.
type number string

// value reads anything: nil, bool, number, string, []any or map[string]any. A repeated key is an error.
func (r *reader) value() (any, error) {
	switch c := r.peek(); c {
	case '{':
		m := map[string]any{}
		err := r.object(func(k []byte) error {
			key := string(k)
			if _, again := m[key]; again {
				return r.errorf("key %q is given twice", key)
			}
			v, err := r.value()
			m[key] = v
			return err
		})
		return m, err
	case '[':
		list := []any{}
		err := r.array(func() error {
			v, err := r.value()
			list = append(list, v)
			return err
		})
		return list, err
	case '"':
		s, err := r.text()
		return string(s), err
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	return r.number()
}

func (r *reader) word(w string) error {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(w)) {
		return r.errorf("want a value, have %s", r.here())
	}
	r.pos += len(w)
	return nil
}

func (r *reader) number() (any, error) {
	start := r.pos
	for r.pos < len(r.data) && bytes.IndexByte([]byte("+-.0123456789eE"), r.data[r.pos]) >= 0 {
		r.pos++
	}
	s := string(r.data[start:r.pos])
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		r.pos = start
		return nil, r.errorf("want a value, have %s", r.here())
	}
	return number(s), nil
}

// skip passes over any value.
func (r *reader) skip() error {
	switch r.peek() {
	case '{':
		return r.object(func([]byte) error { return r.skip() })
	case '[':
		return r.array(r.skip)
	case '"':
		_, err := r.text()
		return err
	}
	_, err := r.value()
	return err
}
