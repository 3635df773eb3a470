package tokenizer

// wordCache remembers the ids of words that were met before: two for each hash, of which the older one gives way. It has one size, 1 MiB, and no pointers: nothing is
// allocated for a word, and the garbage collector does not look inside. With one word for each hash 12 % of the words of Go code were missing, with two 7 %.
type wordCache struct{ pairs [][2]cachedWord }

// cachedWord fills a cache line.
type cachedWord struct {
	key   wordKey
	kind  uint8 // of the word; 0 = free
	count uint8
	ids   [cacheIDs]int32
}

const (
	cacheBits = 13
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

// kind tells words of different sizes apart, and whole words from parts.
func kind(word string, whole bool) uint8 {
	if whole {
		return uint8(len(word)) | 0x80
	}
	return uint8(len(word))
}

// get returns the ids of a word, if it is there.
func (c *wordCache) get(word string, whole bool) (ids []int32, ok bool) {
	if len(word) > cacheWord || c.pairs == nil {
		return nil, false
	}
	key, kind := keyOf(word), kind(word, whole)
	pair := &c.pairs[key.hash()>>(64-cacheBits)]
	w := &pair[0]
	if w.key != key || w.kind != kind {
		if w = &pair[1]; w.key != key || w.kind != kind {
			return nil, false
		}
	}
	return w.ids[:w.count], true
}

// put enters a word that is not there.
func (c *wordCache) put(word string, whole bool, ids []int32) {
	if len(word) > cacheWord || len(ids) > cacheIDs {
		return
	}
	if c.pairs == nil {
		c.pairs = make([][2]cachedWord, 1<<cacheBits)
	}
	key := keyOf(word)
	pair := &c.pairs[key.hash()>>(64-cacheBits)]
	pair[1] = pair[0]
	pair[0] = cachedWord{key: key, kind: kind(word, whole), count: uint8(len(ids))}
	copy(pair[0].ids[:], ids)
}
