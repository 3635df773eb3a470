package tensor

import "math"

// PagePositions is the number of positions that keys and values are allocated for at a time.
const PagePositions = 256

// KVType is how keys and values are kept.
type KVType int

// The types.
const (
	KVFloat32 KVType = iota
	KVFloat16        // rounded to the nearest, to even between two; what is too large for it is no number any more
)

// KVShape is what a model keeps for each position.
type KVShape struct {
	Layers, Heads, HeadDim int
	Type                   KVType
}

// columns are those of keys: kernels take four at a time.
func (s KVShape) columns() int { return (s.HeadDim + 3) &^ 3 }

// sizes are the numbers in the keys and in the values of one head on a page.
func (s KVShape) sizes() (keys, values int) {
	return PagePositions * s.columns(), PagePositions * s.HeadDim
}

// numbers is how many a page has. At its end is room for what kernels read, and do not use, after the last value.
func (s KVShape) numbers() int {
	keys, values := s.sizes()
	return s.Layers*s.Heads*(keys+values) + Block
}

// PageBytes is the size of a page.
func (s KVShape) PageBytes() int64 {
	if s.Type == KVFloat16 {
		return 2 * int64(s.numbers())
	}
	return 4 * int64(s.numbers())
}

// KV holds the keys and values of one text. It grows by pages, so that what is there never moves. On a page, [layer][head], lie keys, [64 positions][column][position], and values,
// [position][dim]: rows of 64 for both products of attention, read from the first to the last number.
//
// Positions may be written again: a text is cut short by writing on from an earlier position, because nobody reads what is behind his own.
type KV struct {
	shape KVShape
	pages []numbers
}

// numbers are float32, or float16 where these are nil.
type numbers struct {
	f32 []float32
	f16 []uint16
}

// from are n numbers.
func (v numbers) from(at, n int) numbers {
	if v.f32 != nil {
		return numbers{f32: v.f32[at : at+n : at+n]}
	}
	return numbers{f16: v.f16[at : at+n : at+n]}
}

// at is one of them.
func (v numbers) at(i int) float32 {
	if v.f32 != nil {
		return v.f32[i]
	}
	return widenF16(v.f16[i])
}

// NewKV is empty.
func NewKV(shape KVShape) *KV { return &KV{shape: shape} }

// Grow makes room for this many positions. Only here is anything allocated.
func (kv *KV) Grow(positions int) {
	for len(kv.pages)*PagePositions < positions {
		if kv.shape.Type == KVFloat16 {
			kv.pages = append(kv.pages, numbers{f16: make([]uint16, kv.shape.numbers())})
		} else {
			kv.pages = append(kv.pages, numbers{f32: make([]float32, kv.shape.numbers())})
		}
	}
}

// Bytes allocated.
func (kv *KV) Bytes() int64 { return int64(len(kv.pages)) * kv.shape.PageBytes() }

// keys are those of one head on one page.
func (kv *KV) keys(page, layer, head int) numbers {
	keys, values := kv.shape.sizes()
	return kv.pages[page].from((layer*kv.shape.Heads+head)*(keys+values), keys)
}

// values: see keys. Behind the last are 64 numbers of something else.
func (kv *KV) values(page, layer, head int) numbers {
	keys, values := kv.shape.sizes()
	return kv.pages[page].from((layer*kv.shape.Heads+head)*(keys+values)+keys, values+Block)
}

// keyAt is where column 0 of a position's key stands in the keys of a page; the next column is 64 further.
func (s KVShape) keyAt(position int) int { return position/64*64*s.columns() + position%64 }

// Put writes one head's key and value of a position. Where one of their numbers is not finite, the key is made NaN and the values 0: whoever sees the position becomes NaN, and whoever is computed
// beside those, with weights of 0, does not.
func (kv *KV) Put(layer, head, position int, key, value []float32) {
	page, at, d := position/PagePositions, position%PagePositions, kv.shape.HeadDim
	k, v := kv.keys(page, layer, head), kv.values(page, layer, head).from(at*d, d)
	first := kv.shape.keyAt(at)
	var whole bool
	if kv.shape.Type == KVFloat16 {
		whole = put16(k.f16[first:], v.f16, key[:d], value[:d])
	} else {
		whole = put32(k.f32[first:], v.f32, key[:d], value[:d])
	}
	if whole {
		return
	}
	if kv.shape.Type == KVFloat16 {
		k.f16[first] = 0x7E00
	} else {
		k.f32[first] = float32(math.NaN())
	}
	clear(v.f32)
	clear(v.f16)
}

// put32 stores a key's columns and a value's row, and reports whether all are finite.
func put32(keys, row, key, value []float32) bool {
	whole := true
	for i, k := range key {
		keys[i*64] = k
		whole = whole && k-k == 0
	}
	for i, v := range value {
		row[i] = v
		whole = whole && v-v == 0
	}
	return whole
}

// put16 is put32 for float16.
func put16(keys, row []uint16, key, value []float32) bool {
	whole := true
	narrow(row, key) // on its way to the columns
	for i, k := range row {
		keys[i*64] = k
		whole = whole && k&0x7C00 != 0x7C00
	}
	narrow(row, value)
	for _, v := range row {
		whole = whole && v&0x7C00 != 0x7C00
	}
	return whole
}

// narrow rounds numbers to float16.
func narrow(dst []uint16, x []float32) {
	dst = dst[:len(x)]
	if n := whole(len(x)); n > 0 && active.narrow != nil {
		active.narrow(&dst[0], &x[0], n/16)
		dst, x = dst[n:], x[n:]
	}
	for i, v := range x {
		dst[i] = narrowF16(v)
	}
}

// narrowF16 is x as float16, rounded to the nearest, to even between two; a NaN stays one.
func narrowF16(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7FFFFFFF
	switch {
	case magnitude > 0x7F800000:
		return sign | 0x7E00
	case magnitude >= 0x477FF000: // 65520 and up
		return sign | 0x7C00
	case magnitude < 0x38800000: // subnormal: multiples of 2^-24, which a sum rounds to
		return sign | uint16(math.Float32bits(math.Float32frombits(magnitude)+0.5)-math.Float32bits(0.5))
	}
	magnitude += 0xFFF + magnitude>>13&1
	return sign | uint16((magnitude-(127-15)<<23)>>13)
}
