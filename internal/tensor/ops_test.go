package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func near(t *testing.T, what string, got float32, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= tolerance) {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

func TestRMSNorm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 3, 64, 577} {
		x, w, got := normal(r, n), normal(r, n), make([]float32, n)
		RMSNorm(got, x, w, 1e-5)
		var sum float64
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		for i := range x {
			near(t, "RMSNorm", got[i], float64(x[i])/math.Sqrt(sum/float64(n)+1e-5)*float64(w[i]), 1e-6)
		}
	}
}

func TestSiLUMul(t *testing.T) {
	gate := []float32{-1000, -88, -1, 0, 1e-20, 1, 50, 1000}
	up, got := make([]float32, len(gate)), make([]float32, len(gate))
	for i := range up {
		up[i] = 1
	}
	SiLUMul(got, gate, up)
	for i, g := range gate {
		near(t, "SiLU", got[i], float64(g)/(1+math.Exp(-float64(g))), 1e-7*math.Abs(float64(g)))
	}
}

func TestRopeTurns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, traditional := range []bool{false, true} {
		rope := Rope{Inverse: []float64{1, 0.1, 0.01, 0}, Scale: 1.5, Traditional: traditional}
		cos, sin := make([]float32, 4), make([]float32, 4)
		rope.Angles(cos, sin, 37)
		x := normal(r, 8)
		got := append([]float32{}, x...)
		rope.Turn(got, cos, sin)
		for i, inverse := range rope.Inverse {
			a, b := i, i+4
			if traditional {
				a, b = 2*i, 2*i+1
			}
			s, c := math.Sincos(37 * inverse)
			near(t, "turned value", got[a], 1.5*(float64(x[a])*c-float64(x[b])*s), 1e-6)
			near(t, "turned value", got[b], 1.5*(float64(x[a])*s+float64(x[b])*c), 1e-6)
		}
	}
}
