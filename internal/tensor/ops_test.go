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

func TestAttend(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	shape := KVShape{Layers: 2, Heads: 3, HeadDim: 10}
	kv := NewKV(shape)
	const positions = 2*PagePositions + 9
	kv.Grow(positions)
	for p := range positions {
		for h := range shape.Heads {
			copy(kv.Key(1, h, p), normal(r, shape.HeadDim))
			copy(kv.Value(1, h, p), normal(r, shape.HeadDim))
		}
	}
	scores, got := make([]float32, 3*PagePositions), make([]float32, shape.HeadDim)
	for _, span := range [][2]int{{0, 1}, {0, 7}, {0, positions}, {3, 11}, {250, 259}, {255, positions}} {
		lo, hi := span[0], span[1]
		query := normal(r, shape.HeadDim)
		kv.Attend(got, query, 1, 2, lo, hi, 0.5, scores)
		want, total := make([]float64, shape.HeadDim), 0.0
		for p := lo; p < hi; p++ {
			var s float64
			for i, k := range kv.Key(1, 2, p) {
				s += float64(k) * float64(query[i])
			}
			e := math.Exp(s * 0.5)
			total += e
			for i, v := range kv.Value(1, 2, p) {
				want[i] += e * float64(v)
			}
		}
		for i := range want {
			near(t, "attention", got[i], want[i]/total, 2e-6)
		}
	}
	if kv.Bytes() != 3*shape.PageBytes() {
		t.Errorf("%d bytes for 3 pages of %d", kv.Bytes(), shape.PageBytes())
	}
}

func TestDot(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 40 {
		a, b := normal(r, n), normal(r, n)
		var want float64
		for i := range a {
			want += float64(a[i]) * float64(b[i])
		}
		near(t, "Dot", Dot(a, b), want, 1e-5)
	}
}
