package tensor

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

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

func randomInput(r *rand.Rand, n, cols int, a Arithmetic, matrices ...*Matrix) *Input {
	in := NewInput(n, cols, a, matrices...)
	in.Begin(n)
	for t := range n {
		row := in.Row(t)
		for i := range row {
			row[i] = float32(r.NormFloat64())
		}
	}
	in.Seal(0, in.Pieces(), NewScratch())
	return in
}

var arithmetics = map[string]Arithmetic{"float32": Float32, "fast": Fast, "int8": Int8}

// relativeError of a row's product, of the root of the sum of squares of its parts.
var relativeError = map[Arithmetic]float64{Float32: 2e-6, Fast: 2e-4, Int8: 5e-2}

// TestMulIsTheReference holds every way of Mul to the plain one, bit for bit, and that one to exact arithmetic.
func TestMulIsTheReference(t *testing.T) {
	atEachLevelAndTiles(t, func(t *testing.T) {
		for _, kind := range kinds() {
			t.Run(kind.name(), func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				for _, shape := range [][3]int{{3, 128, 1}, {150, 640, 1}, {131, 384, 3}, {9, 256, 6}, {5, 100, 1}, {2, 1, 2}, {16, 384, 9}, {33, 576, 12}, {3, 70, 13}, {64, 128, 25}} {
					rows, cols, n := shape[0], shape[1], shape[2]
					if kind.Scheme.Mode != "" && cols%kind.Scheme.GroupSize != 0 {
						continue
					}
					m := randomMatrix(t, r, rows, cols, kind.Float, kind.Scheme)
					for _, a := range arithmetics {
						checkMul(t, m, randomInput(r, n, cols, a, m), n)
					}
				}
			})
		}
	})
}

func checkMul(t *testing.T, m *Matrix, in *Input, n int) {
	t.Helper()
	pool := NewPool(2)
	defer pool.Close()
	asStored := make([]float32, n*m.Rows)
	m.Mul(asStored, m.Rows, in, 0, m.Rows, NewScratch())
	var arena Arena
	defer arena.Release()
	laid := *m // m stays as it is stored, and is multiplied again when the arena is gone
	m = &laid
	m.Lay(pool, &arena)
	got := make([]float32, n*m.Rows)
	m.Mul(got, m.Rows, in, 0, m.Rows, NewScratch())
	equalBits(t, "not laid out before", asStored, got)
	parts, s, cut := make([]float32, n*m.Rows), NewScratch(), m.Rows/3/panelRows*panelRows
	m.Mul(parts, m.Rows, in, 0, cut, s)
	m.Mul(parts, m.Rows, in, cut, m.Rows, s)
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
			if math.Abs(sum-float64(want)) > relativeError[in.arithmetic]*size+1e-12 {
				t.Fatalf("%d x %d: row %d is %v, exactly %v (sum of magnitudes %v)", m.Rows, m.Cols, row, want, sum, size)
			}
		}
	}
}

// TestMulTogether has workers multiply parts of a matrix at the same time, while garbage is collected: what they compute with is each one's own.
func TestMulTogether(t *testing.T) {
	atEachLevelAndTiles(t, func(t *testing.T) {
		const rows, cols, vectors = 256, 256, 20
		r := rand.New(rand.NewPCG(7, 8))
		m := randomMatrix(t, r, rows, cols, quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64})
		in := randomInput(r, vectors, cols, Fast, m)
		want := make([]float32, vectors*rows)
		m.Mul(want, rows, in, 0, rows, NewScratch())
		pool := NewPool(4)
		defer pool.Close()
		for range 5 {
			got := make([]float32, vectors*rows)
			pool.Run(func(share int) {
				lo, hi := pool.Share(share, rows, m.Unit(in))
				m.Mul(got, rows, in, lo, hi, NewScratch())
				runtime.GC()
			})
			equalBits(t, "together", got, want)
		}
	})
}

func FuzzMul(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(3), uint8(2), uint8(1))
	f.Add(uint64(2), uint8(11), uint8(200), uint8(3), uint8(1))
	f.Add(uint64(3), uint8(40), uint8(20), uint8(5), uint8(27))
	f.Fuzz(func(t *testing.T, seed uint64, kind, rows, groups, vectors uint8) {
		all := kinds()
		k := all[int(kind)%len(all)]
		cols := int(groups%9) + 1
		if k.Scheme.Mode != "" {
			cols *= k.Scheme.GroupSize
		} else {
			cols *= 37
		}
		n := int(vectors%29) + 1
		r := rand.New(rand.NewPCG(seed, 0))
		m := randomMatrix(t, r, int(rows)+1, cols, k.Float, k.Scheme)
		check := func(t *testing.T) {
			for _, a := range arithmetics {
				checkMul(t, m, randomInput(r, n, cols, a, m), n)
			}
		}
		check(t)
		withTiles(t, check)
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

// BenchmarkMul multiplies 16 different matrices in turn, so that weights come from memory as in decoding; shares are of a plain read of the same bytes in the same loop.
func BenchmarkMul(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		name string
		f    quant.Float
		s    quant.Scheme
	}{
		{"affine4", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}},
		{"affine8", quant.BF16, quant.Scheme{Mode: quant.Affine, Bits: 8, GroupSize: 64}},
		{"mxfp4", quant.BF16, quant.Scheme{Mode: quant.MXFP4, Bits: 4, GroupSize: 32}},
		{"nvfp4", quant.BF16, quant.Scheme{Mode: quant.NVFP4, Bits: 4, GroupSize: 16}},
		{"mxfp8", quant.BF16, quant.Scheme{Mode: quant.MXFP8, Bits: 8, GroupSize: 32}},
		{"bf16", quant.BF16, quant.Scheme{}},
		{"f16", quant.F16, quant.Scheme{}},
		{"f32", quant.F32, quant.Scheme{}},
	} {
		const rows, cols, count = 2048, 2048, 16
		pool := NewPool(1)
		one := randomMatrix(b, r, rows, cols, c.f, c.s)
		var all []*Matrix
		var arena Arena
		for range count {
			p := quant.Packed{Weight: bytes.Clone(one.Packed.Weight), Scales: one.Packed.Scales, Biases: one.Packed.Biases}
			m, err := NewMatrix(rows, cols, c.f, c.s, p)
			if err != nil {
				b.Fatal(err)
			}
			m.Lay(pool, &arena)
			all = append(all, m)
		}
		for _, a := range []string{"float32", "fast", "int8"} {
			for _, n := range []int{1, 8, 96} {
				b.Run(fmt.Sprintf("%s/%s/%d", c.name, a, n), func(b *testing.B) {
					in := randomInput(r, n, cols, arithmetics[a], one)
					dst, s := make([]float32, n*rows), NewScratch()
					var read, mul time.Duration
					i := 0
					for b.Loop() {
						m := all[i%count]
						i++
						start := time.Now()
						m.Mul(dst, rows, in, 0, rows, s)
						mul += time.Since(start)
						m = all[(i+count/2)%count]
						start = time.Now()
						readAll(m)
						read += time.Since(start)
					}
					b.ReportMetric(float64(b.N)*float64(one.Bytes())/mul.Seconds()/1e9, "GB/s")
					b.ReportMetric(100*read.Seconds()/mul.Seconds(), "%read")
					b.ReportMetric(float64(b.N)*float64(n*rows*cols)/mul.Seconds()/1e9, "GMAC/s")
				})
			}
		}
		arena.Release()
		pool.Close()
	}
}

var sink uint64

func readAll(m *Matrix) {
	data := m.panels
	if data == nil {
		data = m.Packed.Weight
	}
	var a, c, d, e uint64
	for len(data) >= 32 {
		a ^= le.Uint64(data)
		c ^= le.Uint64(data[8:])
		d ^= le.Uint64(data[16:])
		e ^= le.Uint64(data[24:])
		data = data[32:]
	}
	sink += a ^ c ^ d ^ e
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
