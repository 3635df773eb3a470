package tokenizer

import (
	"encoding/binary"
	"sync"
	"unicode/utf8"
)

// A class is what the split patterns ask about a character.
type class uint8

const (
	other class = iota // control, format, private and unassigned characters
	classUpper
	classLower
	classTitle
	classModifier
	classLetterOther
	classMark
	classNumber
	classPunct
	classSymbol
	classNumeric // a number for Digits (Unicode 17), not for \p{N} (Unicode 16)
	classSpace
)

func (c class) letter() bool { return c.in(letterSet) }
func (c class) number() bool { return c == classNumber }
func (c class) space() bool  { return c == classSpace }
func (c class) rest() bool   { return c.in(restSet) }

// A classSet has one bit for each class.
type classSet uint16

const (
	letterSet  classSet = 1<<classUpper | 1<<classLower | 1<<classTitle | 1<<classModifier | 1<<classLetterOther
	lowerSet   classSet = 1<<classLower | 1<<classModifier | 1<<classLetterOther | 1<<classMark
	numericSet classSet = 1<<classNumber | 1<<classNumeric
	restSet             = ^(letterSet | 1<<classNumber | 1<<classSpace) // [^\s\p{L}\p{N}]
)

func (c class) in(s classSet) bool { return s>>(c&15)&1 != 0 }

// classPage is the size of the table: above it only ideographs end and variation selectors, tags and private characters stand.
const classPage = 0x34000

// classTable decodes classRuns; characters from classPage on are looked up in highClasses.
var classTable = sync.OnceValue(func() *[classPage]class {
	var t [classPage]class
	eachRun(classRuns, func(start, end int, value byte) bool {
		for ; start < min(end, classPage); start++ {
			t[start] = class(value)
		}
		return end < classPage
	})
	for _, c := range []rune{'\t', '\n', '\v', '\f', '\r', ' ', 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000} {
		t[c] = classSpace
	}
	for c := 0x2000; c <= 0x200A; c++ {
		t[c] = classSpace
	}
	return &t
})

// eachRun decodes one of the tables of unicode_table.go until each returns false.
func eachRun(runs string, each func(start, end int, value byte) bool) {
	for at := 0; len(runs) > 0; {
		run, n := binary.Uvarint([]byte(runs[:min(len(runs), binary.MaxVarintLen64)]))
		end := at + int(run>>4)
		if !each(at, end, byte(run&15)) {
			return
		}
		runs, at = runs[n:], end
	}
}

// classOf returns the class of a character and its size in bytes.
func classOf(t *[classPage]class, s string, i int) (class, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return t[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOfRune(t, r), n
}

func classOfRune(t *[classPage]class, r rune) class {
	switch {
	case r < classPage:
		return t[r]
	case 0xE0100 <= r && r <= 0xE01EF: // variation selectors
		return classMark
	}
	return other
}

// isSpace reports white space as Unicode defines it, which is \s in every engine that Hugging Face uses.
func isSpace(r rune) bool { return r < classPage && classTable()[r] == classSpace }

// byteToRune is the alphabet of byte-level BPE: printable bytes stand for themselves, the others for characters from 256 on
// (openai/gpt-2 src/encoder.py, bytes_to_unicode).
var byteToRune = func() (t [256]rune) {
	next := rune(256)
	for b := range t {
		if t[b] = rune(b); b <= ' ' || 0x7F <= b && b <= 0xA0 || b == 0xAD {
			t[b] = next
			next++
		}
	}
	return t
}()

// runeToByte inverts byteToRune.
func runeToByte(r rune) (byte, bool) {
	switch {
	case r > ' ' && r < 0x7F, r > 0xA0 && r < 0x100 && r != 0xAD:
		return byte(r), true
	case r < 256 || r > 323:
		return 0, false
	}
	switch n := byte(r - 256); {
	case n <= ' ':
		return n, true
	case n < 67:
		return n - ' ' - 1 + 0x7F, true
	}
	return 0xAD, true
}
