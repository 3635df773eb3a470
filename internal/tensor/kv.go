package tensor

import (
	"errors"
	"fmt"
	"math"
)

// PagePositions is the number of positions that keys and values are allocated for at a time.
const PagePositions = pageChunks * chunk

const pageChunks = 2

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

// side is how many columns lie side by side: whole numbers in pairs, as they are multiplied.
func (t KVType) side() int { return [...]int{1, 1, 2}[t] }

// KVShape is what a model keeps for each position.
type KVShape struct {
	Layers, Heads, HeadDim int
	Type                   KVType
}

// columns are those of keys: kernels take four at a time.
func (s KVShape) columns() int { return (s.HeadDim + 3) &^ 3 }

// sizes are the numbers in the keys and in the values of one head in a chunk.
func (s KVShape) sizes() (keys, values int) {
	return chunk * s.columns(), chunk * s.HeadDim
}

// behind is how many numbers kernels read, and do not use, after the last value.
const behind = 2 * Block

// numbers is how many a page has.
func (s KVShape) numbers() int {
	keys, values := s.sizes()
	return s.Layers*s.Heads*pageChunks*(keys+values) + behind
}

// scales is how many a page of KVInt8 has, [layer][head][chunk][keys, values][position].
func (s KVShape) scales() int {
	if s.Type != KVInt8 {
		return 0
	}
	return 2 * PagePositions * s.Layers * s.Heads
}

// PageBytes is the size of a page.
func (s KVShape) PageBytes() int64 { return int64(4*s.scales() + s.Type.bytes()*s.numbers()) }

// KV holds the keys and values of one text. It grows by pages, so that what is there never moves. On a page, [layer][head][chunk], lie keys, [64 positions][column][position], and values, [position][dim]: rows of 64 for both
// products of attention, which reads on from the first to the last number of a head. Of KVInt8, two neighbouring columns, or positions, lie side by side: [64 positions][column / 2][position][2] and [position / 2][dim][2].
//
// Positions may be written again: a text is cut short by writing on from an earlier position, because nobody reads what is behind his own.
type KV struct {
	Budget *Budget // that pages count in

	shape KVShape
	pages []kvPage
}

// kvPage is one allocation for all layers, so that few positions are small and many are large pages of memory.
type kvPage struct {
	numbers
	scales []float32
}

// numbers are of one type.
type numbers struct {
	typ  KVType
	data []byte
}

// ask has numbers that are used soon read into the processor's cache.
func ask(x []float32) {
	if n := len(x) / 16; n > 0 && active.ask != nil {
		active.ask(&x[0], n)
	}
}

// from are n numbers.
func (v numbers) from(at, n int) numbers {
	size := v.typ.bytes()
	return numbers{v.typ, v.data[at*size : (at+n)*size : (at+n)*size]}
}

// behind are those from at on, or the last.
func (v numbers) behind(at int) numbers {
	return numbers{v.typ, v.data[min(at*v.typ.bytes(), len(v.data)-1):]}
}

// at is one of them.
func (v numbers) at(i int) float32 {
	switch v.typ {
	case KVFloat32:
		return math.Float32frombits(le.Uint32(v.data[4*i:]))
	case KVFloat16:
		return widenF16(le.Uint16(v.data[2*i:]))
	}
	return float32(int8(v.data[i]))
}

// NewKV is empty.
func NewKV(shape KVShape) *KV { return &KV{shape: shape} }

// Grow makes room for this many positions. Only here is anything allocated.
func (kv *KV) Grow(positions int) error {
	pages := (positions + PagePositions - 1) / PagePositions
	if pages <= len(kv.pages) {
		return nil
	}
	missing := func() int64 { return int64(pages-len(kv.pages)) * kv.shape.PageBytes() }
	if err := kv.Budget.Take(fmt.Sprintf("keys and values of %d positions", pages*PagePositions), missing()); err != nil {
		return err
	}
	for len(kv.pages) < pages {
		data, err := allocate(kv.shape.Type.bytes() * kv.shape.numbers())
		if err != nil {
			kv.Budget.give(missing())
			return fmt.Errorf("keys and values of %d positions: %w", positions, err)
		}
		kv.pages = append(kv.pages, kvPage{numbers{kv.shape.Type, data}, make([]float32, kv.shape.scales())})
	}
	return nil
}

// Release gives the memory back. The text is empty again.
func (kv *KV) Release() error {
	var errs []error
	for _, p := range kv.pages {
		errs = append(errs, release(p.data))
	}
	kv.Budget.give(kv.Bytes())
	kv.pages = nil
	return errors.Join(errs...)
}

// Bytes allocated.
func (kv *KV) Bytes() int64 { return int64(len(kv.pages)) * kv.shape.PageBytes() }

// place is where a chunk of one head begins: on which page, and behind how many others.
func (kv *KV) place(layer, head, c int) (page, at int) {
	return c / pageChunks, (layer*kv.shape.Heads+head)*pageChunks + c%pageChunks
}

// kvChunk is what is kept of one head in a chunk: keys and values, one behind the other, and of KVInt8 their scales.
type kvChunk struct {
	numbers
	scales []float32
}

func (kv *KV) chunk(layer, head, c int) kvChunk {
	keys, values := kv.shape.sizes()
	page, at := kv.place(layer, head, c)
	all := kvChunk{numbers: kv.pages[page].from(at*(keys+values), keys+values)}
	if kv.shape.Type == KVInt8 {
		all.scales = kv.pages[page].scales[at*2*chunk:][:2*chunk]
	}
	return all
}

// keys are those of one head in a chunk.
func (kv *KV) keys(layer, head, c int) numbers {
	keys, values := kv.shape.sizes()
	page, at := kv.place(layer, head, c)
	return kv.pages[page].from(at*(keys+values), keys)
}

// values: see keys. Behind the last are numbers of something else.
func (kv *KV) values(layer, head, c int) numbers {
	keys, values := kv.shape.sizes()
	page, at := kv.place(layer, head, c)
	return kv.pages[page].from(at*(keys+values)+keys, values+behind)
}

// scales are those of a head's keys and values in a chunk.
func (kv *KV) scales(layer, head, c int) (keys, values []float32) {
	page, at := kv.place(layer, head, c)
	s := kv.pages[page].scales[at*2*chunk:]
	return s[:chunk:chunk], s[chunk : 2*chunk : 2*chunk]
}

// Put writes one head's key and value of a position. Where one of their numbers is not finite, the key is made NaN and the values 0: whoever sees the position becomes NaN, and whoever is computed
// beside those, with weights of 0, does not.
func (kv *KV) Put(layer, head, position int, key, value []float32) {
	c, at, d, side := position/chunk, position%chunk, kv.shape.HeadDim, kv.shape.Type.side()
	first, row := at/Block*Block*kv.shape.columns()+at%Block*side, at/side*side*d+at%side // of column 0, and of dim 0
	k, v := kv.keys(layer, head, c), kv.values(layer, head, c)
	size := kv.shape.Type.bytes()
	keys, values := k.data[first*size:], v.data[row*size:]
	switch kv.shape.Type {
	case KVFloat32:
		if !put32(keys, values, key[:d], value[:d]) {
			le.PutUint32(keys, math.Float32bits(float32(math.NaN())))
			clear(values[:4*d])
		}
	case KVFloat16:
		if !put16(keys, values[:2*d], key[:d], value[:d]) {
			le.PutUint16(keys, 0x7E00)
			clear(values[:2*d])
		}
	default:
		ks, vs := kv.scales(layer, head, c)
		ks[at] = put8(keys, 2*Block, 1, key[:d])
		vs[at] = put8(values, 4, 2, value[:d])
		if ks[at]+vs[at] != ks[at]+vs[at] {
			ks[at], vs[at] = float32(math.NaN()), 0
		}
	}
}

// put32 stores a key's columns and a value's row, and reports whether all are finite.
func put32(keys, row []byte, key, value []float32) bool {
	whole := true
	for i, k := range key {
		le.PutUint32(keys[4*Block*i:], math.Float32bits(k))
		whole = whole && k-k == 0
	}
	for i, v := range value {
		le.PutUint32(row[4*i:], math.Float32bits(v))
		whole = whole && v-v == 0
	}
	return whole
}

// put16 is put32 for float16.
func put16(keys, row []byte, key, value []float32) bool {
	whole := true
	narrow(row, key) // on its way to the columns
	for i := range key {
		k := le.Uint16(row[2*i:])
		le.PutUint16(keys[2*Block*i:], k)
		whole = whole && k&0x7C00 != 0x7C00
	}
	narrow(row, value)
	for i := range value {
		whole = whole && le.Uint16(row[2*i:])&0x7C00 != 0x7C00
	}
	return whole
}

// put8 stores x / scale, rounded to the nearest whole number, to even between two, from -127 to 127: pairs of numbers so far apart, and the second of a pair so far from the first. The scale is NaN where not all are
// finite.
func put8(dst []byte, pair, second int, x []float32) (scale float32) {
	const shift = 3 << 22 // see exp32
	var most uint32       // magnitudes are in the order of their bits
	for _, v := range x {
		most = max(most, math.Float32bits(v)&0x7FFFFFFF)
	}
	scale, inverse := math.Float32frombits(most)/127, 127/math.Float32frombits(most)
	switch {
	case most >= 0x7F800000:
		scale, inverse = float32(math.NaN()), 0
	case most < 0x01000000: // the inverse would be infinite, or nearly: nothing as small matters
		scale, inverse = 0, 0
	}
	for i, v := range x {
		q := byte(0)
		if inverse != 0 {
			q = byte(math.Float32bits(float32(v*inverse)+shift) - math.Float32bits(shift))
		}
		dst[i/2*pair+i%2*second] = q
	}
	return scale
}

// narrow rounds numbers to float16.
func narrow(dst []byte, x []float32) {
	dst = dst[:2*len(x)]
	if n := whole(len(x)); n > 0 && active.narrow != nil {
		active.narrow(&dst[0], &x[0], n/16)
		dst, x = dst[2*n:], x[n:]
	}
	for i, v := range x {
		le.PutUint16(dst[2*i:], narrowF16(v))
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
