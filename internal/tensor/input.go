package tensor

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
	case a == Float32 || l.plain():
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

// Input is a block of activation vectors, all of one length, as Mul takes them: in the forms that the matrices need which they are multiplied with, in tiles. Begin says how many vectors there are; when rows have been
// written they are sealed, piece by piece.
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
	rows   rows                            // whole numbers of many vectors, on a processor with tiles
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
			in.levels[i] = in.levels[i] || m.layout.segment == size && !m.layout.plain()
		}
	}
	in.allocate()
	in.rows.allocate(vectors, in.stride, a, matrices)
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
	return int64(n) + in.rows.bytes()
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
