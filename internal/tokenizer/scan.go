package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// A scanner returns the end of the word of s that begins at i. It covers the text: there is nothing between two words.
type scanner func(t *[classPage]class, s string, i int) int

// The patterns below end alike: \s+(?!\S)|\s+ takes a run of white space but leaves its last character to a word that follows.
const spaceTail = `\s+(?!\S)|\s+`

// gpt2Pattern is the pattern inside the ByteLevel pre-tokenizer (openai/gpt-2 src/encoder.py).
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|` + spaceTail

// scannerOf finds the scanner written for a pattern of a Split pre-tokenizer. Patterns that differ only in how the English contractions are spelled, in
// possessive quantifiers where nothing could be given back, or in [\r\n] against [\r\n]+ behind the greedy \s*, match the same text.
func scannerOf(pattern string) (scanner, bool) {
	if pattern == gpt2Pattern {
		return scanGPT2, true
	}
	const short = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	const upper, lower = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
	pattern = strings.NewReplacer(`'(?i:[sdmt]|ll|ve|re)`, short, `?+\p{L}`, `?\p{L}`, `]++[\r\n`, `]+[\r\n`, `\s*[\r\n]|`, `\s*[\r\n]+|`).Replace(pattern)
	for digits, number := range map[int]string{1: `\p{N}`, 2: `\p{N}{1,2}`, 3: `\p{N}{1,3}`} {
		tail := `\s*[\r\n]+|` + spaceTail
		if pattern == short+`|[^\r\n\p{L}\p{N}]?\p{L}+|`+number+`| ?[^\s\p{L}\p{N}]+[\r\n]*|`+tail {
			return scanGPT4(digits), true
		}
		for _, end := range []string{"", short + "?"} {
			words := `[^\r\n\p{L}\p{N}]?` + upper + `*` + lower + `+` + end + `|[^\r\n\p{L}\p{N}]?` + upper + `+` + lower + `*` + end
			if pattern == words+`|`+number+`| ?[^\s\p{L}\p{N}]+[\r\n/]*|`+tail {
				return scanCased(digits, end != ""), true
			}
		}
	}
	return nil, false
}

// scanGPT2 matches gpt2Pattern.
func scanGPT2(t *[classPage]class, s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:]); n > 0 {
			return i + 1 + n
		}
	}
	c, n := classOf(t, s, i)
	j := i
	if s[i] == ' ' && i+1 < len(s) {
		if next, size := classOf(t, s, i+1); next != classSpace {
			c, n, j = next, size, i+1
		}
	}
	j += n
	switch {
	case c.letter():
		return run(t, s, j, letterSet)
	case c.number():
		return run(t, s, j, 1<<classNumber)
	case c.space():
		return spaces(t, s, j, n)
	}
	return run(t, s, j, restSet)
}

// contraction returns the length of s, t, re, ve, m, ll or d at the start of s, 0 if there is none.
func contraction(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v':
		if len(s) > 1 && s[1] == 'e' {
			return 2
		}
	case 'l':
		if len(s) > 1 && s[1] == 'l' {
			return 2
		}
	}
	return 0
}

// contractionFold is contraction without regard to case. Oniguruma folds U+017F, the long s, with s.
func contractionFold(s string) int {
	if strings.HasPrefix(s, "ſ") {
		return len("ſ")
	}
	low := [2]byte{}
	for k := 0; k < len(s) && k < 2; k++ {
		if low[k] = s[k]; 'A' <= low[k] && low[k] <= 'Z' {
			low[k] += 'a' - 'A'
		}
	}
	return contraction(string(low[:min(len(s), 2)]))
}

// scanGPT4 matches the pattern that cl100k, Llama 3 and Qwen share; they differ in how many digits make a word.
func scanGPT4(digits int) scanner {
	return func(t *[classPage]class, s string, i int) int {
		if s[i] == '\'' {
			if n := contractionFold(s[i+1:]); n > 0 {
				return i + 1 + n
			}
		}
		c, n := classOf(t, s, i)
		j := i + n
		switch {
		case c.letter():
			return run(t, s, j, letterSet)
		case c.number():
			return numbers(t, s, j, digits-1)
		}
		if j < len(s) && s[i] != '\r' && s[i] != '\n' {
			next, size := classOf(t, s, j)
			if next.letter() {
				return run(t, s, j+size, letterSet)
			}
			if s[i] == ' ' && next.rest() {
				c, j = next, j+size
			}
		}
		if c.rest() {
			return newlines(s, run(t, s, j, restSet))
		}
		return spacesByLine(t, s, i, n)
	}
}

// scanCased matches the pattern of o200k (GPT-4o, Llama 4) and, with digits 1 and no contractions, Tekken (Mistral): a word ends where capitals begin again.
func scanCased(digits int, contractions bool) scanner {
	return func(t *[classPage]class, s string, i int) int {
		c, n := classOf(t, s, i)
		if c.number() {
			return numbers(t, s, i+n, digits-1)
		}
		prefix := !c.letter() && s[i] != '\r' && s[i] != '\n'
		for _, word := range [2]func(*[classPage]class, string, int) int{lowerWord, upperWord} {
			end := -1
			if prefix {
				end = word(t, s, i+n)
			}
			if end < 0 {
				end = word(t, s, i)
			}
			if end < 0 {
				continue
			}
			if contractions && end < len(s) && s[end] == '\'' {
				if k := contractionFold(s[end+1:]); k > 0 {
					end += 1 + k
				}
			}
			return end
		}
		j := i
		if s[i] == ' ' && i+1 < len(s) {
			if next, _ := classOf(t, s, i+1); next.rest() {
				c, j = next, i+1
			}
		}
		if c.rest() {
			j = run(t, s, j, restSet)
			for j < len(s) && (s[j] == '\r' || s[j] == '\n' || s[j] == '/') {
				j++
			}
			return j
		}
		return spacesByLine(t, s, i, n)
	}
}

// upperEnd returns the end of the run of Lu, Lt, Lm, Lo and M at i, and the end of the last character in it that is not a capital, -1 if there is none.
func upperEnd(t *[classPage]class, s string, i int) (end, shared int) {
	shared = -1
	for i < len(s) {
		c, n := classOf(t, s, i)
		if c == classLower || !c.letter() && c != classMark {
			break
		}
		if i += n; c != classUpper && c != classTitle {
			shared = i
		}
	}
	return i, shared
}

// lowerWord matches [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ and returns its end, -1 if it does not match. The first part takes all it can and
// gives back what the second needs.
func lowerWord(t *[classPage]class, s string, i int) int {
	i, shared := upperEnd(t, s, i)
	end := run(t, s, i, lowerSet)
	if end == i {
		return shared
	}
	return end
}

// upperWord matches [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]* where lowerWord does not.
func upperWord(t *[classPage]class, s string, i int) int {
	if end, _ := upperEnd(t, s, i); end > i {
		return end
	}
	return -1
}

// run returns the end of the run of characters of a set that begins at i.
func run(t *[classPage]class, s string, i int, set classSet) int {
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			if !t[c].in(set) {
				break
			}
			i++
			continue
		}
		c, n := classOf(t, s, i)
		if !c.in(set) {
			break
		}
		i += n
	}
	return i
}

func numbers(t *[classPage]class, s string, i, most int) int {
	for ; i < len(s) && most > 0; most-- {
		c, n := classOf(t, s, i)
		if !c.number() {
			break
		}
		i += n
	}
	return i
}

func newlines(s string, i int) int {
	for i < len(s) && (s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// spaces ends a run of white space whose first character, n bytes, ends at i: \s+(?!\S)|\s+.
func spaces(t *[classPage]class, s string, i, n int) int {
	first := i
	last := n // the size of the last character of the run
	for i < len(s) {
		c, size := classOf(t, s, i)
		if !c.space() {
			if i > first {
				i -= last
			}
			break
		}
		i, last = i+size, size
	}
	return i
}

// spacesByLine ends a run of white space at i whose first character has n bytes: \s*[\r\n]+|\s+(?!\S)|\s+.
func spacesByLine(t *[classPage]class, s string, i, n int) int {
	lineEnd := 0
	j := i
	for j < len(s) {
		c, size := classOf(t, s, j)
		if !c.space() {
			break
		}
		j += size
		if b := s[j-1]; b == '\r' || b == '\n' {
			lineEnd = j
		}
	}
	if lineEnd > 0 {
		return lineEnd
	}
	return spaces(t, s, i+n, n)
}
