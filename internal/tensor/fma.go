package tensor

import "math"

// fma is a*b + c with one rounding, as the instructions of processors make it. The product of two float32 is exact in float64; the sum is rounded to float64 and then to float32, and only where
// the first rounding ends in the middle between two float32 can the second go wrong.
func fma(a, b, c float32) float32 {
	product := float64(float64(a) * float64(b))
	sum := product + float64(c)
	if bits := math.Float64bits(sum); bits&(1<<29-1) != 1<<28 && (bits>>52&0x7FF) > 1023-126 {
		return float32(sum)
	}
	return float32(roundToOdd(product, float64(c), sum))
}

// roundToOdd is sum, the rounded a + b, with its last bit set where the sum is not exact: then rounding to anything shorter is right.
func roundToOdd(a, b, sum float64) float64 {
	if math.IsInf(sum, 0) || sum != sum {
		return sum
	}
	// what was lost (Knuth's two-sum)
	back := sum - a
	lost := (a - (sum - back)) + (b - back)
	bits := math.Float64bits(sum)
	if lost == 0 || bits&1 == 1 {
		return sum
	}
	// sum is even and the true value beside it, on the side of lost: the odd number there is nearer to it than any other
	if (lost > 0) == (sum > 0) {
		return math.Float64frombits(bits + 1)
	}
	return math.Float64frombits(bits - 1)
}
