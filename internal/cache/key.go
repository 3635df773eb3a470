package cache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// KeyFormat is the version of a key's text.
const KeyFormat = 1

// KeyWriter collects what a step's result depends on. Its text has one line for each: the key's format and kind, `code` with the versions of the code that can
// change bytes, then `param NAME JSON`, `tool NAME VERSION` and `input ROLE DIGEST`, each sorted. The order of calls does not matter.
type KeyWriter struct {
	kind   string
	code   []string
	params []string
	tools  []string
	inputs []string
}

// NewKey starts the key of a step of this kind.
func NewKey(kind string) *KeyWriter { return &KeyWriter{kind: word(kind)} }

// Code names the versions of code: "quant/1".
func (k *KeyWriter) Code(names ...string) {
	for _, n := range names {
		k.code = append(k.code, word(n))
	}
}

// Param is a normalised parameter: nil, bool, string, integers, float64, []any and map[string]any of these, []string.
func (k *KeyWriter) Param(name string, value any) {
	k.params = append(k.params, "param "+word(name)+" "+string(appendCanonical(nil, value)))
}

// Tool is a program whose version changes the result.
func (k *KeyWriter) Tool(name, version string) {
	k.tools = append(k.tools, "tool "+word(name)+" "+word(version))
}

// Input is the content of an artifact in the role it plays.
func (k *KeyWriter) Input(role string, d Digest) {
	k.inputs = append(k.inputs, "input "+word(role)+" "+d.String())
}

// Text of the key.
func (k *KeyWriter) Text() string {
	slices.Sort(k.code)
	var b strings.Builder
	b.Grow(512)
	b.WriteString("mlxbuild-key " + strconv.Itoa(KeyFormat) + "\nkind " + k.kind + "\n")
	if len(k.code) > 0 {
		b.WriteString("code " + strings.Join(k.code, " ") + "\n")
	}
	for _, lines := range [][]string{k.params, k.tools, k.inputs} {
		slices.Sort(lines)
		for _, l := range lines {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// Sum is the digest of the text: the key.
func (k *KeyWriter) Sum() Digest { return SumBytes([]byte(k.Text())) }

// word refuses what would break a line into other fields; names come from code, never from users.
func word(s string) string {
	if s == "" || strings.ContainsAny(s, " \n\r\t") {
		panic(fmt.Sprintf("BUG: %q cannot stand in a key", s))
	}
	return s
}

// appendCanonical writes RFC 8785 JSON: keys sorted by UTF-16 code units, shortest numbers, no spaces.
func appendCanonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return appendString(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		return appendNumber(b, v)
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return appendCanonical(b, list)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendCanonical(b, e)
		}
		return append(b, ']')
	case map[string]any:
		return appendObject(b, v)
	}
	panic(fmt.Sprintf("BUG: a %T cannot stand in a key", v))
}

func appendObject(b []byte, m map[string]any) []byte {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return slices.Compare(utf16Of(names[i]), utf16Of(names[j])) < 0 })
	b = append(b, '{')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, n), ':')
		b = appendCanonical(b, m[n])
	}
	return append(b, '}')
}

func utf16Of(s string) []uint16 {
	var out []uint16
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			out = append(out, 0xD800|uint16(r>>10), 0xDC00|uint16(r&0x3FF))
			continue
		}
		out = append(out, uint16(r))
	}
	return out
}

// plain reports whether a string stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7F || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func appendString(b []byte, s string) []byte {
	if plain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	text := bytes.TrimRight(buf.Bytes(), "\n")
	text = bytes.ReplaceAll(text, []byte(`\u2028`), []byte("\u2028")) // the two that Go escapes and RFC 8785 does not
	return append(b, bytes.ReplaceAll(text, []byte(`\u2029`), []byte("\u2029"))...)
}

// appendNumber writes a float64 as ECMAScript does.
func appendNumber(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		panic("BUG: a key has a number that is not finite")
	}
	if f == 0 {
		return append(b, '0')
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	sign, digits := exponent[:1], strings.TrimLeft(exponent[1:], "0")
	return append(b, mantissa+"e"+sign+digits...)
}
