package tensor

import (
	"os"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// useFour is whether products of four vectors at a time are computed by assembly. MLXBUILD_CPU=generic switches it off; the bits are the same.
var useFour = haveFour && os.Getenv("MLXBUILD_CPU") != "generic"

// fourArgs are what mulFour works on; four_amd64.s knows the places of the fields.
type fourArgs struct {
	codes   [2]*float32 // of two rows: of every eight the even ones, then the odd ones
	vectors *float32    // of four vectors: see Input.pack
	scale   [2]*float32 // by group
	bias    [2]*float32 // by group; nil when there are none
	sums    *float32    // of four vectors, by group
	groups  int
	blocks  int // of a group
	steps   int // of eight columns, of a block
	out     [2][4]float32
}

// tileRows are decoded before their products are made: with the vectors of one group they stay in the first-level cache at the widths of small models.
const tileRows = 8

// mulFours multiplies rows lo to before hi with vectors first to before last, which are multiples of four. It keeps the order of mulReference: the pairs of a row are split into their first and second
// halves, so that one register holds the four lanes of a vector. On two EPYC cores it makes 16 to 20 GMAC/s a core where plain Go makes 3 to 5, and SmolLM2-135M reads 260 tokens a second instead of 40 to 56.
func (m *Matrix) mulFours(dst []float32, stride int, in *Input, first, last, lo, hi int, s *Scratch) {
	s.makeTile(in.stride)
	a := fourArgs{groups: max(m.groups, 1), blocks: 1, steps: in.stride / 8}
	switch {
	case m.groups == 0: // blocks of 64 with a scale of 1
		a.groups, a.steps = in.stride/Block, Block/8
	default:
		a.blocks, a.steps = m.Scheme.GroupSize/m.block, m.block/8
	}
	for row := lo; row < hi; row += tileRows {
		n := min(tileRows, hi-row)
		for r := range n {
			m.decodeTile(s, r, row+r, in.stride)
		}
		for t := first; t < last; t += 4 {
			a.vectors = &in.packed[t*in.stride]
			if m.Scheme.Mode == quant.Affine {
				a.sums = &in.packedSums(m.Scheme.GroupSize, t)[0]
			}
			for r := 0; r < n; r += 2 {
				second := min(r+1, n-1)
				m.fourRows(&a, s, r, second)
				mulFour(&a)
				for k := range 4 {
					dst[(t+k)*stride+row+r] = a.out[0][k]
					dst[(t+k)*stride+row+second] = a.out[1][k]
				}
			}
		}
	}
}

// fourRows points at two rows of the tile.
func (m *Matrix) fourRows(a *fourArgs, s *Scratch, r, second int) {
	for i, k := range [2]int{r, second} {
		t := &s.tile[k]
		a.codes[i], a.scale[i] = &t.codes[0], &t.scale[0]
		if m.Scheme.Mode == quant.Affine {
			a.bias[i] = &t.bias[0]
		}
	}
}

// tileRow is one decoded row.
type tileRow struct{ codes, scale, bias []float32 }

// makeTile makes room for rows of this length.
func (s *Scratch) makeTile(stride int) {
	if s.tile != nil && len(s.tile[0].codes) >= stride {
		return
	}
	s.tile = make([]tileRow, tileRows)
	for i := range s.tile {
		s.tile[i] = tileRow{make([]float32, stride), make([]float32, len(s.scale)), make([]float32, len(s.bias))}
	}
}

func (m *Matrix) decodeTile(s *Scratch, r, row, stride int) {
	codes := s.codes[:stride]
	clear(codes[m.Cols:])
	m.codes(codes, row)
	t := &s.tile[r]
	splitPairs(&t.codes[0], &codes[0], stride/8)
	if m.groups > 0 {
		m.scales(t.scale, t.bias, row)
		return
	}
	for i := range t.scale[:stride/Block] {
		t.scale[i] = 1
	}
}

// pack puts vector t beside its neighbours for mulFour: of every eight columns [A even, B even] [C even, D even] [A odd, B odd] [C odd, D odd] for four vectors, and the sums of a group one behind the other.
func (in *Input) pack(t int) {
	x := in.padded(t)
	out := in.packed[t/4*4*in.stride:][:4*in.stride]
	at := t % 4 * 4
	for len(x) >= 8 {
		even, odd := out[at:][:4:4], out[16+at:][:4:4]
		even[0], even[1], even[2], even[3] = x[0], x[2], x[4], x[6]
		odd[0], odd[1], odd[2], odd[3] = x[1], x[3], x[5], x[7]
		x, out = x[8:], out[32:]
	}
	for i := range in.sums {
		sums := in.packedSum(i, t)
		for g, v := range in.sum(i, t) {
			sums[4*g+t%4] = v
		}
	}
}

// packedSum are the sums of the four vectors that t is one of.
func (in *Input) packedSum(i, t int) []float32 {
	n := 4 * in.groups[i]
	return in.sums4[i][t/4*n:][:n]
}

// packedSums are those of groups of this size.
func (in *Input) packedSums(size, t int) []float32 {
	switch size {
	case 32:
		return in.packedSum(0, t)
	case 64:
		return in.packedSum(1, t)
	}
	return in.packedSum(2, t)
}
