package tokenizer

import (
	"math/bits"
	"unicode/utf8"
)

// joints says where a word may be cut: between two characters that no merge ever brings together, what is on one side cannot change what becomes of the other.
//
// It has one bit for each hash of two characters. Pairs that share a bit only leave a word longer than it could be.
type joints struct {
	set   []uint64
	shift uint
}

// newJoints makes room by the number of merges. Real files have 15 to 30 of them for each two characters that they bring together, so 2 to 6 % of the bits are set.
func newJoints(merges int) joints {
	size := max(6, bits.Len(uint(merges)))
	return joints{set: make([]uint64, 1<<(size-6)), shift: uint(64 - size)}
}

func (j *joints) bit(left, right rune) uint64 {
	return (uint64(left)<<32 | uint64(right)) * 0x9E3779B97F4A7C15 >> j.shift
}

// add says that a merge brings two tokens together.
func (j *joints) add(left, right string) {
	a, _ := utf8.DecodeLastRuneInString(left)
	b, _ := utf8.DecodeRuneInString(right)
	bit := j.bit(a, b)
	j.set[bit/64] |= 1 << (bit % 64)
}

// has reports that a merge could bring two characters together.
func (j *joints) has(left, right rune) bool {
	bit := j.bit(left, right)
	return j.set[bit/64]&(1<<(bit%64)) != 0
}

// runeTable maps characters to ids.
type runeTable struct {
	pages [(utf8.MaxRune + 1) >> 8]*[256]int32
}

func (t *runeTable) set(r rune, id int32) {
	p := &t.pages[r>>8]
	if *p == nil {
		*p = new([256]int32)
		for i := range *p {
			(*p)[i] = -1
		}
	}
	(*p)[r&255] = id
}

// get returns the id of a character, -1 if it has none.
func (t *runeTable) get(r rune) int32 {
	if p := t.pages[r>>8]; p != nil {
		return p[r&255]
	}
	return -1
}
