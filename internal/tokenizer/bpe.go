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

	byteChars [256]int32 // id of the byte-level character of each byte, -1 = none
	fallback  [256]int32 // id of "<0xHH>", -1 = none
	chars     runeTable  // id of each character
	joints    *joints    // nil = words are not cut
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
		m.byteChars[b] = find(string(byteToRune[b]))
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
		size, id := 1, int32(-1)
		switch {
		case raw:
			id = m.byteChars[word[i]]
		case m.prefix == "" && m.suffix == "":
			var r rune
			r, size = utf8.DecodeRuneInString(word[i:])
			id = m.chars.get(r)
		default:
			_, size = utf8.DecodeRuneInString(word[i:])
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

// mergeShort keeps the merge of every pair beside it and looks for the best one each time.
func (m *bpe) mergeShort(s []int32, w *workspace) []int32 {
	pairs := w.pairs[:0]
	for i := range len(s) - 1 {
		pairs = append(pairs, m.merges.get(s[i], s[i+1]))
	}
	w.pairs = pairs
	for {
		best, at := noMerge, 0
		for i, p := range pairs {
			if p < best {
				best, at = p, i
			}
		}
		if best == noMerge {
			return s
		}
		// Equal ranks cannot belong to different pairs, so the first of the smallest is the leftmost of the best rank.
		s[at] = best.id()
		s = append(s[:at+1], s[at+2:]...)
		pairs = append(pairs[:at], pairs[at+1:]...)
		if at > 0 {
			pairs[at-1] = m.merges.get(s[at-1], s[at])
		}
		if at < len(pairs) {
			pairs[at] = m.merges.get(s[at], s[at+1])
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
			if p := m.merges.get(s[i], s[i+1]); p != noMerge {
				h = append(h, candidate{p, int32(i)})
			}
		}
	}
	next[len(s)-1] = -1
	h.build()
	push := func(left, right int32) {
		if left < 0 || right < 0 {
			return
		}
		if p := m.merges.get(s[left], s[right]); p != noMerge {
			h.push(candidate{p, left})
		}
	}
	for len(h) > 0 {
		c := h.pop()
		left := c.pos
		if s[left] < 0 || next[left] < 0 {
			continue
		}
		right := next[left]
		if m.merges.get(s[left], s[right]) != c.pair { // an entry that a nearer merge has overtaken
			continue
		}
		s[left], s[right] = c.pair.id(), -1
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

// A pair is what two neighbours become: rank in the upper half, new id in the lower.
type pair uint64

const noMerge = ^pair(0)

func newPair(rank, id int) pair { return pair(rank)<<32 | pair(id) }
func (p pair) id() int32        { return int32(p & 0xFFFFFFFF) }

// mergeTable maps two ids to a pair, with open addressing.
type mergeTable struct {
	slots []mergeSlot
	shift uint
	seed  uint64 // random, so that no file can be made whose pairs all collide
}

type mergeSlot struct {
	key  uint64 // 0 = free
	pair pair
}

func newMergeTable(n int) mergeTable {
	size := bits.Len(uint(n) + uint(n)/2 + 8)
	var h maphash.Hash
	return mergeTable{slots: make([]mergeSlot, 1<<size), shift: uint(64 - size), seed: h.Sum64() | 1}
}

func (t *mergeTable) slot(key uint64) int {
	x := (key ^ t.seed) * 0x9E3779B97F4A7C15
	x ^= x >> 32
	return int((x * t.seed) >> t.shift)
}

func mergeKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) + 1 }

// set keeps the last pair given for two ids, as Hugging Face does.
func (t *mergeTable) set(left, right int32, p pair) {
	key := mergeKey(left, right)
	i := t.slot(key)
	for t.slots[i].key != 0 && t.slots[i].key != key {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = mergeSlot{key, p}
}

func (t *mergeTable) get(left, right int32) pair {
	key := mergeKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & (len(t.slots) - 1) {
		switch s := &t.slots[i]; s.key {
		case key:
			return s.pair
		case 0:
			return noMerge
		}
	}
}

// candidate is a pair that could be merged at pos.
type candidate struct {
	pair pair
	pos  int32
}

func (a candidate) less(b candidate) bool {
	return a.pair < b.pair || a.pair == b.pair && a.pos < b.pos
}

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
		if !c.less(s[up]) {
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
		if child+1 < len(h) && h[child+1].less(h[child]) {
			child++
		}
		if !h[child].less(c) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = c
}
