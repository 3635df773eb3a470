package stat

import (
	"math"
	"slices"
)

// Series says how far samples, in the order they were taken, can be trusted.
type Series struct {
	CV       float64 // standard deviation / mean
	Drift    float64 // change from the first to the last sample, relative to the median, by the median of all slopes
	Drifts   bool    // the change is large, and one way
	Outliers []int   // indexes of samples far from all others; they are kept
}

// Bounds of the classes: below 5 % of variation a series is stable, below 10 % variable, else unstable (asiai's classes); a drift of 5 % counts.
const (
	VariableCV = 0.05
	UnstableCV = 0.10
	DriftBound = 0.05
)

// Class of the variation: stable, variable, unstable.
func (s Series) Class() string {
	switch {
	case s.CV < VariableCV:
		return "stable"
	case s.CV < UnstableCV:
		return "variable"
	}
	return "unstable"
}

// outlierBound is hyperfine's: ten standard deviations, estimated by 1.4826 times the median absolute deviation.
const outlierBound = 10 * 1.4826

// Inspect samples in the order they were taken.
func Inspect(samples []float64) Series {
	var s Series
	n := len(samples)
	if n < 2 {
		return s
	}
	mean, m := Mean(samples), Median(samples)
	var squares float64
	for _, x := range samples {
		squares += (x - mean) * (x - mean)
	}
	s.CV = math.Sqrt(squares/float64(n-1)) / math.Abs(mean)
	deviation := RobustSigma(samples) / 1.4826
	for i, x := range samples {
		if deviation > 0 && math.Abs(x-m)/deviation > outlierBound {
			s.Outliers = append(s.Outliers, i)
		}
	}
	s.Drift, s.Drifts = drift(samples, m)
	return s
}

// drift is Theil and Sen's slope over the whole series, and whether Mann and Kendall's test finds it one way with 99 % confidence.
func drift(samples []float64, median float64) (float64, bool) {
	n := len(samples)
	var slopes []float64
	ups := 0.0
	for i := range samples {
		for j := range i {
			d := samples[i] - samples[j]
			slopes = append(slopes, d/float64(i-j))
			if d != 0 {
				ups += math.Copysign(1, d)
			}
		}
	}
	change := Median(slopes) * float64(n-1) / median
	spread := math.Sqrt(float64(n*(n-1)*(2*n+5)) / 18)
	return change, n >= 6 && math.Abs(change) >= DriftBound && (math.Abs(ups)-1)/spread > 2.576
}

// Mean of values.
func Mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// RobustSigma is 1.4826 times the median absolute deviation from the median: the standard deviation, where values are normal and a few are not.
func RobustSigma(values []float64) float64 {
	m := Median(values)
	away := make([]float64, len(values))
	for i, v := range values {
		away[i] = math.Abs(v - m)
	}
	return 1.4826 * Median(away)
}

// Settled reports whether the last two of a series are within tolerance of each other: the end of warming up.
func Settled(values []float64, tolerance float64) bool {
	n := len(values)
	if n < 2 {
		return false
	}
	last := values[n-2:]
	return slices.Max(last)-slices.Min(last) <= tolerance*slices.Min(last)
}

// HistoryNeeded is the number of earlier figures that a judgement across sessions needs.
const HistoryNeeded = 10

// JudgeHistory holds a figure against accepted ones of other sessions, in which a machine may be a few per cent faster or slower for no reason that anybody sees: it is worse only beyond four robust standard
// deviations of those, 10 %, and the tolerance; bound is the largest of them. accepted has at least HistoryNeeded figures.
func JudgeHistory(now Interval, accepted []float64, higher bool, tolerance float64) (worse Interval, v Verdict, bound float64) {
	m := Median(accepted)
	worse = now
	worse.Value, worse.Low, worse.High = now.Value/m, now.Low/m, now.High/m
	if higher {
		worse = worse.Inverse()
	}
	bound = max(tolerance, 0.10, 4*RobustSigma(accepted)/m)
	return worse, Judge(worse, bound), bound
}
