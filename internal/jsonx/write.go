package jsonx

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Python writes a value as json.dumps(v, indent=indent) does, with ensure_ascii: numbers as Python prints what it read, other characters as \u escapes.
func Python(v any, indent int) []byte { return appendPython(nil, v, indent, 0) }

func appendPython(b []byte, v any, indent, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendASCII(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return append(b, reprFloat(v)...)
	case Number:
		if v.IsInt() {
			return append(b, reprInt(v)...)
		}
		return append(b, reprFloat(v.Float())...)
	case []any:
		return appendItems(b, '[', ']', len(v), indent, depth, func(b []byte, i int) []byte { return appendPython(b, v[i], indent, depth+1) })
	case *Object:
		return appendItems(b, '{', '}', len(v.keys), indent, depth, func(b []byte, i int) []byte {
			b = append(appendASCII(b, v.keys[i]), ": "...)
			return appendPython(b, v.values[v.keys[i]], indent, depth+1)
		})
	}
	panic(fmt.Sprintf("BUG: jsonx cannot write a %T", v))
}

func appendItems(b []byte, open, shut byte, n, indent, depth int, item func([]byte, int) []byte) []byte {
	b = append(b, open)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = newline(b, indent*(depth+1))
		b = item(b, i)
	}
	if n > 0 {
		b = newline(b, indent*depth)
	}
	return append(b, shut)
}

func newline(b []byte, spaces int) []byte {
	b = append(b, '\n')
	for range spaces {
		b = append(b, ' ')
	}
	return b
}

const hexDigits = "0123456789abcdef"

func appendASCII(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 { // a lone surrogate, as Parse keeps it
			r, n = surrogate(s[i:])
		}
		i += n
		b = appendRune(b, r)
	}
	return append(b, '"')
}

func surrogate(s string) (rune, int) {
	if len(s) < 3 {
		return utf8.RuneError, 1
	}
	return rune(s[0]&0xF)<<12 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F), 3
}

func appendRune(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	}
	switch {
	case r >= 0x20 && r < 0x7F:
		return append(b, byte(r))
	case r >= 0x10000:
		r -= 0x10000
		return appendEscape(appendEscape(b, 0xD800|r>>10), 0xDC00|r&0x3FF)
	}
	return appendEscape(b, r)
}

func appendEscape(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
