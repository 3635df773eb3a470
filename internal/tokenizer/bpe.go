package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"unicode/utf8"
)

// bpe is the model of a tokenizer.json: a vocabulary and an ordered list of merges.
type bpe struct {
	ids    map[string]int32
	texts  []string // by id
	known  []bool   // by id: an id may be missing
	merges mergeTable

	unk          string // "" = none
	unkID        int32  // -1 = not in the vocabulary
	fuseUnk      bool
	byteFallback bool
	ignoreMerges bool
	prefix       string // continuing_subword_prefix
	suffix       string // end_of_word_suffix

	fallback [256]int32 // id of "<0xHH>", -1 = none
	chars    runeTable  // id of each character
	joints   *joints    // nil = words are not cut
}

// index fills the tables that are derived from ids.
func (m *bpe) index() {
	find := func(s string) int32 {
		if id, ok := m.ids[s]; ok {
			return id
		}
		return -1
	}
	m.unkID = find(m.unk)
	for b := range 256 {
		m.fallback[b] = find(fmt.Sprintf("<0x%02X>", b))
	}
	for id, text := range m.texts {
		if r, n := utf8.DecodeRuneInString(text); n > 0 && n == len(text) && m.known[id] {
			m.chars.set(r, int32(id))
		}
	}
}

// symbols writes the characters of a word as ids; raw words are bytes, each standing for its byte-level character.
//
// The order of unknown tokens and fallback bytes is that of Hugging Face: an unknown token that is pending when fallback bytes come is written after them.
func (m *bpe) symbols(dst []int32, word string, raw bool) ([]int32, error) {
	pending := false
	for i := 0; i < len(word); {
		_, size, id := m.char(word, i, raw)
		if m.prefix != "" || m.suffix != "" {
			id = m.lookup(word, i, i+size)
		}
		char := word[i : i+size]
		i += size
		if id >= 0 {
			if pending {
				dst, pending = append(dst, m.unkID), false
			}
			dst = append(dst, id)
			continue
		}
		if bytes, ok := m.fallbackBytes(dst, char, i == len(char), i == len(word)); ok {
			dst = bytes
			continue
		}
		if m.unk == "" {
			continue
		}
		if m.unkID < 0 {
			return nil, fmt.Errorf("tokenizer.json: the unknown token %q is not in the vocabulary, and %q needs it", m.unk, char)
		}
		if pending && !m.fuseUnk {
			dst = append(dst, m.unkID)
		}
		pending = true
	}
	if pending {
		dst = append(dst, m.unkID)
	}
	return dst, nil
}

// char returns the character at i, its size in the word and its id, -1 if it has none.
func (m *bpe) char(word string, i int, raw bool) (r rune, size int, id int32) {
	if r, size = byteToRune[word[i]], 1; !raw {
		r, size = utf8.DecodeRuneInString(word[i:])
	}
	return r, size, m.chars.get(r)
}

// lookup finds the character word[i:j], decorated with the prefix and suffix where they belong.
func (m *bpe) lookup(word string, i, j int) int32 {
	s := word[i:j]
	if i > 0 {
		s = m.prefix + s
	}
	if j == len(word) {
		s += m.suffix
	}
	if id, ok := m.ids[s]; ok {
		return id
	}
	return -1
}

// fallbackBytes writes a character as its bytes, when all of them are in the vocabulary.
func (m *bpe) fallbackBytes(dst []int32, char string, first, last bool) ([]int32, bool) {
	if !m.byteFallback {
		return dst, false
	}
	if !first {
		char = m.prefix + char
	}
	if last {
		char += m.suffix
	}
	n := len(dst)
	for i := range len(char) {
		id := m.fallback[char[i]]
		if id < 0 {
			return dst[:n], false
		}
		dst = append(dst, id)
	}
	return dst, true
}

// longWord is the number of symbols from which a heap is faster than looking at every pair (measured; both give the same).
const longWord = 48

// merge replaces pairs in the order of their ranks, leftmost first, until none is left. It works in place and returns the shorter slice.
func (m *bpe) merge(s []int32, w *workspace) []int32 {
	if len(s) < 2 {
		return s
	}
	if len(s) < longWord {
		return m.mergeShort(s, w)
	}
	return m.mergeLong(s, w)
}

// mergeShort keeps the rank of every pair beside it and looks for the best one each time.
func (m *bpe) mergeShort(s []int32, w *workspace) []int32 {
	ranks := w.ranks[:0]
	for i := range len(s) - 1 {
		ranks = append(ranks, m.merges.rank(s[i], s[i+1]))
	}
	w.ranks = ranks
	for {
		best, at := noMerge, 0
		for i, r := range ranks {
			if r < best {
				best, at = r, i
			}
		}
		if best == noMerge {
			return s
		}
		// Equal ranks cannot belong to different pairs, so the first of the smallest is the leftmost of the best rank.
		s[at] = m.merges.made[best]
		s = append(s[:at+1], s[at+2:]...)
		ranks = append(ranks[:at], ranks[at+1:]...)
		if at > 0 {
			ranks[at-1] = m.merges.rank(s[at-1], s[at])
		}
		if at < len(ranks) {
			ranks[at] = m.merges.rank(s[at], s[at+1])
		}
	}
}

// mergeLong keeps the pairs in a heap by rank and position, and the symbols in a linked list: n log n for a word of any length.
func (m *bpe) mergeLong(s []int32, w *workspace) []int32 {
	next, prev := resize(w.next, len(s)), resize(w.prev, len(s))
	w.next, w.prev = next, prev
	h := heap(w.heap[:0])
	for i := range s {
		next[i], prev[i] = int32(i+1), int32(i-1)
		if i+1 < len(s) {
			if r := m.merges.rank(s[i], s[i+1]); r != noMerge {
				h = append(h, newCandidate(r, int32(i)))
			}
		}
	}
	next[len(s)-1] = -1
	h.build()
	push := func(left, right int32) {
		if left < 0 || right < 0 {
			return
		}
		if r := m.merges.rank(s[left], s[right]); r != noMerge {
			h.push(newCandidate(r, left))
		}
	}
	for len(h) > 0 {
		best, left := h.pop().parts()
		if s[left] < 0 || next[left] < 0 {
			continue
		}
		right := next[left]
		if m.merges.rank(s[left], s[right]) != best { // an entry that a nearer merge has overtaken
			continue
		}
		s[left], s[right] = m.merges.made[best], -1
		next[left] = next[right]
		if n := next[right]; n >= 0 {
			prev[n] = left
		}
		push(prev[left], left)
		push(left, next[left])
	}
	w.heap = h
	out := s[:0]
	for i := int32(0); i >= 0; i = next[i] {
		out = append(out, s[i])
	}
	return out
}

func resize(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// mergeTable knows the rank of the merge of two ids, and what it makes. It is looked up at random, and what that costs is memory that is not in the processor's cache; so
// a slot is one number, left | right | rank, and open addressing finds it.
type mergeTable struct {
	slots    []uint64
	shift    uint
	idBits   uint
	rankBits uint
	seed     uint64  // random, so that no file can be made whose pairs all collide
	made     []int32 // by rank
}

const (
	noMerge  = ^uint32(0)
	freeSlot = ^uint64(0) // no rank has all its bits set
)

// newMergeTable makes room for n merges of ids below limit.
func newMergeTable(n, limit int) (mergeTable, error) {
	var h maphash.Hash
	size := bits.Len(uint(n) + uint(n)/2 + 8)
	t := mergeTable{slots: make([]uint64, 1<<size), shift: uint(64 - size), idBits: uint(bits.Len(uint(limit))), seed: h.Sum64() | 1, made: make([]int32, n)}
	t.rankBits = min(64-2*t.idBits, 31)
	if n >= 1<<t.rankBits {
		return t, fmt.Errorf("tokenizer.json: %d merges of %d tokens are too many", n, limit)
	}
	for i := range t.slots {
		t.slots[i] = freeSlot
	}
	return t, nil
}

// find returns the slot of a pair, or the free one where it would be.
func (t *mergeTable) find(left, right int32) (key uint64, slot *uint64) {
	key = uint64(left)<<t.idBits | uint64(right)
	x := (key ^ t.seed) * 0x9E3779B97F4A7C15
	x ^= x >> 32
	for i := (x * t.seed) >> t.shift; ; i++ {
		slot = &t.slots[i&uint64(len(t.slots)-1)]
		if *slot>>t.rankBits == key || *slot == freeSlot {
			return key, slot
		}
	}
}

// set keeps the last merge given for two ids, as Hugging Face does.
func (t *mergeTable) set(left, right int32, rank int, made int32) {
	key, slot := t.find(left, right)
	*slot = key<<t.rankBits | uint64(rank)
	t.made[rank] = made
}

// rank returns noMerge where two ids do not merge.
func (t *mergeTable) rank(left, right int32) uint32 {
	if _, slot := t.find(left, right); *slot != freeSlot {
		return uint32(*slot & (1<<t.rankBits - 1))
	}
	return noMerge
}

// candidate is a pair that could be merged: its rank in the upper half, its position in the lower, so that the smallest is the next.
type candidate uint64

func newCandidate(rank uint32, pos int32) candidate { return candidate(rank)<<32 | candidate(pos) }
func (c candidate) parts() (rank uint32, pos int32) { return uint32(c >> 32), int32(c & 0xFFFFFFFF) }

// heap is a binary heap, smallest candidate first.
type heap []candidate

func (h heap) build() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *heap) push(c candidate) {
	*h = append(*h, c)
	s := *h
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if s[up] <= c {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = c
}

func (h *heap) pop() candidate {
	s := *h
	top := s[0]
	n := len(s) - 1
	s[0] = s[n]
	*h = s[:n]
	if n > 1 {
		s[:n].down(0)
	}
	return top
}

func (h heap) down(i int) {
	c := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if c <= h[child] {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = c
}
