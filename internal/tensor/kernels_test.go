package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

// generic runs something without assembly.
func generic(work func()) {
	before := useFour
	useFour = false
	defer func() { useFour = before }()
	work()
}

func sameBits(t *testing.T, what string, a, b []float32) {
	t.Helper()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: value %d is %v by assembly and %v without", what, i, a[i], b[i])
		}
	}
}

// checkAttend compares attention over a random cache with and without assembly.
func checkAttend(t *testing.T, r *rand.Rand, d, positions int) {
	t.Helper()
	kv := NewKV(KVShape{Layers: 1, Heads: 2, HeadDim: d})
	kv.Grow(positions)
	query, scores := make([]float32, d), make([]float32, (positions/PagePositions+1)*PagePositions)
	for i := range query {
		query[i] = float32(r.NormFloat64())
	}
	for p := range positions {
		for h := range 2 {
			for i := range d {
				kv.Key(0, h, p)[i], kv.Value(0, h, p)[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
			}
		}
	}
	lo := r.IntN(positions)
	got, want := make([]float32, d), make([]float32, d)
	kv.Attend(got, query, 0, 1, lo, positions, 0.125, scores)
	generic(func() { kv.Attend(want, query, 0, 1, lo, positions, 0.125, scores) })
	sameBits(t, "attention", got, want)
}

func TestAttendByAssembly(t *testing.T) {
	if !haveFour {
		t.Skip("this CPU has no assembly here")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, d := range []int{2, 8, 12, 16, 64, 80, 128} {
		for _, positions := range []int{1, 2, 3, 4, 5, PagePositions - 1, PagePositions, PagePositions + 3, 3*PagePositions + 1} {
			checkAttend(t, r, d, positions)
		}
	}
}

func FuzzAttend(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, d, positions uint8) {
		checkAttend(t, rand.New(rand.NewPCG(seed, 0)), int(d)%160+1, int(positions)+1)
	})
}
