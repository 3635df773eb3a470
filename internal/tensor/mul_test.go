package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// kinds are all ways in which a matrix can be stored.
func kinds() (out []Matrix) {
	for _, t := range []quant.Float{quant.F32, quant.F16, quant.BF16} {
		out = append(out, Matrix{Float: t})
		for _, m := range quant.Modes() {
			for _, bits := range m.Bits {
				for _, group := range m.GroupSizes {
					if m.Mode == quant.Affine || t == quant.BF16 {
						out = append(out, Matrix{Float: t, Scheme: quant.Scheme{Mode: m.Mode, Bits: bits, GroupSize: group}})
					}
				}
			}
		}
	}
	return out
}

func (m Matrix) name() string {
	if m.Scheme.Mode == "" {
		return m.Float.String()
	}
	return fmt.Sprintf("%s of %s", m.Scheme, m.Float)
}

// randomMatrix makes a matrix of normal values, and its exact values.
func randomMatrix(t testing.TB, r *rand.Rand, rows, cols int, f quant.Float, s quant.Scheme) *Matrix {
	t.Helper()
	values := make([]float32, rows*cols)
	for i := range values {
		values[i] = float32(r.NormFloat64() * 0.05)
	}
	src := make([]byte, len(values)*f.Size())
	f.Encode(src, values)
	p := quant.Packed{Weight: src}
	if s.Mode != "" {
		w, sc, b := s.Sizes(rows, cols, f)
		p = quant.Packed{Weight: make([]byte, w), Scales: make([]byte, sc), Biases: make([]byte, b)}
		if err := s.Quantize(p, src, f, rows, cols); err != nil {
			t.Fatal(err)
		}
	}
	m, err := NewMatrix(rows, cols, f, s, p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func randomInput(r *rand.Rand, n, cols int) *Input {
	in := NewInput(n, cols)
	in.Pack = true
	for t := range n {
		row := in.Row(t)
		for i := range row {
			row[i] = float32(r.NormFloat64())
		}
		in.Seal(t)
	}
	return in
}

// TestMulIsTheReference holds every way of Mul to the plain one, bit for bit, and that one to exact arithmetic.
func TestMulIsTheReference(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for _, shape := range [][3]int{{3, 128, 1}, {150, 640, 1}, {131, 384, 3}, {9, 256, 6}, {5, 100, 1}, {2, 1, 2}, {11, 384, 9}, {1, 100, 4}, {3, 70, 13}} {
				rows, cols, n := shape[0], shape[1], shape[2]
				if kind.Scheme.Mode != "" && cols%kind.Scheme.GroupSize != 0 {
					continue
				}
				m, in := randomMatrix(t, r, rows, cols, kind.Float, kind.Scheme), randomInput(r, n, cols)
				checkMul(t, m, in, n)
			}
		})
	}
}

// checkMul compares with assembly and without.
func checkMul(t *testing.T, m *Matrix, in *Input, n int) {
	t.Helper()
	before := useFour
	defer func() { useFour = before }()
	for _, on := range []bool{false, haveFour} {
		useFour = on
		checkMulAsIs(t, m, in, n)
	}
}

func checkMulAsIs(t *testing.T, m *Matrix, in *Input, n int) {
	t.Helper()
	got := make([]float32, n*m.Rows)
	m.Mul(got, m.Rows, in, Vectors{0, n}, 0, m.Rows, NewScratch(m.Cols))
	parts, s := make([]float32, n*m.Rows), NewScratch(m.Cols)
	for t := range n { // the same in parts
		m.Mul(parts, m.Rows, in, Vectors{t, t + 1}, 0, m.Rows/3, s)
		m.Mul(parts, m.Rows, in, Vectors{t, t + 1}, m.Rows/3, m.Rows, s)
	}
	exact := make([]float32, m.Cols)
	for row := range m.Rows {
		m.Row(exact, row)
		for k := range n {
			want := mulReference(m, in, row, k)
			if have := got[k*m.Rows+row]; math.Float32bits(have) != math.Float32bits(want) {
				t.Fatalf("%d x %d, %d vectors: row %d of vector %d is %v, the reference %v", m.Rows, m.Cols, n, row, k, have, want)
			}
			if have := parts[k*m.Rows+row]; math.Float32bits(have) != math.Float32bits(want) {
				t.Fatalf("%d x %d, in parts: row %d of vector %d is %v, the reference %v", m.Rows, m.Cols, row, k, have, want)
			}
			var sum, size float64
			for i, x := range in.Row(k) {
				sum += float64(x) * float64(exact[i])
				size += math.Abs(float64(x) * float64(exact[i]))
			}
			if math.Abs(sum-float64(want)) > 1e-6*size+1e-12 {
				t.Fatalf("%d x %d: row %d is %v, exactly %v (sum of magnitudes %v)", m.Rows, m.Cols, row, want, sum, size)
			}
		}
	}
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(3), uint8(2), uint8(1))
	f.Add(uint64(2), uint8(11), uint8(200), uint8(3), uint8(1))
	f.Fuzz(func(t *testing.T, seed uint64, kind, rows, groups, vectors uint8) {
		all := kinds()
		k := all[int(kind)%len(all)]
		cols := int(groups%9) + 1
		if k.Scheme.Mode != "" {
			cols *= k.Scheme.GroupSize
		} else {
			cols *= 37
		}
		n := int(vectors%11) + 1
		r := rand.New(rand.NewPCG(seed, 0))
		checkMul(t, randomMatrix(t, r, int(rows)+1, cols, k.Float, k.Scheme), randomInput(r, n, cols), n)
	})
}

func TestNewMatrixRefuses(t *testing.T) {
	affine := quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}
	for name, f := range map[string]func() (*Matrix, error){
		"short": func() (*Matrix, error) {
			return NewMatrix(2, 3, quant.F32, quant.Scheme{}, quant.Packed{Weight: make([]byte, 23)})
		},
		"no rows": func() (*Matrix, error) { return NewMatrix(0, 3, quant.F32, quant.Scheme{}, quant.Packed{}) },
		"short scales": func() (*Matrix, error) {
			return NewMatrix(1, 64, quant.BF16, affine, quant.Packed{Weight: make([]byte, 32), Scales: make([]byte, 1), Biases: make([]byte, 2)})
		},
		"odd columns": func() (*Matrix, error) { return NewMatrix(1, 96, quant.BF16, affine, quant.Packed{}) },
		"7 bits": func() (*Matrix, error) {
			return NewMatrix(1, 64, quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 7, GroupSize: 64}, quant.Packed{})
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkMul(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name string
		f    quant.Float
		s    quant.Scheme
	}{
		{"affine4", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}},
		{"affine8", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 8, GroupSize: 64}},
		{"affine3", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 3, GroupSize: 64}},
		{"affine6", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 6, GroupSize: 64}},
		{"mxfp4", quant.BF16, quant.Scheme{Mode: quant.MXFP4, Bits: 4, GroupSize: 32}},
		{"nvfp4", quant.BF16, quant.Scheme{Mode: quant.NVFP4, Bits: 4, GroupSize: 16}},
		{"bf16", quant.BF16, quant.Scheme{}},
		{"f32", quant.F32, quant.Scheme{}},
	} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				m, in := randomMatrix(b, r, 1536, 576, c.f, c.s), randomInput(r, n, 576)
				dst, s := make([]float32, n*m.Rows), NewScratch(m.Cols)
				m.Mul(dst, m.Rows, in, Vectors{0, n}, 0, m.Rows, s) // what is made once
				b.ReportAllocs()
				for b.Loop() {
					m.Mul(dst, m.Rows, in, Vectors{0, n}, 0, m.Rows, s)
				}
				b.ReportMetric(float64(b.N)*float64(n*m.Rows*m.Cols)/b.Elapsed().Seconds()/1e9, "GMAC/s")
			})
		}
	}
}

// TestRow64 decodes rows in float64: plain values exactly, quantized ones as scale*code + bias without rounding between, so within float32's rounding of the float32 rows.
func TestRow64(t *testing.T) {
	for _, kind := range kinds() {
		r := rand.New(rand.NewPCG(5, 6))
		m := randomMatrix(t, r, 4, 256, kind.Float, kind.Scheme)
		want, got, s := make([]float32, m.Cols), make([]float64, m.Cols), NewScratch64(m.Cols)
		for row := range m.Rows {
			m.Row(want, row)
			m.Row64(got, row, s)
			var largest float64
			for _, w := range want {
				largest = max(largest, math.Abs(float64(w)))
			}
			for i, w := range want {
				if off := math.Abs(got[i] - float64(w)); off > 1e-2*largest || kind.Scheme.Mode == "" && off != 0 {
					t.Fatalf("%s: value %d of row %d is %v, %v in float32", kind.name(), i, row, got[i], w)
				}
			}
		}
	}
}
