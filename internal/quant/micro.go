package quant

import (
	"math"
)

// quantizeMicro is quantizeReference for mxfp4, mxfp8 and nvfp4.
func (s Scheme) quantizeMicro(dst Packed, src []byte, t Float, cols int) error {
	var buf group
	w := buf[:s.GroupSize]
	inBytes, outBytes := s.GroupSize*t.Size(), s.GroupSize*s.Bits/8
	for g := range len(src) / inBytes {
		sp := buf.load(src[g*inBytes:][:inBytes], t)
		if !sp.finite() {
			return nonFinite(src, t, cols)
		}
		stored, scale := s.floatScale(sp.largest(), t)
		out := dst.Weight[g*outBytes:][:outBytes]
		switch {
		case s.Mode == NVFP4 && scale < 448:
			packNV(out, w, scale, t)
		case s.Mode == NVFP4 || scale < 0x1p-126:
			// A saturated scale leaves huge quotients, to which all codes can be equally near in float32; a tiny one may have no reciprocal.
			s.quantizeGroupReference(dst, g, w, t)
		case s.Bits == 4:
			packMX4(out, w, 1/scale)
		default:
			packMX8(out, w, 1/scale)
		}
		dst.Scales[g] = stored
	}
	return nil
}

// e2m1Codes gives the E2M1 code by the sign, the exponent and the first two bits of the mantissa of the float32 just below a magnitude. Looking just below puts
// each tie into the interval of the smaller code. The first of each half stands for all magnitudes up to 1/4, that with index 18 for all above 5, as does
// what is behind it.
var e2m1Codes = [64]uint8{
	0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	0, 9, 9, 9, 9, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
}

// fastE2M1 is toE2M1 for the bits of a finite float32.
func fastE2M1(u uint32) uint32 {
	const first = 125<<2 - 1 // the interval below 1/4
	interval := (int32(u&0x7FFFFFFF) - 1) >> 21
	interval = min(max(interval, first), first+18) - first
	return uint32(e2m1Codes[(uint32(interval)|u>>31<<5)&63])
}

// packMX4 writes E2M1 codes. inverse is a power of two, so the products are exact quotients; what rounding to the source type could change is far below 1/4.
func packMX4(out []byte, w []float32, inverse float32) {
	for len(w) >= 8 && len(out) >= 4 {
		v := uint32(0)
		for k, x := range w[:8] {
			v |= fastE2M1(math.Float32bits(x*inverse)) << (4 * k & 31)
		}
		le.PutUint32(out, v)
		w, out = w[8:], out[4:]
	}
}

// packMX8 writes E4M3 codes; for the products see packMX4.
func packMX8(out []byte, w []float32, inverse float32) {
	for i, x := range w[:min(len(w), len(out))] {
		out[i] = fastE4M3(math.Float32bits(x * inverse))
	}
}

// fastE4M3 is toE4M3 for the bits of a finite float32. In the subnormal range 2^14 is added: there a float32 has exactly 2^-9 as its unit.
func fastE4M3(u uint32) byte {
	sign, a := byte(u>>24&0x80), u&0x7FFFFFFF
	if a >= 0x43E00000 { // 448
		return sign | 0x7E
	}
	if a < 121<<23 {
		return sign | byte(math.Float32bits(math.Float32frombits(a)+0x1p14))
	}
	return sign | byte((a-120<<23+0x7FFFF+a>>20&1)>>20)
}

// packNV writes the E2M1 codes of quotients that are first rounded to t, which can move a quotient onto a tie.
func packNV(out []byte, w []float32, scale float32, t Float) {
	if scale == 0 { // every quotient is infinite or NaN
		clear(out)
		return
	}
	drop, odd := uint(0), uint32(0) // bits that t has not, for magnitudes where the code is not 0
	switch t {
	case F16:
		drop, odd = 13, 1
	case BF16:
		drop, odd = 16, 1
	}
	mask := uint32(1)<<drop - 1
	half := mask >> 1
	for len(w) >= 8 && len(out) >= 4 {
		v := uint32(0)
		for k, x := range w[:8] {
			u := math.Float32bits(x / scale)
			u = (u + half + u>>(drop&31)&odd) &^ mask
			v |= fastE2M1(u) << (4 * k & 31)
		}
		le.PutUint32(out, v)
		w, out = w[8:], out[4:]
	}
}
