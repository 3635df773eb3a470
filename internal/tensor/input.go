package tensor

// Input is a block of activation vectors, all of one length, as Mul takes them: rows padded with zeros to a multiple of Block, and the sums of their groups, which affine weights are
// multiplied with only once. Whoever writes a row calls Seal for it afterwards.
type Input struct {
	Cols   int
	stride int
	x      []float32    // [vectors, stride]
	sums   [3][]float32 // [vectors, groups] for groups of 32, 64, 128; a last group may be short
	groups [3]int

	// Pack is whether Seal also lays vectors out for products of four at a time: worth it when as many will be multiplied.
	Pack   bool
	packed []float32    // [vectors / 4, stride, 4], see pack
	sums4  [3][]float32 // [vectors / 4, groups, 4]
}

// groupSizes are those of affine weights.
var groupSizes = [3]int{32, 64, 128}

// NewInput makes room for some vectors.
func NewInput(vectors, cols int) *Input {
	in := &Input{Cols: cols, stride: (cols + Block - 1) / Block * Block}
	in.x = make([]float32, vectors*in.stride)
	for i, size := range groupSizes {
		in.groups[i] = (cols + size - 1) / size
		in.sums[i] = make([]float32, vectors*in.groups[i])
	}
	if fours := vectors / 4 * 4; fours > 0 && haveFour {
		in.packed = make([]float32, fours*in.stride)
		for i, groups := range in.groups {
			in.sums4[i] = make([]float32, fours*groups)
		}
	}
	return in
}

// Row is vector t, to be written or read.
func (in *Input) Row(t int) []float32 { return in.x[t*in.stride:][:in.Cols:in.Cols] }

// Seal works out the sums of vector t: of each 32 neighbours pair by pair as in Dot, and of those two by two.
func (in *Input) Seal(t int) {
	x := in.padded(t)
	s32, s64, s128 := in.sum(0, t), in.sum(1, t), in.sum(2, t)
	for g := range s32 {
		s32[g] = sum(x[g*32:][:32])
	}
	join(s64, s32)
	join(s128, s64)
	if in.Pack && t/4*4+4 <= len(in.packed)/max(in.stride, 1) {
		in.pack(t)
	}
}

func join(dst, src []float32) {
	for g := range dst {
		dst[g] = src[2*g]
		if 2*g+1 < len(src) {
			dst[g] += src[2*g+1]
		}
	}
}

func sum(x []float32) float32 {
	var a0, a1, a2, a3 float32
	for len(x) >= 8 {
		a0 += x[0] + x[1]
		a1 += x[2] + x[3]
		a2 += x[4] + x[5]
		a3 += x[6] + x[7]
		x = x[8:]
	}
	return (a0 + a1) + (a2 + a3)
}

func (in *Input) padded(t int) []float32 { return in.x[t*in.stride:][:in.stride:in.stride] }

func (in *Input) sum(i, t int) []float32 { return in.sums[i][t*in.groups[i]:][:in.groups[i]] }

// groupSums are the sums of vector t for groups of this size.
func (in *Input) groupSums(size, t int) []float32 {
	switch size {
	case 32:
		return in.sum(0, t)
	case 64:
		return in.sum(1, t)
	}
	return in.sum(2, t)
}

// Bytes of the buffers.
func (in *Input) Bytes() int64 {
	return 4 * int64(len(in.packed)+len(in.sums4[0])+len(in.sums4[1])+len(in.sums4[2])+len(in.x)+len(in.sums[0])+len(in.sums[1])+len(in.sums[2]))
}
