package metric

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

// TestExponential compares with package math, and holds every machine to the same bits: the hash was made on amd64.
func TestExponential(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	h := fnv.New64a()
	for i := range 400000 {
		x := -float64(rng.Float64() * []float64{1e-9, 1, 30, 700}[i%4])
		got, want := exponential(x), math.Exp(x)
		if off := math.Abs(got-want) / (want * 0x1p-52); off > 2 {
			t.Fatalf("exponential(%v) is %v, %.2f units in the last place off %v", x, got, off, want)
		}
		u := math.Float64bits(got)
		h.Write([]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24), byte(u >> 32), byte(u >> 40), byte(u >> 48), byte(u >> 56)})
	}
	if got := h.Sum64(); got != exponentialBits {
		t.Errorf("the hash is %#x, on the first machine it was %#x", got, uint64(exponentialBits))
	}
	for x, want := range map[float64]float64{0: 1, math.Inf(-1): 0, -701: 0, -1e300: 0} {
		if got := exponential(x); got != want {
			t.Errorf("exponential(%v) is %v, want %v", x, got, want)
		}
	}
}

const exponentialBits = 0x3a7e3b049dfe84ff
