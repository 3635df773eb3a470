package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Test inputs: matrices in which every group is of another kind, so that one matrix visits all corners of the arithmetic.

// kinds are the ways to fill one group with float32 values, which are then rounded to the source type.
var kinds = []struct {
	name string
	fill func(r *rand.Rand, w []float32)
}{
	{"normal 0.02", func(r *rand.Rand, w []float32) { normal(r, w, 0.02) }},
	{"normal 1", func(r *rand.Rand, w []float32) { normal(r, w, 1) }},
	{"normal of any size", func(r *rand.Rand, w []float32) { normal(r, w, power(r, -30, 30)) }},
	{"zeros", func(r *rand.Rand, w []float32) { clear(w) }},
	{"zeros of both signs", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = float32(math.Copysign(0, float64(r.IntN(2))-0.5))
		}
	}},
	{"zeros of both signs and one side", func(r *rand.Rand, w []float32) {
		side := power(r, -3, 3) * sign(r)
		for i := range w {
			w[i] = float32(math.Copysign(0, float64(r.IntN(2))-0.5))
			if r.IntN(3) == 0 {
				w[i] = side * r.Float32()
			}
		}
	}},
	{"one constant", func(r *rand.Rand, w []float32) {
		c := power(r, -149, 127) * sign(r) * (1 + r.Float32()*0.9)
		for i := range w {
			w[i] = c
		}
	}},
	{"nearly constant", func(r *rand.Rand, w []float32) {
		c := power(r, -20, 20) * sign(r)
		for i := range w {
			w[i] = c * (1 + float32(r.IntN(3))/128)
		}
	}},
	{"positive", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = 0.5 + r.Float32()
		}
	}},
	{"negative", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = -0.1 - r.Float32()
		}
	}},
	{"symmetric edges", func(r *rand.Rand, w []float32) {
		normal(r, w, 0.1)
		w[r.IntN(len(w)/2)], w[len(w)/2+r.IntN(len(w)/2)] = 0.75, -0.75
	}},
	{"ties of the code", func(r *rand.Rand, w []float32) { // halves of a step that is a power of two
		step, span := power(r, -20, 10), 1+r.IntN(256)
		for i := range w {
			w[i] = step / 2 * float32(r.IntN(2*span+1)-r.IntN(span+1))
		}
	}},
	{"ties of the edge", func(r *rand.Rand, w []float32) { // |edge|/step = k + 1/2: the range is n/(k+1/2) times the edge
		n := float32(int(1)<<(1+r.IntN(8)) - 1)
		edge := power(r, -6, 6) * sign(r)
		k := n/2 + float32(r.IntN(int(n)/2+1))
		for i := range w {
			w[i] = edge * r.Float32() * 0.1
		}
		w[0], w[1] = edge, edge-edge*n/k
	}},
	{"around eps", func(r *rand.Rand, w []float32) { normal(r, w, 1e-7*power(r, -4, 8)) }},
	{"half of eps", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = 1e-7 * float32(r.IntN(5)-2) / 4
		}
	}},
	{"subnormal F16", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = float32(r.IntN(2049)-1024) * 0x1p-24
		}
	}},
	{"subnormal F32", func(r *rand.Rand, w []float32) {
		width := 1 + r.IntN(23)
		for i := range w {
			w[i] = math.Float32frombits(r.Uint32()&0x80000000 | r.Uint32()>>(32-width))
		}
	}},
	{"overflow of the range", func(r *rand.Rand, w []float32) {
		normal(r, w, 1e38)
		w[0], w[1] = 3e38, -3.2e38
	}},
	{"huge on one side", func(r *rand.Rand, w []float32) {
		s := sign(r)
		for i := range w {
			w[i] = s * (2.5e38 + 0.8e38*r.Float32())
		}
	}},
	{"one outlier", func(r *rand.Rand, w []float32) {
		normal(r, w, 0.01)
		w[r.IntN(len(w))] = 40 * sign(r)
	}},
	{"largest at 6 or 448 times a power of two", func(r *rand.Rand, w []float32) {
		edge := []float32{6, 448}[r.IntN(2)] * power(r, -20, 8)
		edge = math.Float32frombits(math.Float32bits(edge) + []uint32{0, 1, math.MaxUint32, 1 << 13, 1 << 16, 1 << 17, 0xFFFF0000}[r.IntN(7)])
		for i := range w {
			w[i] = edge * (2*r.Float32() - 1)
		}
		w[r.IntN(len(w))] = edge * sign(r)
	}},
	{"largest at 6 or 448 times a tiny power of two", func(r *rand.Rand, w []float32) {
		edge := []float32{6, 448}[r.IntN(2)] * power(r, -149, -110)
		for i := range w {
			w[i] = edge * (2*r.Float32() - 1)
		}
		w[r.IntN(len(w))] = edge * sign(r)
	}},
	{"ties of E2M1", func(r *rand.Rand, w []float32) {
		unit := power(r, -12, 8)
		ties := []float32{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6}
		for i := range w {
			tie := ties[r.IntN(8)] * unit
			w[i] = sign(r) * math.Float32frombits(math.Float32bits(tie)+[]uint32{0, 0, 1, math.MaxUint32, 1 << 13, 1 << 16}[r.IntN(6)])
		}
		w[len(w)-1] = 6 * unit
	}},
	{"ties of E4M3", func(r *rand.Rand, w []float32) {
		unit := power(r, -6, 4)
		for i := range w {
			tie := math.Float32frombits(uint32(116+r.IntN(20))<<23|uint32(r.IntN(16))<<19) * unit
			w[i] = sign(r) * min(tie, 448*unit)
		}
		w[0] = 448 * unit
	}},
	{"many sizes", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = sign(r) * power(r, -40, 15) * (1 + r.Float32())
		}
	}},
	{"random bits", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = math.Float32frombits(r.Uint32())
		}
	}},
	{"random bits, small exponents", func(r *rand.Rand, w []float32) {
		for i := range w {
			w[i] = math.Float32frombits(r.Uint32() & 0x8FFFFFFF)
		}
	}},
}

func normal(r *rand.Rand, w []float32, sigma float32) {
	for i := range w {
		w[i] = float32(r.NormFloat64()) * sigma
	}
}

func power(r *rand.Rand, low, high int) float32 {
	return float32(math.Ldexp(1, low+r.IntN(high-low+1)))
}

func sign(r *rand.Rand) float32 { return float32(1 - 2*r.IntN(2)) }

// matrix returns rows x cols finite values of type t whose groups go through all kinds, beginning at a kind that depends on the seed.
func matrix(seed uint64, t Float, rows, cols, group int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	w := make([]float32, rows*cols)
	first := r.IntN(len(kinds))
	for g := range len(w) / group {
		kinds[(first+g)%len(kinds)].fill(r, w[g*group:][:group])
	}
	return finite(w, t)
}

// finite rounds to a type; what is not finite in it becomes a large value.
func finite(w []float32, t Float) []byte {
	src := make([]byte, len(w)*t.Size())
	for i, x := range w {
		if x = t.round(x); x-x != 0 { // NaN, infinite, or too large for t
			x = t.round(float32(math.Copysign(60000, float64(x))))
		}
		t.put(src, i, x)
	}
	return src
}

// allSchemes returns every scheme there is.
func allSchemes() []Scheme {
	var all []Scheme
	for _, m := range Modes() {
		for _, bits := range m.Bits {
			for _, group := range m.GroupSizes {
				all = append(all, Scheme{m.Mode, bits, group})
			}
		}
	}
	return all
}

var allFloats = []Float{F32, F16, BF16}

// alloc returns zeroed slices of the right lengths.
func alloc(s Scheme, t Float, rows, cols int) Packed {
	weight, scales, biases := s.Sizes(rows, cols, t)
	return Packed{make([]byte, weight), make([]byte, scales), make([]byte, biases)}
}

// difference describes the first differing byte of two tensors, or returns "".
func difference(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d of %d is %#02x, want %#02x", i, len(got), got[i], want[i])
		}
	}
	return ""
}
