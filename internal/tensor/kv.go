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
	KVInt8           // times a scale for each position and head, which is the largest magnitude / 127
)

// bytes of a number.
func (t KVType) bytes() int { return [...]int{4, 2, 1}[t] }

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

// scales is how many a page of KVInt8 has, [layer][head][keys, values][position].
func (s KVShape) scales() int {
	if s.Type != KVInt8 {
		return 0
	}
	return s.Layers * s.Heads * 2 * PagePositions
}

// PageBytes is the size of a page.
func (s KVShape) PageBytes() int64 { return int64(4*s.scales() + s.Type.bytes()*s.numbers()) }

// KV holds the keys and values of one text. It grows by pages, so that what is there never moves. On a page, [layer][head], lie keys, [64 positions][column][position], and values,
// [position][dim]: rows of 64 for both products of attention, read from the first to the last number.
//
// Positions may be written again: a text is cut short by writing on from an earlier position, because nobody reads what is behind his own.
type KV struct {
	shape KVShape
	pages []kvPage
}

type kvPage struct {
	numbers
	scales []float32
}

// numbers are of one of the types; the others are nil.
type numbers struct {
	f32 []float32
	f16 []uint16
	i8  []int8
}

// from are n numbers.
func (v numbers) from(at, n int) numbers {
	switch {
	case v.f32 != nil:
		return numbers{f32: v.f32[at : at+n : at+n]}
	case v.f16 != nil:
		return numbers{f16: v.f16[at : at+n : at+n]}
	}
	return numbers{i8: v.i8[at : at+n : at+n]}
}

// at is one of them.
func (v numbers) at(i int) float32 {
	switch {
	case v.f32 != nil:
		return v.f32[i]
	case v.f16 != nil:
		return widenF16(v.f16[i])
	}
	return float32(v.i8[i])
}

// NewKV is empty.
func NewKV(shape KVShape) *KV { return &KV{shape: shape} }

// Grow makes room for this many positions. Only here is anything allocated.
func (kv *KV) Grow(positions int) {
	for len(kv.pages)*PagePositions < positions {
		kv.pages = append(kv.pages, newKVPage(kv.shape))
	}
}

func newKVPage(s KVShape) kvPage {
	switch s.Type {
	case KVFloat32:
		return kvPage{numbers: numbers{f32: make([]float32, s.numbers())}}
	case KVFloat16:
		return kvPage{numbers: numbers{f16: make([]uint16, s.numbers())}}
	}
	return kvPage{numbers{i8: make([]int8, s.numbers())}, make([]float32, s.scales())}
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

// scales are those of a head's keys and values on one page.
func (kv *KV) scales(page, layer, head int) (keys, values []float32) {
	s := kv.pages[page].scales[(layer*kv.shape.Heads+head)*2*PagePositions:]
	return s[:PagePositions:PagePositions], s[PagePositions : 2*PagePositions : 2*PagePositions]
}

// Put writes one head's key and value of a position. Where one of their numbers is not finite, the key is made NaN and the values 0: whoever sees the position becomes NaN, and whoever is computed
// beside those, with weights of 0, does not.
func (kv *KV) Put(layer, head, position int, key, value []float32) {
	page, at, d := position/PagePositions, position%PagePositions, kv.shape.HeadDim
	k, v := kv.keys(page, layer, head), kv.values(page, layer, head).from(at*d, d)
	first := kv.shape.keyAt(at)
	switch kv.shape.Type {
	case KVFloat32:
		if !put32(k.f32[first:], v.f32, key[:d], value[:d]) {
			k.f32[first] = float32(math.NaN())
			clear(v.f32)
		}
	case KVFloat16:
		if !put16(k.f16[first:], v.f16, key[:d], value[:d]) {
			k.f16[first] = 0x7E00
			clear(v.f16)
		}
	default:
		ks, vs := kv.scales(page, layer, head)
		ks[at], vs[at] = put8(k.i8[first:], v.i8, key[:d], value[:d])
		if vs[at] != vs[at] {
			ks[at], vs[at] = vs[at], 0
		}
	}
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

// put8 is put32 for whole numbers, and gives their scales; that of the values is NaN where not all are finite.
func put8(keys, row []int8, key, value []float32) (keyScale, valueScale float32) {
	keyScale = round8(row, key) // on its way to the columns
	for i, k := range row {
		keys[i*64] = k
	}
	valueScale = round8(row, value)
	if keyScale != keyScale || valueScale != valueScale {
		clear(row)
		valueScale = float32(math.NaN())
	}
	return keyScale, valueScale
}

// round8 writes x / scale, rounded to the nearest whole number, to even between two, from -127 to 127. The scale is NaN where not all are finite.
func round8(dst []int8, x []float32) (scale float32) {
	const shift = 3 << 22 // see exp32
	var most uint32       // magnitudes are in the order of their bits
	for _, v := range x {
		most = max(most, math.Float32bits(v)&0x7FFFFFFF)
	}
	if most >= 0x7F800000 {
		return float32(math.NaN())
	}
	inverse := 127 / math.Float32frombits(most)
	if most < 0x01000000 { // the inverse would be infinite, or nearly: nothing as small matters
		clear(dst)
		return 0
	}
	for i, v := range x {
		dst[i] = int8(math.Float32bits(float32(v*inverse)+shift) - math.Float32bits(shift))
	}
	return math.Float32frombits(most) / 127
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
