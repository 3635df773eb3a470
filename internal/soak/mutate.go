package main

import (
	"bytes"
	"math/rand/v2"
	"strings"
)

// mutator makes new inputs of old ones. It knows what texts are made of, numbers, strings, brackets, words and lines, because an input that is no JSON at all says little about what stands behind the
// parser of JSON.
type mutator struct {
	rng   *rand.Rand
	seeds [][]byte
	words []string
	buf   []byte
}

// numbers that parsers have stumbled over.
var numbers = strings.Fields("0 -0 1 -1 2 3 7 8 64 127 128 255 256 65535 65536 2147483647 2147483648 4294967295 4294967296 9007199254740991 9007199254740993 9223372036854775807 9223372036854775808 " +
	"18446744073709551615 18446744073709551616 -9223372036854775808 1e308 1e309 -1e309 1e-400 0.1 1.5 NaN Infinity -Infinity 00 0x10 1_000 100000000000000000000000000000000000000000")

// pieces that mean something in one of the formats.
var pieces = []string{"null", "true", "false", "[]", "{}", "\"\"", "[[[[[[[[", "]]]]]]]]", "{\"a\":{\"a\":{\"a\":", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\xff\xfe", "\x00", "\xef\xbb\xbf", "../", "..\\", "C:\\", "/etc/passwd",
	"CON", "NUL.txt", "a/./b", "é", "e\u0301", "\u202e", "😀", "\r\n", "\n\n", "\t", " ", "&a [*a, *a]", "<<: *a", "!!binary", "--- \n", "? ", "- ", ": ", "#", "{{", "}}", "{%", "%}", "{% for i in range(10**9) %}", "|tojson", "**", "__class__",
	"%n", "${HOME}", "hf:", "path:", "@main", "sha256:", "bytes 0-1/2", "<http://127.0.0.1/>; rel=\"next\"", ",", ";", "=", "\\", "'", "\""}

func newMutator(rng *rand.Rand, seeds [][]byte) *mutator {
	m := &mutator{rng: rng, seeds: seeds}
	seen := map[string]bool{}
	for _, s := range seeds { // what stands in one seed may stand anywhere in another
		for _, w := range strings.FieldsFunc(string(s), func(r rune) bool { return strings.ContainsRune(" \n\t\"{}[],:", r) }) {
			if len(w) < 40 && !seen[w] && len(m.words) < 5000 {
				seen[w] = true
				m.words = append(m.words, w)
			}
		}
	}
	return m
}

// next is an input; it is overwritten by the one after.
func (m *mutator) next() []byte {
	m.buf = append(m.buf[:0], m.seeds[m.rng.IntN(len(m.seeds))]...)
	for range 1 + m.rng.IntN(4) {
		m.change()
	}
	if len(m.buf) > 1<<20 {
		m.buf = m.buf[:1<<20]
	}
	return m.buf
}

// change does one thing.
func (m *mutator) change() {
	if len(m.buf) == 0 {
		m.buf = append(m.buf, pieces[m.rng.IntN(len(pieces))]...)
		return
	}
	at := m.rng.IntN(len(m.buf))
	switch m.rng.IntN(12) {
	case 0:
		m.buf[at] ^= 1 << m.rng.IntN(8)
	case 1:
		m.buf[at] = byte(m.rng.IntN(256))
	case 2:
		m.replace(at, at, pieces[m.rng.IntN(len(pieces))])
	case 3:
		if len(m.words) > 0 {
			from, to := m.token(at)
			m.replace(from, to, m.words[m.rng.IntN(len(m.words))])
		}
	case 4, 5:
		if from, to, ok := m.number(at); ok {
			m.replace(from, to, numbers[m.rng.IntN(len(numbers))])
		} else {
			from, to := m.token(at)
			m.replace(from, to, numbers[m.rng.IntN(len(numbers))])
		}
	case 6:
		from, to := m.token(at)
		m.replace(from, to, pieces[m.rng.IntN(len(pieces))])
	case 7:
		m.replace(at, min(len(m.buf), at+1+m.rng.IntN(64)), "")
	case 8: // something twice, perhaps elsewhere
		end := min(len(m.buf), at+1+m.rng.IntN(128))
		to := m.rng.IntN(len(m.buf))
		m.replace(to, to, string(m.buf[at:end]))
	case 9: // a line twice or not at all
		from, to := m.line(at)
		if line := string(m.buf[from:to]); m.rng.IntN(2) == 0 {
			m.replace(from, from, line)
		} else {
			m.replace(from, to, "")
		}
	case 10: // the end of another seed
		other := m.seeds[m.rng.IntN(len(m.seeds))]
		if len(other) > 0 {
			m.buf = append(m.buf[:at], other[m.rng.IntN(len(other)):]...)
		}
	case 11:
		if m.rng.IntN(8) == 0 { // deep
			m.replace(at, at, strings.Repeat([]string{"[", "{\"a\":", "(", "- ", "{% if 1 %}"}[m.rng.IntN(5)], 1+m.rng.IntN(2000)))
		} else {
			m.buf = m.buf[:at]
		}
	}
}

func (m *mutator) replace(from, to int, with string) {
	rest := len(m.buf) - to
	need := from + len(with) + rest
	if need > cap(m.buf) {
		grown := make([]byte, need, 2*need)
		copy(grown, m.buf[:from])
		copy(grown[from+len(with):], m.buf[to:])
		copy(grown[from:], with)
		m.buf = grown
		return
	}
	m.buf = m.buf[:max(need, len(m.buf))]
	copy(m.buf[from+len(with):need], m.buf[to:to+rest])
	copy(m.buf[from:], with)
	m.buf = m.buf[:need]
}

// token is what stands at a place: a word, or a string's content.
func (m *mutator) token(at int) (from, to int) {
	const ends = " \n\t\"'{}[](),:;=|"
	for from = at; from > 0 && strings.IndexByte(ends, m.buf[from-1]) < 0; {
		from--
	}
	for to = at; to < len(m.buf) && strings.IndexByte(ends, m.buf[to]) < 0; {
		to++
	}
	if from == to {
		to = min(len(m.buf), to+1)
	}
	return from, to
}

// number finds the next number behind a place.
func (m *mutator) number(at int) (from, to int, ok bool) {
	i := bytes.IndexAny(m.buf[at:min(len(m.buf), at+200)], "0123456789")
	if i < 0 {
		return 0, 0, false
	}
	from = at + i
	for to = from; to < len(m.buf) && strings.IndexByte("0123456789.eE+-", m.buf[to]) >= 0; {
		to++
	}
	return from, to, true
}

func (m *mutator) line(at int) (from, to int) {
	from = bytes.LastIndexByte(m.buf[:at], '\n') + 1
	to = bytes.IndexByte(m.buf[at:], '\n')
	if to < 0 {
		return from, len(m.buf)
	}
	return from, at + to + 1
}
