package tokenizer

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// compile makes a searcher of a pattern that no scanner is written for. It takes the part of Oniguruma's language that Go's regexp, which never backtracks,
// can match alike: literals, groups, alternatives, classes, and the quantifiers ? * + {n,m}. Everything else is an error.
func compile(pattern string) (func(s string, from int) (start, end int), error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("it has more than %d bytes", maxPattern)
	}
	translated, err := translate(pattern)
	if err != nil {
		return nil, err
	}
	if len(translated) > maxTranslated {
		return nil, fmt.Errorf("it names too many properties of characters")
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return nil, err
	}
	if re.MatchString("") {
		return nil, fmt.Errorf("it matches empty text")
	}
	return func(s string, from int) (int, int) {
		// A match may look at what stands before it only through $ and \z, so the text may be cut at from.
		at := re.FindStringIndex(s[from:])
		if at == nil || at[0] == at[1] {
			return -1, -1
		}
		return from + at[0], from + at[1]
	}, nil
}

// Limits of a pattern: real ones have a few hundred bytes, and a property such as \p{L} becomes ten thousand.
const (
	maxPattern    = 4 << 10
	maxTranslated = 256 << 10
)

// onigSpace is \s of Oniguruma as the inside of a class.
const onigSpace = `\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}`

// translate writes a pattern of Oniguruma's Ruby syntax in Go's.
func translate(p string) (string, error) {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\':
			n, err := translateEscape(&b, p[i+1:], inClass)
			if err != nil {
				return "", err
			}
			i += n
		case inClass && (c == '[' || c == '&' && strings.HasPrefix(p[i:], "&&")):
			return "", fmt.Errorf("a class inside a class")
		case inClass && c == ']':
			inClass = false
			b.WriteByte(c)
		case inClass:
			b.WriteByte(c)
		case c == '[':
			inClass = true
			b.WriteByte(c)
			if strings.HasPrefix(p[i+1:], "^") {
				b.WriteByte('^')
				i++
			}
			if strings.HasPrefix(p[i+1:], "]") {
				return "", fmt.Errorf("an empty class")
			}
		case c == '(':
			if strings.HasPrefix(p[i:], "(?") && !strings.HasPrefix(p[i:], "(?:") {
				return "", fmt.Errorf("group %.4q", p[i:])
			}
			b.WriteByte(c)
		case c == '$':
			b.WriteString(`(?m:$)`)
		case c == '^':
			return "", fmt.Errorf("^")
		case c == '?' || c == '*' || c == '+' || c == '}':
			if i+1 < len(p) && (p[i+1] == '+' || p[i+1] == '?' && c == '}') {
				return "", fmt.Errorf("quantifier %q", p[i:i+2])
			}
			b.WriteByte(c)
		case c == '{':
			end := strings.IndexByte(p[i:], '}')
			if end < 0 || strings.Trim(p[i+1:i+end], "0123456789,") != "" || p[i+1] == ',' {
				return "", fmt.Errorf("quantifier %.6q", p[i:])
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	if inClass {
		return "", fmt.Errorf("a class without an end")
	}
	return b.String(), nil
}

// translateEscape writes what follows a backslash and returns its length.
func translateEscape(b *strings.Builder, p string, inClass bool) (int, error) {
	if p == "" {
		return 0, fmt.Errorf(`\ at the end`)
	}
	switch c := p[0]; {
	case c == 's' && inClass:
		b.WriteString(onigSpace)
	case c == 's':
		b.WriteString("[" + onigSpace + "]")
	case c == 'S' && !inClass:
		b.WriteString("[^" + onigSpace + "]")
	case c == 'r' || c == 'n' || c == 't':
		b.WriteString(`\` + p[:1])
	case c == 'p' || c == 'P':
		return translateProperty(b, p, inClass)
	case c < 0x80 && !unicode.IsLetter(rune(c)) && !unicode.IsDigit(rune(c)):
		b.WriteString(regexp.QuoteMeta(p[:1]))
	default:
		return 0, fmt.Errorf(`\%c`, c)
	}
	return 1, nil
}

// translateProperty writes \p{X} as the ranges of the same table that the scanners use.
func translateProperty(b *strings.Builder, p string, inClass bool) (int, error) {
	end := strings.IndexByte(p, '}')
	if end < 0 || !strings.HasPrefix(p[1:], "{") {
		return 0, fmt.Errorf(`\%c without {…}`, p[0])
	}
	in, ok := propertyClasses()[p[2:end]]
	if !ok || p[0] == 'P' && inClass {
		return 0, fmt.Errorf(`\%s`, p[:end+1])
	}
	if !inClass {
		b.WriteByte('[')
		if p[0] == 'P' {
			b.WriteByte('^')
		}
	}
	eachRun(classRuns, func(start, end int, value byte) bool {
		if in(class(value)) {
			fmt.Fprintf(b, `\x{%X}-\x{%X}`, start, end-1)
		}
		return true
	})
	if !inClass {
		b.WriteByte(']')
	}
	return end + 1, nil
}

// propertyClasses are the properties of characters that patterns may name.
func propertyClasses() map[string]func(class) bool {
	return map[string]func(class) bool{
		"L":  class.letter,
		"N":  class.number,
		"Lu": func(c class) bool { return c == classUpper },
		"Ll": func(c class) bool { return c == classLower },
		"Lt": func(c class) bool { return c == classTitle },
		"Lm": func(c class) bool { return c == classModifier },
		"Lo": func(c class) bool { return c == classLetterOther },
		"M":  func(c class) bool { return c == classMark },
		"P":  func(c class) bool { return c == classPunct },
		"S":  func(c class) bool { return c == classSymbol },
	}
}
