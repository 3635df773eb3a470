package tensor

import "math"

// Pieces is the number of pieces that an input is sealed in: blocks of 64 columns of a tile. Different pieces may be sealed at the same time; no two of them write to the same cache line, as vectors of one tile would.
func (in *Input) Pieces() int { return len(in.tiles) * in.stride / Block }

// Seal makes the forms of pieces lo to before hi.
func (in *Input) Seal(lo, hi int, s *Scratch) {
	blocks := in.stride / Block
	for piece := lo; piece < hi; piece++ {
		in.seal(in.tiles[piece/blocks], piece%blocks, &s.sealing)
	}
}

// SealColumns makes the forms of columns lo to before hi of all vectors: multiples of 64, but for the end.
func (in *Input) SealColumns(lo, hi int, s *Scratch) {
	for _, at := range in.tiles {
		for b := lo / Block; b*Block < hi; b++ {
			in.seal(at, b, &s.sealing)
		}
	}
}

// sealing is what it needs: 64 columns of a vector as integers, their sums by 16, and those of a tile, packed.
type sealing struct {
	q      [Block]int32
	sums   [Block / 16]int32
	packed packed
}

// packed are 64 columns of a tile, a vector after the other: of 16 bits, two in a word, or of 8 bits, four in a word, in the order of a form.
type packed [maxTile * packedBytes]byte

// packedBytes are those of a vector.
const packedBytes = 2 * Block

func (in *Input) seal(at tile, block int, s *sealing) {
	x := in.x[at.from*in.stride+block*Block:]
	vectors := min(at.size, in.n-at.from)
	if in.needs[asFloats] {
		turnFloats(in.tiled[at.from*in.stride+block*Block*at.size:], x, in.stride, vectors, at.size)
		in.sealSums(x, at, block, vectors)
	}
	if in.inRows() {
		for j := range vectors {
			in.sealRow(x[j*in.stride:][:Block], at.from+j, block, s)
		}
		return
	}
	for f := asWords; f < forms; f++ {
		if !in.needs[f] {
			continue
		}
		width := f.width()
		for j := range vectors {
			step := integersOf(&s.q, &s.sums, x[j*in.stride:][:Block], width)
			pack(s.packed[j*packedBytes:][:packedBytes], &s.q, f)
			putSteps(&in.steps[width-1], in.stride, at, j, block, step, &s.sums)
		}
		turnBytes(in.bytes[f][(at.from*in.stride+block*Block*at.size)*width:], &s.packed, vectors, at.size, Block*width/4)
	}
}

// sealSums writes the sums of the segments of 64 columns.
func (in *Input) sealSums(x []float32, at tile, block, vectors int) {
	for i, size := range segmentSizes {
		if in.sums[i] == nil {
			continue
		}
		out := in.sums[i][(at.from*in.stride+block*Block*at.size)/size:]
		for j := range vectors {
			for s := range Block / size {
				out[s*at.size+j] = sum(x[j*in.stride+s*size:][:size])
			}
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

// putSteps writes step and sums of 64 columns of vector j of a tile for each size of segments.
func putSteps(steps *[len(segmentSizes)][]float32, stride int, at tile, j, block int, step float32, sums *[Block / 16]int32) {
	for i, size := range segmentSizes {
		out := steps[i]
		if out == nil {
			continue
		}
		out = out[2*(at.from*stride+block*Block*at.size)/size:]
		for s := range Block / size {
			var total int32
			for _, v := range sums[s*size/16:][:size/16] {
				total += v
			}
			out[2*s*at.size+j] = step
			out[(2*s+1)*at.size+j] = float32(step * float32(total))
		}
	}
}

// pack writes 64 integers as bytes: as 16-bit ones in their order, or as 8-bit ones in the order of a form (see mulIntegers).
func pack(dst []byte, q *[Block]int32, f form) {
	if k := active.pack[f]; k != nil {
		k(&dst[:Block*f.width()][0], &q[0])
		return
	}
	if f == asWords {
		for i, v := range q {
			le.PutUint16(dst[2*i:], uint16(v))
		}
		return
	}
	kind := nibbles
	if f == asOctetBytes {
		kind = octets
	}
	for i, v := range q {
		quad, place := quadOf(kind, i)
		dst[quad*4+place] = byte(v)
	}
}

// turnFloats writes 64 columns of some vectors, which are stride apart, as [column][tile]. Places behind the vectors get what the last one has.
func turnFloats(dst, x []float32, stride, vectors, tile int) {
	if tile == 1 {
		copy(dst[:Block], x)
		return
	}
	row := func(j int) []float32 { return x[min(j, vectors-1)*stride:][:Block] }
	for j := 0; j < tile; j += 4 {
		a, b, c, d := row(j), row(j+1), row(j+2), row(j+3)
		if active.turnFloats != nil {
			active.turnFloats(&dst[:(Block-1)*tile+j+4][j], 4*tile, &a[0], &b[0], &c[0], &d[0], Block/8)
			continue
		}
		for i := range a {
			out := dst[i*tile+j:][:4]
			out[0], out[1], out[2], out[3] = a[i], b[i], c[i], d[i]
		}
	}
}

// turnBytes is turnFloats for words of four bytes that were packed.
func turnBytes(dst []byte, p *packed, vectors, tile, words int) {
	if tile == 1 {
		copy(dst[:4*words], p[:])
		return
	}
	row := func(j int) []byte { return p[min(j, vectors-1)*packedBytes:][:4*words] }
	for j := 0; j < tile; j += 4 {
		a, b, c, d := row(j), row(j+1), row(j+2), row(j+3)
		if active.turnBytes != nil {
			active.turnBytes(&dst[:((words-1)*tile+j+4)*4][4*j], 4*tile, &a[0], &b[0], &c[0], &d[0], words/8)
			continue
		}
		for i := 0; i < 4*words; i += 4 {
			out := dst[i*tile+4*j:][:16]
			copy(out, a[i:i+4])
			copy(out[4:], b[i:i+4])
			copy(out[8:], c[i:i+4])
			copy(out[12:], d[i:i+4])
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
