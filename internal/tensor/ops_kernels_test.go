package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// anyFloats are numbers of all kinds: of a usual size mostly, and subnormal ones, infinities, NaN, zeros of both signs and very large ones.
func anyFloats(rng *rand.Rand, n int) []float32 {
	out := randomFloats(rng, n)
	for i := range out {
		switch rng.IntN(24) {
		case 0:
			out[i] = math.Float32frombits(rng.Uint32())
		case 1:
			out[i] = math.Float32frombits(rng.Uint32() & 0x807FFFFF)
		case 2:
			out[i] = [...]float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, -math.MaxFloat32}[rng.IntN(7)]
		case 3:
			out[i] *= 100
		}
	}
	return out
}

// asReference runs something without kernels.
func asReference(work func()) {
	before := active
	defer func() { active = before }()
	active = kernels{}
	work()
}

// checkOps compares every operation with its reference on numbers from make.
func checkOps(t *testing.T, n int, rng *rand.Rand, make func(*rand.Rand, int) []float32) {
	t.Helper()
	a, b, c, d := make(rng, n), make(rng, n), make(rng, 2*n), make(rng, n)
	for name, work := range map[string]func(dst []float32){
		"RMSNorm":     func(dst []float32) { RMSNorm(dst, a, b, 1e-5) },
		"SiLUMul":     func(dst []float32) { SiLUMul(dst, a, b) },
		"Add":         func(dst []float32) { Add(dst, a) },
		"exps":        func(dst []float32) { exps(dst[:n]) },
		"Turn":        func(dst []float32) { (&Rope{Inverse: make64(n)}).Turn(dst, a, b) },
		"Traditional": func(dst []float32) { (&Rope{Inverse: make64(n), Traditional: true}).Turn(dst, a, b) },
		"blend":       func(dst []float32) { blend(dst, a, d[0], d[n-1]) },
		"mulVectors": func(dst []float32) {
			if n >= Block {
				mulVectors(dst, a, 2*n/Block)
			}
		},
		"scaleTo": func(dst []float32) { scaleTo(dst, a, d[0]) },
	} {
		got, want := append([]float32{}, c...), append([]float32{}, c...)
		work(got)
		asReference(func() { work(want) })
		equalBits(t, name, got, want)
	}
}

// TestNoKernelIsMissing: what a level's table has not is plain Go, with the same bits, and slow.
func TestNoKernelIsMissing(t *testing.T) {
	for _, l := range cpu.Levels() {
		if l == cpu.Generic {
			continue
		}
		k := kernelsOf(l)
		for _, name := range append(missing("", reflect.ValueOf(k.opsKernels)), missing("transpose", reflect.ValueOf(k.transpose))...) {
			if name != fmt.Sprintf(".pack[%d]", asFloats) { // there is nothing to pack
				t.Errorf("%s has no %s", l, name)
			}
		}
	}
}

// missing are the names of functions that are nil.
func missing(name string, v reflect.Value) (names []string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			names = append(names, missing(name+"."+v.Type().Field(i).Name, v.Field(i))...)
		}
	case reflect.Array:
		for i := range v.Len() {
			names = append(names, missing(fmt.Sprintf("%s[%d]", name, i), v.Index(i))...)
		}
	case reflect.Func:
		if v.IsNil() {
			names = append(names, name)
		}
	}
	return names
}

func make64(n int) []float64 { return make([]float64, n) }

func TestOpsAtEachLevel(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		for _, n := range []int{1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 576, 577} {
			for range 20 {
				checkOps(t, n, rng, randomFloats)
				checkOps(t, n, rng, anyFloats)
			}
		}
	})
}

func FuzzOps(f *testing.F) {
	f.Add(uint64(1), uint8(16))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		atEachLevel(t, func(t *testing.T) { checkOps(t, int(n)+1, rand.New(rand.NewPCG(seed, 0)), anyFloats) })
	})
}

// TestLargest compares with a loop, over some blocks.
func TestLargest(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		for round := range 300 {
			x := randomFloats(rng, 1+rng.IntN(3000))
			for range 3 { // equals, and signs of zero
				x[rng.IntN(len(x))] = x[rng.IntN(len(x))]
			}
			finite := true
			switch edge := &x[rng.IntN(len(x))]; round % 6 {
			case 1:
				*edge, finite = float32(math.NaN()), false
			case 2:
				*edge, finite = float32(math.Inf(1-2*(round%4/2))), false
			case 3:
				clear(x)
				*edge = -math.MaxFloat32
			}
			want := 0
			for i, v := range x {
				if v > x[want] {
					want = i
				}
			}
			got, all := Largest(x)
			if all != finite || finite && got != want {
				t.Fatalf("round %d, %d numbers: %d and %v, want %d and %v", round, len(x), got, all, want, finite)
			}
		}
	})
}

// TestExp32 goes over float32 in steps, all signs and sizes, and densely over where exponentials are neither 0 nor infinite.
func TestExp32(t *testing.T) {
	worst, at := 0.0, float32(0)
	check := func(x float32) {
		want := math.Exp(float64(x))
		got := float64(exp32(x))
		if want > math.MaxFloat32 || want < 0x1p-149 {
			if float32(want) != float32(got) {
				t.Fatalf("exp32(%x) is %x, want %x", x, got, want)
			}
			return
		}
		ulp := math.Ldexp(1, max(math.Ilogb(want)-23, -149))
		if e := math.Abs(got-want) / ulp; e > worst {
			worst, at = e, x
		}
	}
	for bits := uint32(0); bits < 0xFF800000; bits += 4999 {
		if x := math.Float32frombits(bits); x == x {
			check(x)
		}
	}
	for x := float32(-104); x < 89; x += 0x1p-14 {
		check(x)
	}
	t.Logf("at most %.3f units in the last place off, at %x", worst, at)
	if worst > 0.9 {
		t.Errorf("exp32(%x) is %.3f units in the last place off", at, worst)
	}
}

func TestExp32Edges(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct{ x, want float32 }{{0, 1}, {-inf, 0}, {-104, 0}, {-1e30, 0}, {inf, inf}, {89, inf}, {1e30, inf}, {nan, nan}, {-103.9, 0x1p-149}, {0x1p-149, 1}} {
		if got := exp32(c.x); got != c.want && (got == got || c.want == c.want) {
			t.Errorf("exp32(%g) is %g, not %g", c.x, got, c.want)
		}
	}
}

func BenchmarkOps(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 1536
	x, y, dst := randomFloats(rng, n), randomFloats(rng, n), make([]float32, n)
	rope := &Rope{Inverse: make([]float64, n/2), Scale: 1}
	cos, sin := make([]float32, n/2), make([]float32, n/2)
	rope.Angles(cos, sin, 0) // turned in place: nothing else would stay of its size
	for _, c := range []struct {
		name string
		work func()
	}{
		{"RMSNorm", func() { RMSNorm(dst, x, y, 1e-5) }}, {"SiLUMul", func() { SiLUMul(dst, x, y) }}, {"Add", func() { Add(dst, x) }},
		{"Turn", func() { rope.Turn(dst, cos, sin) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.work()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n*1000, "ns/1000")
		})
	}
}

// TestIntegersAtEachLevel holds the whole numbers of activations to stepReference, at the edges too.
func TestIntegersAtEachLevel(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 9))
		for round := range 400 {
			x := randomFloats(rng, Block)
			if round%2 == 1 {
				x = anyFloats(rng, Block)
			}
			switch edge := x[rng.IntN(Block):]; round % 10 {
			case 2:
				clear(x)
			case 4:
				edge[0] = inf
			case 6:
				edge[0] = -nan
			case 8:
				for i := range x {
					x[i] *= 0x1p-130
				}
			}
			for width := 1; width <= 2; width++ {
				var q [Block]int32
				var sums [Block / 16]int32
				step := integersOf(&q, &sums, x, width)
				wantStep, want := stepReference(x, 0, width)
				equalBits(t, "the step", []float32{step}, []float32{wantStep})
				for i, v := range q {
					if int64(v) != want[i] {
						t.Fatalf("%d bytes: number %d of %v is %d, not %d", width, i, x, v, want[i])
					}
				}
				for g, total := range sums {
					var sum int64
					for _, v := range want[g*16:][:16] {
						sum += v
					}
					if int64(total) != sum {
						t.Fatalf("%d bytes: sum %d is %d, not %d", width, g, total, sum)
					}
				}
			}
		}
	})
}
