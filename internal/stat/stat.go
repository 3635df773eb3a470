// Package stat is the arithmetic of repeated measurements: a median with its interval, the ratio of two sides measured in turn, and whether a series can be trusted.
package stat

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a figure and where it lies with 95 % confidence. Level is what was reached: few samples cannot reach 95 %.
type Interval struct {
	Value, Low, High float64
	N                int
	Level            float64
}

// Level that intervals aim at.
const Level = 0.95

// HalfWidth of an interval is its longer side, relative to its value; 0 without one, infinite around 0.
func (i Interval) HalfWidth() float64 {
	if i.High == i.Low {
		return 0
	}
	return max(i.High-i.Value, i.Value-i.Low) / math.Abs(i.Value)
}

// Resamples of a bootstrap.
const Resamples = 10_000

// source draws the same numbers for the same samples, so that a figure can be computed again.
func source(n int) *rand.Rand { return rand.New(rand.NewPCG(0x6d6c78, uint64(n))) }

// Of is the median of samples with a percentile bootstrap. One sample has no interval.
func Of(samples []float64) Interval {
	n := len(samples)
	if n == 0 {
		return Interval{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	m := Median(samples)
	out := Interval{Value: m, Low: m, High: m, N: n}
	if n == 1 || m != m {
		return out
	}
	rng, draws, again := source(n), make([]float64, Resamples), make([]float64, n)
	for i := range draws {
		draws[i] = redraw(rng, again, samples)
	}
	out.Low, out.High = ends(draws)
	out.Level = min(Level, 1-2*math.Pow(0.5, float64(n)))
	return out
}

// Ratio of the medians of two series that were not measured in turn, with a percentile bootstrap of both.
func Ratio(a, b []float64) Interval {
	if len(a) == 0 || len(b) == 0 {
		return Of(nil)
	}
	r := Median(a) / Median(b)
	n := min(len(a), len(b))
	out := Interval{Value: r, Low: r, High: r, N: n}
	if n == 1 || r != r {
		return out
	}
	rng, draws := source(n), make([]float64, Resamples)
	againA, againB := make([]float64, len(a)), make([]float64, len(b))
	for i := range draws {
		draws[i] = redraw(rng, againA, a) / redraw(rng, againB, b)
	}
	out.Low, out.High = ends(draws)
	out.Level = min(Level, 1-2*math.Pow(0.5, float64(n)))
	return out
}

// redraw is the median of as many samples drawn with replacement.
func redraw(rng *rand.Rand, into, samples []float64) float64 {
	for i := range into {
		into[i] = samples[rng.IntN(len(samples))]
	}
	slices.Sort(into)
	return middle(into)
}

// ends are the 2.5th and 97.5th percentile.
func ends(draws []float64) (low, high float64) {
	slices.Sort(draws)
	return Quantile(draws, (1-Level)/2), Quantile(draws, (1+Level)/2)
}

// Median of values; the mean of both when two are in the middle.
func Median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return middle(sorted)
}

func middle(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Quantile of sorted values, linear between neighbours as NumPy's.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// Paired is the ratio of a to b where a[i] and b[i] were measured one right after the other: the Hodges-Lehmann estimate of the log ratios with Wilcoxon's interval, both from the averages of all pairs of them
// (Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, 3.2 and 3.3). What changes slowly, such as heat, is in both sides of a pair and falls out; a few disturbed runs do not move it.
func Paired(a, b []float64) Interval {
	ratios := make([]float64, min(len(a), len(b)))
	for i := range ratios {
		ratios[i] = a[i] / b[i]
	}
	return OfRatios(ratios)
}

// OfRatios is Paired for ratios that are known already.
func OfRatios(ratios []float64) Interval {
	n := len(ratios)
	if n == 0 {
		return Of(nil)
	}
	logs := make([]float64, n)
	for i := range logs {
		logs[i] = math.Log(ratios[i])
	}
	averages := make([]float64, 0, n*(n+1)/2)
	for i := range logs {
		for j := range i + 1 {
			averages = append(averages, (logs[i]+logs[j])/2)
		}
	}
	slices.Sort(averages)
	cut, level := wilcoxon(n)
	return Interval{Value: math.Exp(middle(averages)), Low: math.Exp(averages[cut]), High: math.Exp(averages[len(averages)-1-cut]), N: n, Level: level}
}

// wilcoxon says how many of the averages to leave out at each end for an interval of at least 95 %, and what level that has; with fewer than six pairs it is all of them and less.
// The distribution of the signed-rank sum is counted exactly: ways[s] subsets of the ranks 1..n have the sum s.
func wilcoxon(n int) (cut int, level float64) {
	ways := make([]float64, n*(n+1)/2+1)
	ways[0] = 1
	for rank := 1; rank <= n; rank++ {
		for s := len(ways) - 1; s >= rank; s-- {
			ways[s] += ways[s-rank]
		}
	}
	all := math.Pow(2, float64(n))
	below := ways[0] / all // P(sum <= cut)
	for level = 1 - 2*below; cut+1 < len(ways)/2; cut++ {
		if below += ways[cut+1] / all; below > (1-Level)/2 {
			break
		}
		level = 1 - 2*below
	}
	return cut, max(level, 0)
}

// Verdict of a comparison.
type Verdict string

// The verdicts there are.
const (
	OK     Verdict = "ok"
	Slower Verdict = "slower" // the whole interval is beyond the tolerance
	Noisy  Verdict = "noisy"  // the interval is too wide to tell
)

// Judge a ratio that is larger than 1 when things got worse: slower only where the low end of the interval is beyond the tolerance, so that noise cannot fail a build.
func Judge(worse Interval, tolerance float64) Verdict {
	switch {
	case worse.Value != worse.Value, worse.Level < Level && worse.High > 1+tolerance: // fewer than six pairs say nothing
		return Noisy
	case worse.Low > 1+tolerance:
		return Slower
	case worse.High-worse.Low > 2*tolerance && worse.High > 1+tolerance:
		return Noisy
	}
	return OK
}

// Inverse is the interval of 1/x.
func (i Interval) Inverse() Interval {
	i.Value, i.Low, i.High = 1/i.Value, 1/i.High, 1/i.Low
	return i
}
