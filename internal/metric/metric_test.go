package metric

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// logits of a made-up model.
func logits(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64() * 3)
	}
	return out
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within*max(1, math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestCompareByHand(t *testing.T) {
	// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2)
	a := []float32{float32(math.Log(2)), 0, 0}
	b := []float32{0, 0, float32(math.Log(2))}
	p := new(Comparer).Compare(a, b, 1)
	near(t, "abs", p.Abs, math.Log(2), 1e-7)
	near(t, "rel", p.Rel, 1, 1e-7)
	near(t, "prob", p.Prob, 0.25, 1e-7)
	near(t, "KL", p.KL, 0.25*math.Log(2), 1e-7)
	near(t, "cosine", p.Cosine, 1, 1e-7)
	near(t, "NLL", p.NLL, math.Log(4), 1e-7)
	near(t, "gap", p.Gap, math.Log(2), 1e-7)
	if p.Top1 || !p.Top5 || p.Best != 0 || p.OtherBest != 2 {
		t.Errorf("%+v", p)
	}
	if p := new(Comparer).Compare(a, a, -1); p.Abs != 0 || p.Rel != 0 || p.KL != 0 || p.Cosine != 0 || !p.Top1 || !p.Top5 || p.Labelled {
		t.Errorf("against itself: %+v", p)
	}
}

func TestSmallDistancesKeepTheirDigits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := logits(rng, 4096)
	b := slices.Clone(a)
	var d2, n2 float64
	for i := range b {
		b[i] += float32(1e-5 * rng.NormFloat64())
		d2 += (float64(b[i]) - float64(a[i])) * (float64(b[i]) - float64(a[i]))
		n2 += float64(a[i]) * float64(a[i])
	}
	p := new(Comparer).Compare(a, b, -1)
	if want := d2 / n2 / 2; p.Cosine < want*0.9 || p.Cosine > want*1.1 {
		t.Errorf("1-cos is %v, by the rule of thumb %v", p.Cosine, want)
	}
	if p.KL <= 0 || p.KL > 1e-9 {
		t.Errorf("KL is %v", p.KL)
	}
}

func TestHugeLogits(t *testing.T) {
	p := new(Comparer).Compare([]float32{3e38, 1}, []float32{-3e38, 1}, 0)
	if !(p.KL > 1e38) || p.Prob != 1 || p.NLL != 0 || p.OtherNLL < 1e38 {
		t.Errorf("%+v", p)
	}
}

func TestNaNIsEverywhere(t *testing.T) {
	good := []float32{1, 2, 3}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, p := range []Position{new(Comparer).Compare([]float32{1, bad, 3}, good, 0), new(Comparer).Compare(good, []float32{bad, 1, 1}, 0)} {
			if !math.IsNaN(p.Abs) || !math.IsNaN(p.KL) || p.Top1 {
				t.Errorf("%v: %+v", bad, p)
			}
			c := []Chunk{{new(Comparer).Compare(good, good, 0)}, {p}}
			for name, v := range Parity(c) {
				if !math.IsNaN(float64(v.Value)) {
					t.Errorf("%v: %s is %v", bad, name, v.Value)
				}
			}
			if v := Fidelity(c, [2]uint64{1, 2}); !math.IsNaN(float64(v[KLDMean].Value)) || !math.IsNaN(float64(v[KLDP99].Value)) {
				t.Errorf("%v: %+v", bad, v)
			}
		}
	}
}

func TestTop5CountsEqualsByIndex(t *testing.T) {
	flat := make([]float32, 10)
	for i, want := range []bool{true, true, true, true, true, false} {
		if amongTop(flat, i, 5) != want {
			t.Errorf("index %d of equal values", i)
		}
	}
}

// chunks of random positions.
func chunks(rng *rand.Rand, n, positions int) (out []Chunk) {
	for range n {
		var c Chunk
		shift := rng.Float64() // what the tokens of one text have in common
		for range positions {
			c = append(c, Position{KL: rng.ExpFloat64() * shift, Top1: rng.Float64() < 0.9, Top5: true, Labelled: true, NLL: 2 + rng.Float64(), OtherNLL: 2.1 + rng.Float64()})
		}
		out = append(out, c)
	}
	return out
}

func TestFidelityIsWhatNumPySays(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, positions := range []int{1, 2, 3, 100, 101} {
		c := chunks(rng, 7, positions)
		var kl []float64
		var sum float64
		for _, ch := range c {
			for _, p := range ch {
				kl = append(kl, p.KL)
				sum += p.KL
			}
		}
		sort.Float64s(kl)
		got := Fidelity(c, [2]uint64{1, 1})
		near(t, "mean", float64(got[KLDMean].Value), sum/float64(len(kl)), 1e-12)
		near(t, "median", float64(got[KLDMedian].Value), quantile(kl, 0.5), 1e-12)
		near(t, "p99", float64(got[KLDP99].Value), quantile(kl, 0.99), 1e-12)
		near(t, "max", float64(got[KLDMax].Value), kl[len(kl)-1], 0)
		if v := got[KLDMean]; v.Low > v.Value || v.High < v.Value || v.N != len(kl) {
			t.Errorf("%+v", v)
		}
	}
}

// TestIntervalCovers draws texts from a known distribution: about 95 of 100 intervals must hold the true mean. With 64 texts the percentile bootstrap comes to 94 or so.
func TestIntervalCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	hits := 0
	const trials = 100
	for i := range trials {
		v := Fidelity(chunks(rng, 64, 8), [2]uint64{uint64(i), 7})[KLDMean]
		if v.Low <= 0.5 && 0.5 <= v.High {
			hits++
		}
	}
	if hits < trials*88/100 || hits > trials*99/100 {
		t.Errorf("%d of %d intervals hold the mean", hits, trials)
	}
}

func TestSameSeedSameInterval(t *testing.T) {
	c := chunks(rand.New(rand.NewPCG(8, 9)), 10, 30)
	first, second := Fidelity(c, [2]uint64{1, 2}), Fidelity(c, [2]uint64{1, 2})
	other := Fidelity(c, [2]uint64{1, 3})
	if first[KLDMean] != second[KLDMean] || first[KLDMean] == other[KLDMean] {
		t.Errorf("%+v, %+v, %+v", first[KLDMean], second[KLDMean], other[KLDMean])
	}
}

func TestOneTextHasNoInterval(t *testing.T) {
	v := Fidelity(chunks(rand.New(rand.NewPCG(8, 9)), 1, 30), [2]uint64{1, 2})[KLDMean]
	if v.Interval || v.Low != v.Value {
		t.Errorf("%+v", v)
	}
	if got := Fidelity(nil, [2]uint64{}); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func BenchmarkCompare(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	x, y := logits(rng, 49152), logits(rng, 49152)
	var c Comparer
	for b.Loop() {
		c.Compare(x, y, 5)
	}
}

func BenchmarkFidelity(b *testing.B) {
	c := chunks(rand.New(rand.NewPCG(1, 2)), 64, 256)
	for b.Loop() {
		Fidelity(c, [2]uint64{1, 2})
	}
}
