package page

import "math"

// scale turns values into places on an axis. A place is always a number between the two ends.
type scale struct {
	lo, hi   float64 // values
	from, to float64 // places
	log      bool
	zero     float64 // place of 0 and below, which a logarithm has none for
}

func finite(vs ...float64) bool {
	for _, v := range vs {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// numbers are those of some values that are numbers.
func numbers(vs []float64) (out []float64) {
	for _, v := range vs {
		if finite(v) {
			out = append(out, v)
		}
	}
	return out
}

func extent(vs []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, v := range vs {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// linear is a scale with a little room at both ends. It spans at least a part of its values' size: noise must not look like a cliff.
func linear(vs []float64, least, from, to float64) scale {
	lo, hi := extent(numbers(vs))
	if lo > hi {
		lo, hi = 0, 1
	}
	room := max(hi/20-lo/20, (max(math.Abs(lo), math.Abs(hi))*least-(hi-lo))/2)
	if room == 0 {
		room = max(math.Abs(lo)/20, 1e-9)
	}
	keep := func(v float64) float64 { return min(max(v, -math.MaxFloat64), math.MaxFloat64) }
	low := keep(lo - room)
	if lo >= 0 && low < 0 {
		low = 0
	}
	return scale{lo: low, hi: keep(hi + room), from: from, to: to}
}

// logarithmic is a scale that is so where the values span more than ten times; 0 then gets a place of its own at the beginning.
func logarithmic(vs []float64, least, from, to float64) scale {
	lo, hi, zero := math.Inf(1), 0.0, false
	for _, v := range numbers(vs) {
		if v <= 0 {
			zero = true
			continue
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	if !(hi/10 > lo) {
		return linear(vs, least, from, to)
	}
	s := scale{lo: lo / 1.3, hi: min(hi, math.MaxFloat64/2) * 1.3, from: from, to: to, log: true, zero: from}
	if s.lo <= 0 {
		s.lo = math.SmallestNonzeroFloat64
	}
	if zero {
		s.from += (to - from) * .12
	}
	return s
}

func (s scale) at(v float64) float64 {
	if s.log && v <= 0 {
		return s.zero
	}
	lo, hi := s.lo/2, s.hi/2 // halves: the difference of two numbers need not be one
	v /= 2
	if s.log {
		lo, hi, v = math.Log(lo*2), math.Log(hi*2), math.Log(v*2)
	}
	part := (v - lo) / (hi - lo)
	if !(part > 0) { // NaN too
		part = 0
	}
	return s.from + (s.to-s.from)*min(part, 1)
}

// ticks are round values on a scale, about n of them.
func (s scale) ticks(n int) []float64 {
	if s.log {
		return s.decades(n)
	}
	span := s.hi/2 - s.lo/2
	step := math.Pow(10, math.Floor(math.Log10(span*2/float64(n))))
	if math.IsInf(span*2, 0) {
		step = math.Pow(10, math.Floor(math.Log10(span/float64(n)))) * 2
	}
	for _, f := range []float64{1, 2, 5, 10} {
		if step*f*float64(n) >= span*2 {
			step *= f
			break
		}
	}
	var out []float64
	first := math.Ceil(s.lo / step)
	for i := range 2*n + 2 {
		v := (first + float64(i)) * step
		if !finite(v) || v > s.hi || len(out) > 0 && v <= out[len(out)-1] {
			break
		}
		out = append(out, v)
	}
	return out
}

func (s scale) decades(n int) (out []float64) {
	lo, hi := int(math.Floor(math.Log10(s.lo))), int(math.Ceil(math.Log10(s.hi)))
	between := []float64{1}
	if hi-lo <= 4 {
		between = []float64{1, 3}
	}
	every := max(1, (hi-lo)/n)
	for e := lo; e <= hi; e += every {
		for _, f := range between {
			if v := f * math.Pow(10, float64(e)); v >= s.lo && v <= s.hi {
				out = append(out, v)
			}
		}
	}
	return out
}
