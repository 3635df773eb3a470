package tensor

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// fmaBig is a*b + c in exact arithmetic, rounded once; a, b and c are finite and the result not zero.
func fmaBig(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(600).SetFloat64(float64(a))
	x.Mul(x, new(big.Float).SetFloat64(float64(b)))
	x.Add(x, new(big.Float).SetFloat64(float64(c)))
	f, _ := x.Float32()
	return f
}

func checkFMA(t *testing.T, a, b, c float32) {
	t.Helper()
	got := fma(a, b, c)
	if a-a != 0 || b-b != 0 || c-c != 0 {
		want := float32(math.FMA(float64(a), float64(b), float64(c))) // nothing is rounded
		if got != want && (got == got || want == want) {
			t.Errorf("fma(%g, %g, %g) is %g, not %g", a, b, c, got, want)
		}
		return
	}
	if want := fmaBig(a, b, c); got != want {
		t.Errorf("fma(%x, %x, %x) is %x, not %x", a, b, c, got, want)
	}
}

func TestFMA(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	any := func() float32 { return math.Float32frombits(rng.Uint32()) }
	for range 200000 {
		checkFMA(t, any(), any(), any())
		// products and sums of a size, where roundings meet
		a, b := math.Float32frombits(0x3F800000|rng.Uint32()>>9), math.Float32frombits(0x3F800000|rng.Uint32()>>9)
		c := math.Float32frombits(uint32(rng.IntN(60)+100)<<23 | rng.Uint32()>>9)
		checkFMA(t, a, b, c)
		checkFMA(t, a, -b, c)
		// results that are subnormal
		checkFMA(t, a*0x1p-70, b*0x1p-70, math.Float32frombits(rng.Uint32()&0x807FFFFF))
	}
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x3F800001), uint32(0x3F800001), uint32(0x33800000))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		checkFMA(t, math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c))
	})
}
