package tensor

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

func TestMathIsAccurate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(name string, x, got, want, ulps float64) {
		t.Helper()
		if !(math.Abs(got-want) <= ulps*0x1p-52*math.Max(math.Abs(want), 0x1p-1022)) {
			t.Fatalf("%s(%v) = %v, want %v", name, x, got, want)
		}
	}
	for range 200000 {
		x := r.NormFloat64() * math.Pow(10, r.Float64()*4-2)
		if x > -707 && x < 709 {
			check("Exp", x, Exp(x), math.Exp(x), 2)
		}
		x = math.Exp(r.NormFloat64() * 50)
		check("Log", x, Log(x), math.Log(x), 2)
		x = r.Float64() * math.Pow(10, r.Float64()*9-2)
		if x < MaxAngle {
			s, c := SinCos(x)
			ws, wc := math.Sincos(x)
			if math.Abs(s-ws) > 4e-16 || math.Abs(c-wc) > 4e-16 {
				t.Fatalf("SinCos(%v) = %v, %v, want %v, %v", x, s, c, ws, wc)
			}
		}
		b, e := 1+r.Float64()*1e6, r.Float64()*2
		check("Pow", b, Pow(b, e), math.Pow(b, e), 64)
	}
}

func TestMathEdges(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct{ got, want float64 }{
		{Exp(0), 1}, {Exp(-inf), 0}, {Exp(-800), 0}, {Exp(inf), inf}, {Exp(710), inf}, {Exp(nan), nan}, {Exp(709.7), math.Exp(709.7)},
		{Log(1), 0}, {Log(0), -inf}, {Log(-1), nan}, {Log(inf), inf}, {Log(nan), nan},
	} {
		if c.got != c.want && !(math.IsNaN(c.got) && math.IsNaN(c.want)) && math.Abs(c.got-c.want) > 1e-15*math.Abs(c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	s, c := SinCos(0)
	if s != 0 || c != 1 {
		t.Errorf("SinCos(0) = %v, %v", s, c)
	}
}

// TestMathBits holds every machine to the same bits: the hash was made on amd64.
func TestMathBits(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	h := fnv.New64a()
	add := func(v float64) {
		u := math.Float64bits(v)
		h.Write([]byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24), byte(u >> 32), byte(u >> 40), byte(u >> 48), byte(u >> 56)})
	}
	for range 20000 {
		x := float64(r.Float64()*40) - 20
		add(Exp(x))
		add(Log(float64(x*x) + 1e-3))
		s, c := SinCos(math.Abs(float64(x * 1000)))
		add(s)
		add(c)
		add(Pow(500000, float64(x/20)))
	}
	if got := h.Sum64(); got != mathBits {
		t.Errorf("the hash of 100000 results is %#x, on the first machine it was %#x", got, uint64(mathBits))
	}
}

const mathBits = 0x9c41c09abbfc4413
