package tensor

import (
	"math"
)

// Arithmetic is how products with matrices are made. What the matrix holds is exact in each; they differ in what becomes of activations.
type Arithmetic uint8

const (
	// Float32 multiplies and adds in float32.
	Float32 Arithmetic = iota
	// Fast makes whole numbers of activations, up to 32512 for the largest of every 64 neighbours, where codes are whole numbers too: a relative error of some 2e-5 of a product.
	Fast
	// Int8 makes whole numbers up to 127 of them: some 6e-3.
	Int8
)

// form is what a matrix needs of an input.
type form uint8

const (
	asFloats      form = iota // float32
	asWords                   // 16-bit integers, for any codes
	asNibbleBytes             // 8-bit integers, in the order of nibbles
	asOctetBytes              // 8-bit integers, in the order of octets
	forms
)

func (m *Matrix) form(a Arithmetic) form {
	l := &m.layout
	switch {
	case a == Float32 || l.segments == 0:
		return asFloats
	case a == Fast || l.kind == minis:
		return asWords
	case l.kind == nibbles:
		return asNibbleBytes
	}
	return asOctetBytes
}

// segmentSizes are those that there are; sums of activations are made for each that a matrix has.
var segmentSizes = [...]int{16, 32, 64}

// Input is a block of activation vectors, all of one length, as Mul takes them: in the forms that the matrices need which they are multiplied with, in tiles. Begin says how many vectors there are; whoever
// writes a row calls Seal for it afterwards.
type Input struct {
	Cols       int
	arithmetic Arithmetic
	stride     int       // Cols, padded to whole segments
	x          []float32 // [vectors, stride]
	n          int
	tiles      []tile

	needs  [forms]bool
	levels [len(segmentSizes)]bool
	tiled  []float32                       // form asFloats
	bytes  [forms][]byte                   // the others
	sums   [len(segmentSizes)][]float32    // of asFloats: [tiles][segments][tile]
	steps  [2][len(segmentSizes)][]float32 // of 8-bit and 16-bit integers: [tiles][segments][2][tile]
	rooms  int                             // vectors, padded to whole tiles
}

// tile is a part of the vectors that are multiplied together; the last may have room for more than there are.
type tile struct{ from, size int }

// NewInput makes room for some vectors, for the matrices that they will be multiplied with.
func NewInput(vectors, cols int, a Arithmetic, matrices ...*Matrix) *Input {
	in := &Input{Cols: cols, arithmetic: a, stride: padded(cols, Block), rooms: padded(vectors, 12)}
	in.x = make([]float32, vectors*in.stride)
	for _, m := range matrices {
		in.needs[m.form(a)] = true
		for i, size := range segmentSizes {
			in.levels[i] = in.levels[i] || m.layout.segment == size
		}
	}
	in.allocate()
	in.tiles = make([]tile, 0, vectors/12+1)
	return in
}

func (in *Input) allocate() {
	if in.needs[asFloats] {
		in.tiled = make([]float32, in.rooms*in.stride)
	}
	for f := asWords; f < forms; f++ {
		if in.needs[f] {
			in.bytes[f] = make([]byte, in.rooms*in.stride*f.width())
		}
	}
	for i, size := range segmentSizes {
		n := in.rooms * in.stride / size
		if !in.levels[i] {
			continue
		}
		if in.needs[asFloats] {
			in.sums[i] = make([]float32, n)
		}
		if in.needs[asNibbleBytes] || in.needs[asOctetBytes] {
			in.steps[0][i] = make([]float32, 2*n)
		}
		if in.needs[asWords] {
			in.steps[1][i] = make([]float32, 2*n)
		}
	}
}

// width is the bytes of an integer.
func (f form) width() int {
	if f == asWords {
		return 2
	}
	return 1
}

// Bytes of the buffers.
func (in *Input) Bytes() int64 {
	n := 4 * (len(in.x) + len(in.tiled))
	for _, b := range in.bytes {
		n += len(b)
	}
	for i := range segmentSizes {
		n += 4 * (len(in.sums[i]) + len(in.steps[0][i]) + len(in.steps[1][i]))
	}
	return int64(n)
}

// Begin says how many vectors there are: dozens, and a tile for the rest.
func (in *Input) Begin(vectors int) {
	in.n, in.tiles = vectors, in.tiles[:0]
	at := 0
	for ; vectors-at >= 12; at += 12 {
		in.tiles = append(in.tiles, tile{at, 12})
	}
	if rest := vectors - at; rest > 0 {
		in.tiles = append(in.tiles, tile{at, smallestTile(rest)})
	}
}

// smallestTile is that which has room for some vectors.
func smallestTile(vectors int) int {
	for _, size := range tileSizes {
		if size >= vectors {
			return size
		}
	}
	return tileSizes[len(tileSizes)-1]
}

// Row is vector t, to be written or read.
func (in *Input) Row(t int) []float32 { return in.x[t*in.stride:][:in.Cols:in.Cols] }

// tileOf is the tile that vector t is in.
func (in *Input) tileOf(t int) tile {
	return in.tiles[t/12]
}

// Seal makes the forms of vector t. Different vectors may be sealed at the same time.
func (in *Input) Seal(t int) {
	x, at := in.x[t*in.stride:][:in.stride], in.tileOf(t)
	j := t - at.from
	if in.needs[asFloats] {
		out := in.tiled[at.from*in.stride:]
		for k, v := range x {
			out[k*at.size+j] = v
		}
		in.sealSums(x, at, j)
	}
	if in.needs[asWords] {
		in.sealIntegers(x, at, j, 2)
	}
	if in.needs[asNibbleBytes] || in.needs[asOctetBytes] {
		in.sealIntegers(x, at, j, 1)
	}
}

// sealSums writes the sums of a vector's segments.
func (in *Input) sealSums(x []float32, at tile, j int) {
	for i, size := range segmentSizes {
		if in.sums[i] == nil {
			continue
		}
		out := in.sums[i][at.from*in.stride/size:]
		for s := range in.stride / size {
			out[s*at.size+j] = sum(x[s*size:][:size])
		}
	}
}

// sum adds eight chains, of every eighth number, in pairs. len(x) is a multiple of eight.
func sum(x []float32) float32 {
	var a [8]float32
	for len(x) >= 8 {
		for i := range a {
			a[i] += x[i]
		}
		x = x[8:]
	}
	return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
}

// sealIntegers makes integers of a vector, of 64 neighbours at a time.
func (in *Input) sealIntegers(x []float32, at tile, j, width int) {
	var q [Block]int32
	var sums [Block / 16]int32
	for g := 0; g < len(x)/Block; g++ {
		step := integersOf(&q, &sums, x[g*Block:][:Block], width)
		if width == 2 {
			out := in.bytes[asWords][2*at.from*in.stride:]
			for p := range Block / 2 {
				le.PutUint32(out[((g*Block/2+p)*at.size+j)*4:], uint32(uint16(q[2*p]))|uint32(q[2*p+1])<<16)
			}
		}
		for _, f := range [2]form{asNibbleBytes, asOctetBytes} {
			if width == 1 && in.needs[f] {
				in.putQuads(f, at, j, g, &q)
			}
		}
		in.putSteps(at, j, g, width, step, &sums)
	}
}

func (in *Input) putQuads(f form, at tile, j, g int, q *[Block]int32) {
	out := in.bytes[f][at.from*in.stride:]
	four := func(a, b, c, d int32) uint32 {
		return uint32(uint8(a)) | uint32(uint8(b))<<8 | uint32(uint8(c))<<16 | uint32(uint8(d))<<24
	}
	for c := 0; c < Block; c += 8 {
		first, second := four(q[c], q[c+4], q[c+1], q[c+5]), four(q[c+2], q[c+6], q[c+3], q[c+7])
		if f == asOctetBytes {
			first, second = four(q[c], q[c+2], q[c+1], q[c+3]), four(q[c+4], q[c+6], q[c+5], q[c+7])
		}
		quad := (g*Block + c) / 4
		le.PutUint32(out[(quad*at.size+j)*4:], first)
		le.PutUint32(out[((quad+1)*at.size+j)*4:], second)
	}
}

// putSteps writes step and sums of 64 neighbours for each size of segments.
func (in *Input) putSteps(at tile, j, g, width int, step float32, sums *[Block / 16]int32) {
	for i, size := range segmentSizes {
		out := in.steps[width-1][i]
		if out == nil {
			continue
		}
		out = out[2*at.from*in.stride/size:]
		for s := range Block / size {
			var total int32
			for _, v := range sums[s*size/16:][:size/16] {
				total += v
			}
			k := g*Block/size + s
			out[2*k*at.size+j] = step
			out[(2*k+1)*at.size+j] = float32(step * float32(total))
		}
	}
}

// most is the largest integer that activations become, by width in bytes: 127, or 127*256, so that x = 256*high + low with both in a byte.
var most = [3]float32{1: 127, 2: 127 * 256}

// integersOf makes whole numbers of 64 neighbours, and their sums by 16. step = max|x| / most; q = x * (1/step), rounded to nearest, ties to even. A step below 2^-126 counts as 0, and where a value is NaN or infinite all are
// 0 and the step NaN, so that what comes out is not finite either.
func integersOf(q *[Block]int32, sums *[Block / 16]int32, x []float32, width int) (step float32) {
	largest := largestBits(x[:Block])
	step = math.Float32frombits(largest) / most[width]
	switch {
	case largest >= 0x7F800000:
		*q, *sums = [Block]int32{}, [Block / 16]int32{}
		return float32(math.NaN())
	case step < 0x1p-126:
		*q, *sums = [Block]int32{}, [Block / 16]int32{}
		return 0
	}
	roundAll(q, sums, x[:Block], 1/step)
	return step
}

// largestBits is the largest magnitude, as bits, so that NaN is larger than all others.
func largestBits(x []float32) (largest uint32) {
	if active.largest64 != nil {
		return active.largest64(&x[:Block][0])
	}
	for _, v := range x {
		largest = max(largest, math.Float32bits(v)&0x7FFFFFFF)
	}
	return largest
}

// roundAll makes whole numbers of x*inverse, below 2^22, and their sums by 16.
func roundAll(q *[Block]int32, sums *[Block / 16]int32, x []float32, inverse float32) {
	if active.round64 != nil {
		active.round64(&q[0], &sums[0], &x[:Block][0], inverse)
		return
	}
	const magic = 3 << 22 // adding it rounds to a whole number, in the low bits
	for g := range sums {
		var total int32
		for i := g * 16; i < g*16+16; i++ {
			q[i] = int32(math.Float32bits(float32(x[i]*inverse)+magic)) - int32(math.Float32bits(magic))
			total += q[i]
		}
		sums[g] = total
	}
}
