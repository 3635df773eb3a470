package jsonx

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of Parse. Python, too, refuses integers of more than 4300 digits.
const (
	MaxSize   = 64 << 20
	MaxDepth  = 512
	MaxDigits = 4300
)

// SyntaxError says where a document is not JSON. Line and Col start at 1, Col counts characters.
type SyntaxError struct {
	Line, Col int
	What      string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Col, e.What) }

// Parse reads one JSON document as Python's json.loads does.
func Parse(data []byte) (any, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes are more JSON than the %d that are read", len(data), MaxSize)
	}
	if bytes.HasPrefix(data, []byte("\xEF\xBB\xBF")) {
		return nil, &SyntaxError{1, 1, "it begins with a byte order mark; save it as UTF-8 without one"}
	}
	p := parser{data: data}
	p.space()
	v, err := p.value(0)
	if err == nil {
		p.space()
		if p.at < len(p.data) {
			err = p.fail("something stands behind the end of the document")
		}
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// ParseObject reads a document that is an object.
func ParseObject(data []byte) (*Object, error) {
	v, err := Parse(data)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*Object)
	if !ok {
		return nil, &SyntaxError{1, 1, "an object {...} is expected"}
	}
	return o, nil
}

type parser struct {
	data []byte
	at   int
}

func (p *parser) fail(what string) error {
	before := p.data[:min(p.at, len(p.data))]
	line := bytes.Count(before, []byte("\n")) + 1
	col := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return &SyntaxError{line, col, what}
}

func (p *parser) space() {
	for p.at < len(p.data) && strings.IndexByte(" \t\n\r", p.data[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, p.fail("it is nested too deeply")
	}
	if p.at >= len(p.data) {
		return nil, p.fail("it ends too early")
	}
	switch c := p.data[p.at]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range words {
		if bytes.HasPrefix(p.data[p.at:], []byte(w.text)) {
			p.at += len(w.text)
			return w.value, nil
		}
	}
	return nil, p.fail("a value is expected")
}

var words = [...]struct {
	text  string
	value any
}{{"true", true}, {"false", false}, {"null", nil}, {"NaN", Number("NaN")}, {"Infinity", Number("Infinity")}}

func (p *parser) object(depth int) (any, error) {
	o := NewObject()
	p.at++
	for first := true; ; first = false {
		p.space()
		if first && p.take('}') {
			return o, nil
		}
		if p.at >= len(p.data) || p.data[p.at] != '"' {
			return nil, p.fail(`a key in "double quotes" is expected`)
		}
		key, err := p.str()
		if err != nil {
			return nil, err
		}
		p.space()
		if !p.take(':') {
			return nil, p.fail("a : is expected")
		}
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.Set(key, v)
		p.space()
		if p.take('}') {
			return o, nil
		}
		if !p.take(',') {
			return nil, p.fail("a , or } is expected")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	list := []any{}
	p.at++
	for first := true; ; first = false {
		p.space()
		if first && p.take(']') {
			return list, nil
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		p.space()
		if p.take(']') {
			return list, nil
		}
		if !p.take(',') {
			return nil, p.fail("a , or ] is expected")
		}
	}
}

func (p *parser) take(c byte) bool {
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) number() (any, error) {
	start := p.at
	p.take('-')
	if bytes.HasPrefix(p.data[p.at:], []byte("Infinity")) && p.at > start {
		p.at += len("Infinity")
		return Number("-Infinity"), nil
	}
	if !p.take('0') && p.digits() == 0 {
		return nil, p.fail("a number is expected")
	}
	if p.at+1 < len(p.data) && p.data[p.at] == '.' && isDigit(p.data[p.at+1]) {
		p.at++
		p.digits()
	}
	if mark := p.at; p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if p.digits() == 0 {
			p.at = mark
		}
	}
	n := Number(p.data[start:p.at])
	if n.IsInt() && len(n) > MaxDigits && len(strings.TrimPrefix(string(n), "-")) > MaxDigits {
		p.at = start
		return nil, p.fail(fmt.Sprintf("an integer has more than %d digits", MaxDigits))
	}
	return n, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (p *parser) digits() (n int) {
	for p.at < len(p.data) && isDigit(p.data[p.at]) {
		p.at++
		n++
	}
	return n
}

// str reads a string. Lone surrogates, which Python keeps, are kept in the three bytes that UTF-8 would have for them.
func (p *parser) str() (string, error) {
	p.at++
	var b []byte
	for {
		if p.at >= len(p.data) {
			return "", p.fail("a string does not end")
		}
		c := p.data[p.at]
		switch {
		case c == '"':
			p.at++
			return string(b), nil
		case c < 0x20:
			return "", p.fail("a control character stands in a string")
		case c == '\\':
			var err error
			if b, err = p.escape(b); err != nil {
				return "", err
			}
		case c < utf8.RuneSelf:
			b = append(b, c)
			p.at++
		default:
			r, n := utf8.DecodeRune(p.data[p.at:])
			if r == utf8.RuneError && n == 1 {
				return "", p.fail("it is not UTF-8")
			}
			b = append(b, p.data[p.at:p.at+n]...)
			p.at += n
		}
	}
}

func (p *parser) escape(b []byte) ([]byte, error) {
	if p.at+1 >= len(p.data) {
		return b, p.fail("a string does not end")
	}
	c := p.data[p.at+1]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		p.at += 2
		return append(b, "\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return b, p.fail("an escape is not known")
	}
	r, ok := p.hex4(p.at + 2)
	if !ok {
		return b, p.fail(`four hexadecimal digits are expected behind \u`)
	}
	p.at += 6
	if utf16.IsSurrogate(r) && r < 0xDC00 && p.at+1 < len(p.data) && p.data[p.at] == '\\' && p.data[p.at+1] == 'u' {
		if low, ok := p.hex4(p.at + 2); ok && low >= 0xDC00 && low < 0xE000 {
			p.at += 6
			return utf8.AppendRune(b, utf16.DecodeRune(r, low)), nil
		}
	}
	if utf16.IsSurrogate(r) {
		return append(b, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F|0x80, 0x80|byte(r)&0x3F), nil
	}
	return utf8.AppendRune(b, r), nil
}

func (p *parser) hex4(at int) (r rune, ok bool) {
	if at+4 > len(p.data) {
		return 0, false
	}
	for _, c := range p.data[at : at+4] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
