package metric

import (
	"math"

	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// Position is the comparison of two logit vectors of one position. Any number in it is NaN when a logit is NaN or infinite.
type Position struct {
	Abs       float64 // max |a - b|
	Rel       float64 // Abs / max |a|
	Prob      float64 // max |softmax(a) - softmax(b)|
	Cosine    float64 // 1 - cos(a, b)
	KL        float64 // sum of p (log p - log q), p = softmax(a), q = softmax(b), in nats
	Top1      bool    // the first of the largest is the same
	Top5      bool    // a's largest is among b's five largest
	Labelled  bool    // the token that stands there is known
	NLL       float64 // -log p(label) of a; 0 without a label
	OtherNLL  float64 // of b
	Largest   float64 // max |a|
	Best      int32   // index of a's largest
	OtherBest int32   // index of b's
	Gap       float64 // a[Best] - a[OtherBest]: how clearly the reference decided otherwise
}

// Comparer compares logit vectors one after the other. It is not safe for concurrent use.
type Comparer struct{ first, second []float64 } // exponentials of the two vectors at hand: taking them once halves the time

// Compare two logit vectors of equal length, a the reference's. label is the token that stands there, -1 for none.
func (c *Comparer) Compare(a, b []float32, label int) Position {
	if len(a) != len(b) || len(a) == 0 {
		panic("BUG: logit vectors of different vocabularies")
	}
	if len(c.first) != len(a) {
		c.first, c.second = make([]float64, len(a)), make([]float64, len(a))
	}
	var p Position
	first, second := survey(a, c.first), survey(b, c.second)
	if !first.finite || !second.finite {
		nan := math.NaN()
		return Position{Abs: nan, Rel: nan, Prob: nan, Cosine: nan, KL: nan, NLL: nan, OtherNLL: nan, Largest: nan, Best: int32(first.best), OtherBest: int32(second.best), Gap: nan}
	}
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		p.Abs = max(p.Abs, math.Abs(x-y))
		dot, aa, bb = dot+float64(x*y), aa+float64(x*x), bb+float64(y*y)
		pp, pq := c.first[i]/first.sum, c.second[i]/second.sum
		p.Prob = max(p.Prob, math.Abs(pp-pq))
		p.KL += float64(pp * ((x - first.logSum) - (y - second.logSum)))
	}
	p.Largest = first.largest
	if p.Abs > 0 {
		p.Rel = p.Abs / p.Largest
	}
	p.Cosine = distance(a, b, dot, aa, bb)
	p.KL = max(p.KL, 0) // rounding can leave -1e-17
	p.Best, p.OtherBest = int32(first.best), int32(second.best)
	p.Top1, p.Top5 = first.best == second.best, amongTop(b, first.best, 5)
	p.Gap = float64(a[first.best]) - float64(a[second.best])
	if label >= 0 {
		p.Labelled = true
		p.NLL, p.OtherNLL = first.logSum-float64(a[label]), second.logSum-float64(b[label])
	}
	return p
}

// survey is what one pass over a logit vector finds.
type surveyed struct {
	finite  bool
	best    int     // the first of the largest
	largest float64 // in magnitude
	sum     float64 // of exponentials, the largest logit subtracted before
	logSum  float64 // log of the sum of exponentials, without that
}

func survey(v []float32, exponentials []float64) surveyed {
	s := surveyed{finite: true}
	for i, x := range v {
		if x-x != 0 {
			s.finite = false
			continue
		}
		if x > v[s.best] || v[s.best]-v[s.best] != 0 {
			s.best = i
		}
		s.largest = max(s.largest, math.Abs(float64(x)))
	}
	if !s.finite {
		return s
	}
	top := float64(v[s.best])
	for i, x := range v {
		exponentials[i] = float64(x) - top // in a loop of its own: widening waits for what is in the register that it writes to, so for the exponential before
	}
	for i, x := range exponentials {
		e := exponential(x)
		exponentials[i] = e
		s.sum += e
	}
	s.logSum = top + tensor.Log(s.sum)
	return s
}

// distance is 1 - cos, by way of the difference of the unit vectors: 1 minus a number near 1 would have no digits left at 1e-12.
func distance(a, b []float32, dot, aa, bb float64) float64 {
	if aa == 0 || bb == 0 {
		if aa == bb {
			return 0
		}
		return 1
	}
	na, nb := math.Sqrt(aa), math.Sqrt(bb)
	if dot < 0.9*na*nb {
		return 1 - dot/(na*nb)
	}
	var d2 float64
	for i := range a {
		d := float64(a[i])/na - float64(b[i])/nb
		d2 += float64(d * d)
	}
	return d2 / 2
}

// amongTop reports whether fewer than n values are ranked before v[i]; of equals the lower index comes first.
func amongTop(v []float32, i, n int) bool {
	before := 0
	for j, x := range v {
		if x > v[i] || x == v[i] && j < i {
			if before++; before >= n {
				return false
			}
		}
	}
	return true
}
