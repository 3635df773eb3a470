package tokenizer

// wordCache remembers the ids of words that were met before: one place for each hash, where the newer word wins. It has one size, 1 MiB, and no pointers: nothing is
// allocated for a word, and the garbage collector does not look inside.
type wordCache struct{ slots []cachedWord }

// cachedWord fills a cache line.
type cachedWord struct {
	key   wordKey
	size  uint8 // bytes of the word; 0 = free
	count uint8
	ids   [cacheIDs]int32
}

const (
	cacheBits = 14
	cacheWord = 24 // bytes of the longest word that is kept
	cacheIDs  = 9  // and its most ids
)

// wordKey is what stands in a word of a known size. Its parts may overlap, so that any size takes three reads at most.
type wordKey struct{ a, b, c uint64 }

func keyOf(word string) wordKey {
	switch n := len(word); {
	case n > 16:
		return wordKey{eight(word[:8]), eight(word[8:16]), eight(word[n-8:])}
	case n >= 8:
		return wordKey{eight(word[:8]), eight(word[n-8:]), 0}
	case n >= 4:
		return wordKey{uint64(four(word[:4])) | uint64(four(word[n-4:]))<<32, 0, 0}
	case n > 0:
		return wordKey{uint64(word[0]) | uint64(word[n/2])<<8 | uint64(word[n-1])<<16, 0, 0}
	}
	return wordKey{}
}

func (k wordKey) hash() uint64 {
	const odd = 0x9E3779B97F4A7C15
	h := k.a*odd ^ k.b
	h = (h^h>>32)*odd ^ k.c
	return (h ^ h>>32) * odd
}

// eight and four read bytes as a number; the compiler makes one load of them.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func four(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// find returns the place of a word, nil if the word is too long to have one, and whether the word is there.
func (c *wordCache) find(word string) (slot *cachedWord, found bool) {
	if len(word) > cacheWord {
		return nil, false
	}
	if c.slots == nil {
		c.slots = make([]cachedWord, 1<<cacheBits)
	}
	key := keyOf(word)
	slot = &c.slots[key.hash()>>(64-cacheBits)]
	return slot, slot.key == key && slot.size == uint8(len(word))
}

// put enters the ids of a word at the place that find gave.
func (s *cachedWord) put(word string, ids []int32) {
	if s != nil && len(ids) <= cacheIDs {
		s.key, s.size = keyOf(word), uint8(len(word))
		s.count = uint8(copy(s.ids[:], ids))
	}
}
