package tensor

import "math"

// exp32 is e to the x in float32, within 0.9 units in the last place, subnormal results included: 0 below -103.98, infinite above 88.73. x is n*ln 2 + r; a polynomial of r, the best of its degree for a relative
// error, is 3e-9 off at most, and multiplied with 2^n.
func exp32(x float32) float32 {
	const shift = 3 << 22 // added to a number below 2^22, it leaves a whole number in the last bits
	switch {
	case x != x:
		return x
	case x > 89:
		x = 89
	case x < -104:
		x = -104
	}
	sum := fma(x, math.Log2E, shift)
	n := sum - shift
	r := fma(-n, 0x1.62e4p-1, x) // this part of ln 2 has so few bits that the product is exact
	r = fma(-n, 0x1.7f7d1cp-20, r)
	p := fma(0x1.6a2434p-10, r, 0x1.1239e2p-07)
	p = fma(p, r, 0x1.5558f2p-05)
	p = fma(p, r, 0x1.555492p-03)
	p = fma(p, r, 0x1.fffffcp-02)
	p = fma(p, r, 1)
	p = fma(p, r, 1)
	// two powers of two, because an exponent does not hold -150; only the second product can round
	k := int32(math.Float32bits(sum) - math.Float32bits(shift))
	return float32(float32(p*power2(k>>1)) * power2(k-k>>1))
}

// power2 is 2^n for an n from -126 to 127.
func power2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// exps replaces numbers by their exponentials.
func exps(x []float32) {
	if n := whole(len(x)); n > 0 && active.exps != nil {
		active.exps(&x[0], n/16)
		x = x[n:]
	}
	for i, v := range x {
		x[i] = exp32(v)
	}
}
