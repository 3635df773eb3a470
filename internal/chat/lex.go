package chat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A segment is a piece of a template as Jinja2 cuts it: text, or the tokens of a {{ }} or {% %}.
type segment struct {
	kind   byte // 't' text, 'v' {{ }}, 'b' {% %}
	text   string
	tokens []token
	line   int
}

// token is a word of an expression. kind: 'n' name, 's' string, 'i' integer, 'f' float, 'o' operator, 0 the end.
type token struct {
	kind byte
	text string
}

func (t token) is(op string) bool  { return t.kind == 'o' && t.text == op }
func (t token) name(n string) bool { return t.kind == 'n' && t.text == n }
func (t token) describe() string {
	if t.kind == 0 {
		return "the end of the tag"
	}
	return strconv.Quote(t.text)
}

// lexer cuts a template as Jinja2 3.1 does (jinja2/lexer.py) with trim_blocks and lstrip_blocks set, which is how transformers reads chat templates.
type lexer struct {
	src       string
	pos       int
	lineStart bool // the last tag swallowed its line end, or nothing has been read
	out       []segment

	counted, lines int // how many line ends stand before a position
}

func lex(source string) ([]segment, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(source, "\n"), lineStart: true}
	for l.pos < len(l.src) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	return l.out, nil
}

func (l *lexer) errorf(at int, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", l.line(at), fmt.Sprintf(format, args...))
}

// line returns the number of the line of a position. It counts on from the last one it was asked for.
func (l *lexer) line(at int) int {
	if at < l.counted {
		l.counted, l.lines = 0, 0
	}
	l.lines += strings.Count(l.src[l.counted:at], "\n")
	l.counted = at
	return l.lines + 1
}

// next reads text up to a tag, and the tag.
func (l *lexer) next() error {
	open := l.find("{%#")
	if open < 0 {
		l.addText(l.src[l.pos:])
		l.pos = len(l.src)
		return nil
	}
	text, kind := l.src[l.pos:open], l.src[open+1]
	l.pos = open + 2
	l.addText(l.stripLeft(text, kind != '{'))
	switch kind {
	case '#':
		return l.comment(open)
	case '%':
		if raw, ok := l.rawTag("raw"); ok {
			return l.raw(open, raw)
		}
	}
	return l.tag(open, kind)
}

// find returns the position of the next opening mark whose second byte is one of kinds, -1 if there is none.
func (l *lexer) find(kinds string) int {
	for at := l.pos; ; at++ {
		i := strings.IndexByte(l.src[at:], '{')
		if i < 0 || at+i+1 == len(l.src) {
			return -1
		}
		if at += i; strings.IndexByte(kinds, l.src[at+1]) >= 0 {
			return at
		}
	}
}

func (l *lexer) addText(s string) {
	if s != "" {
		l.out = append(l.out, segment{kind: 't', text: s})
	}
}

// stripLeft takes the sign behind an opening mark and strips the text before it: all white space at -, the indentation of a line that begins with a block.
func (l *lexer) stripLeft(text string, block bool) string {
	switch {
	case strings.HasPrefix(l.src[l.pos:], "-"):
		l.pos++
		return strings.TrimRightFunc(text, isSpace)
	case strings.HasPrefix(l.src[l.pos:], "+"):
		l.pos++
		return text
	case !block:
		return text
	}
	line := strings.LastIndexByte(text, '\n') + 1
	if (line > 0 || l.lineStart) && strings.TrimLeftFunc(text[line:], isSpace) == "" {
		return text[:line]
	}
	return text
}

// stripRight passes the white space behind a closing mark: all of it at -, one line end behind a block.
func (l *lexer) stripRight(sign byte, block bool) {
	start := l.pos
	switch {
	case sign == '-':
		l.pos = len(l.src) - len(strings.TrimLeftFunc(l.src[l.pos:], isSpace))
	case block && sign != '+' && strings.HasPrefix(l.src[l.pos:], "\n"):
		l.pos++
	}
	l.lineStart = l.pos > start && l.src[l.pos-1] == '\n'
}

// closing returns the sign before a closing mark at the current position, 0 for none.
func (l *lexer) closing(mark string, plus bool) (sign byte, size int, ok bool) {
	rest := l.src[l.pos:]
	if strings.HasPrefix(rest, mark) {
		return 0, len(mark), true
	}
	if rest != "" && (rest[0] == '-' || plus && rest[0] == '+') && strings.HasPrefix(rest[1:], mark) {
		return rest[0], 1 + len(mark), true
	}
	return 0, 0, false
}

func (l *lexer) comment(open int) error {
	end := strings.Index(l.src[l.pos:], "#}")
	if end < 0 {
		return l.errorf(open, "a comment without an end")
	}
	sign := byte(0)
	if last := l.src[l.pos+end-1]; end > 0 && (last == '-' || last == '+') {
		sign = last
	}
	l.pos += end + 2
	l.stripRight(sign, true)
	return nil
}

// rawTag reads the rest of {% raw %} or {% endraw %} and returns its closing sign.
func (l *lexer) rawTag(name string) (sign byte, ok bool) {
	start := l.pos
	l.pos = len(l.src) - len(strings.TrimLeftFunc(l.src[l.pos:], isSpace))
	if strings.HasPrefix(l.src[l.pos:], name) {
		l.pos += len(name)
		l.pos = len(l.src) - len(strings.TrimLeftFunc(l.src[l.pos:], isSpace))
		if sign, size, ok := l.closing("%}", name == "endraw"); ok {
			l.pos += size
			return sign, true
		}
	}
	l.pos = start
	return 0, false
}

// raw reads the text between {% raw %} and {% endraw %}.
func (l *lexer) raw(open int, sign byte) error {
	if sign == '-' {
		l.stripRight(sign, true)
	}
	start := l.pos
	for {
		at := l.find("%")
		if at < 0 {
			return l.errorf(open, "raw without endraw")
		}
		text := l.src[start:at]
		l.pos = at + 2
		l.lineStart = false
		text = l.stripLeft(text, true)
		if sign, ok := l.rawTag("endraw"); ok {
			l.addText(text)
			l.stripRight(sign, true)
			return nil
		}
	}
}

// tag reads the tokens of {{ }} or {% %}. A closing mark inside brackets does not close.
func (l *lexer) tag(open int, kind byte) error {
	mark, seg := "}}", segment{kind: 'v', line: l.line(open)}
	if kind == '%' {
		mark, seg.kind = "%}", 'b'
	}
	var brackets []byte
	for {
		if len(brackets) == 0 {
			if sign, size, ok := l.closing(mark, kind == '%'); ok {
				l.pos += size
				l.out = append(l.out, seg)
				l.stripRight(sign, kind == '%')
				return nil
			}
		}
		if l.pos >= len(l.src) {
			return l.errorf(open, "a tag without an end")
		}
		t, err := l.token()
		if err != nil {
			return err
		}
		if t.kind == 0 {
			continue
		}
		if t.kind == 'o' {
			switch c := t.text[0]; c {
			case '(', '[', '{':
				brackets = append(brackets, c+1+c>>6) // ) follows (, ] and } are two behind [ and {
			case ')', ']', '}':
				if len(brackets) == 0 || brackets[len(brackets)-1] != c {
					return l.errorf(l.pos-1, "unexpected %q", c)
				}
				brackets = brackets[:len(brackets)-1]
			}
		}
		if seg.tokens = append(seg.tokens, t); len(seg.tokens) > maxTokens {
			return l.errorf(open, "a tag of more than %d words", maxTokens)
		}
	}
}

// maxTokens bounds the words of one tag, and so the depth of what is made of it.
const maxTokens = 4096

// token reads one word; white space is the zero token.
func (l *lexer) token() (token, error) {
	rest := l.src[l.pos:]
	r, size := utf8.DecodeRuneInString(rest)
	switch {
	case isSpace(r):
		l.pos += size
		return token{}, nil
	case r == '\'' || r == '"':
		return l.text(rest)
	case '0' <= r && r <= '9':
		return l.number(rest)
	case r == '_' || unicode.IsLetter(r):
		n := 0
		for n < len(rest) && (rest[n] == '_' || isAlnum(rest[n])) {
			n++
		}
		if n == 0 {
			return token{}, l.errorf(l.pos, "a name outside ASCII is not supported")
		}
		l.pos += n
		return token{'n', rest[:n]}, nil
	}
	for _, op := range []string{"//", "**", "==", "!=", ">=", "<="} {
		if strings.HasPrefix(rest, op) {
			l.pos += 2
			return token{'o', op}, nil
		}
	}
	if strings.ContainsRune("+-/*%~[](){}><=.:|,;", r) {
		l.pos++
		return token{'o', rest[:1]}, nil
	}
	return token{}, l.errorf(l.pos, "unexpected %q", r)
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// number reads an integer or a float, with Python's underscores.
func (l *lexer) number(rest string) (token, error) {
	n, kind := 0, byte('i')
	digits := func() {
		for n < len(rest) && ('0' <= rest[n] && rest[n] <= '9' || rest[n] == '_') {
			n++
		}
	}
	digits()
	if n+1 < len(rest) && rest[n] == '.' && '0' <= rest[n+1] && rest[n+1] <= '9' && (l.pos == 0 || l.src[l.pos-1] != '.') {
		kind = 'f'
		n++
		digits()
	}
	if n+1 < len(rest) && rest[n]|0x20 == 'e' && strings.ContainsRune("+-0123456789", rune(rest[n+1])) {
		kind = 'f'
		n += 2
		digits()
	}
	text := strings.ReplaceAll(rest[:n], "_", "")
	if n < len(rest) && (isAlnum(rest[n]) || rest[n] == '_') {
		return token{}, l.errorf(l.pos, "number %.12q is not supported", rest)
	}
	var err error
	if kind == 'i' {
		_, err = strconv.ParseInt(text, 10, 64)
	} else {
		_, err = strconv.ParseFloat(text, 64)
	}
	if err != nil || kind == 'i' && len(text) > 1 && text[0] == '0' && strings.Trim(text, "0") != "" {
		return token{}, l.errorf(l.pos, "number %q is not supported", text)
	}
	l.pos += n
	return token{kind, text}, nil
}

// text reads a string with Python's escapes.
func (l *lexer) text(rest string) (token, error) {
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == rest[0]:
			l.pos += i + 1
			return token{'s', b.String()}, nil
		case c != '\\':
			b.WriteByte(c)
		default:
			n, err := unescape(&b, rest[i+1:])
			if err != nil {
				return token{}, l.errorf(l.pos+i, "%v", err)
			}
			i += n
		}
	}
	return token{}, l.errorf(l.pos, "a string without an end")
}

// unescape writes what a backslash and the start of s stand for, and returns how much of s it took.
func unescape(b *strings.Builder, s string) (int, error) {
	if s == "" {
		return 0, fmt.Errorf("a string without an end")
	}
	if i := strings.IndexByte(`\'"abfnrtv`, s[0]); i >= 0 {
		b.WriteByte("\\'\"\a\b\f\n\r\t\v"[i])
		return 1, nil
	}
	digits, base := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]], 16
	start := 1
	switch {
	case s[0] == '\n': // a line that goes on
		return 1, nil
	case '0' <= s[0] && s[0] <= '7':
		start, base, digits = 0, 8, 1
		for digits < 3 && digits < len(s) && '0' <= s[digits] && s[digits] <= '7' {
			digits++
		}
	case digits == 0 && s[0] != 'N':
		b.WriteByte('\\')
		return 0, nil // the character itself is written next
	}
	if digits == 0 || len(s) < start+digits {
		return 0, fmt.Errorf("escape \\%.8s is not supported", s)
	}
	r, err := strconv.ParseUint(s[start:start+digits], base, 32)
	if err != nil || r > unicode.MaxRune || 0xD800 <= r && r <= 0xDFFF {
		return 0, fmt.Errorf("escape \\%.8s is not supported", s)
	}
	b.WriteRune(rune(r))
	return start + digits, nil
}

// isSpace is Python's str.isspace of one character.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || 0x1C <= r && r <= 0x1F
}
