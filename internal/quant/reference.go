package quant

import (
	"math"
)

// This file is the arithmetic as MLX's CPU backend defines it (mlx 0.32.4, mlx/backend/cpu/quantized.cpp and the fp_quantize fallback of mlx/ops.cpp), written one
// element at a time for reading. It is slow and stays: the fast versions are tested against it, bit for bit, and fall back to it in rare cases.

// quantizeReference packs src group by group.
func (s Scheme) quantizeReference(dst Packed, src []byte, t Float, cols int) error {
	var w [128]float32
	group := w[:s.GroupSize]
	for g := range len(src) / (s.GroupSize * t.Size()) {
		t.Decode(group, src[g*s.GroupSize*t.Size():])
		for j, x := range group {
			if x-x != 0 {
				at := g*s.GroupSize + j
				return &NonFiniteError{Row: at / cols, Col: at % cols, Value: x}
			}
		}
		s.quantizeGroupReference(dst, g, group, t)
	}
	return nil
}

// quantizeGroupReference quantizes the finite weights w as group number g of dst.
func (s Scheme) quantizeGroupReference(dst Packed, g int, w []float32, t Float) {
	codes := dst.Weight[g*s.GroupSize*s.Bits/8:][:s.GroupSize*s.Bits/8]
	clear(codes)
	if s.Mode == Affine {
		scale, bias := affineGroup(w, s.Bits)
		t.put(dst.Scales, g, scale)
		t.put(dst.Biases, g, bias)
		for j, x := range w {
			putCode(codes, j, s.Bits, affineCode(x, scale, bias, s.Bits)) // with the scale and bias before they are rounded to t
		}
		return
	}
	var largest float32
	for _, x := range w {
		largest = max(largest, abs(x))
	}
	stored, scale := s.floatScale(largest, t)
	dst.Scales[g] = stored
	for j, x := range w {
		v := t.round(x / scale)
		if s.Bits == 8 {
			putCode(codes, j, 8, uint32(toE4M3(v)))
		} else {
			putCode(codes, j, 4, toE2M1(v))
		}
	}
}

// affineGroup returns the float32 scale and bias of one group.
func affineGroup(w []float32, bits int) (scale, bias float32) {
	lowest, highest := float32(math.Inf(1)), float32(math.Inf(-1))
	for _, x := range w { // comparisons, not math.Min: of +0 and -0 the first stays
		if x > highest {
			highest = x
		}
		if x < lowest {
			lowest = x
		}
	}
	return affineGrid(lowest, highest, bits)
}

// affineGrid returns the float32 scale and bias for a range. The grid always has an exact zero at 2 bits and more: one edge of the range, the one further from
// zero, becomes a whole number of steps. The scale is negative when that edge is the maximum.
func affineGrid(lowest, highest float32, bits int) (scale, bias float32) {
	const eps = 1e-7
	n := float32(uint32(1)<<bits - 1)
	if bits == 1 { // two values only: the range itself
		return max(highest-lowest, eps), lowest
	}
	scale = max((highest-lowest)/n, eps)
	edge := lowest
	if !(abs(lowest) > abs(highest)) {
		scale, edge = -scale, highest
	}
	steps := roundToEven(edge / scale)
	if steps == 0 {
		return scale, 0
	}
	return edge / steps, edge
}

// affineCode returns the code of weight x. The division is a division: multiplying with the reciprocal rounds differently.
func affineCode(x, scale, bias float32, bits int) uint32 {
	n := float32(uint32(1)<<bits - 1)
	code := roundToEven((x - bias) / scale)
	if !(code > 0) { // 0/0 as well: a group of one huge value has scale 0
		return 0
	}
	return uint32(min(code, n))
}

// floatScale returns the stored byte and the value of the scale for a group with this largest magnitude, in the modes without biases.
func (s Scheme) floatScale(largest float32, t Float) (stored byte, scale float32) {
	maxCode := float32(6) // the largest E2M1
	if s.Bits == 8 {
		maxCode = 448 // the largest E4M3
	}
	a := t.round(largest / maxCode)
	if s.Mode == NVFP4 {
		stored = toE4M3(a)
		return stored, fromE4M3(stored)
	}
	// The smallest power of two that is not below a, so that no element saturates.
	exponent := 0
	if a != 0 {
		fraction, e := math.Frexp(float64(a)) // a = fraction * 2^e, fraction in [0.5, 1)
		exponent = e
		if fraction == 0.5 {
			exponent = e - 1
		}
	}
	return byte(exponent + 127), t.round(float32(math.Ldexp(1, exponent))) // below 2^-127 the byte wraps, as MLX's does
}

// e2m1 are the values of the 16 codes of E2M1.
var e2m1 = [16]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6, float32(math.Copysign(0, -1)), -0.5, -1, -1.5, -2, -3, -4, -6}

// toE2M1 returns the first code whose value is nearest to v: ties go to the smaller magnitude, small negative values to +0, and NaN or infinity to 0.
func toE2M1(v float32) uint32 {
	best, distance := uint32(0), abs(v-e2m1[0])
	for code, value := range e2m1 {
		if d := abs(v - value); d < distance {
			best, distance = uint32(code), d
		}
	}
	return best
}

// toE4M3 rounds to the nearest E4M3, ties to even, keeping the sign of zero. What is larger than 448 becomes 448; NaN becomes 448 too.
func toE4M3(v float32) byte {
	u := math.Float32bits(v)
	sign := byte(u >> 24 & 0x80)
	magnitude := abs(v)
	switch {
	case !(magnitude < 448):
		return sign | 0x7E
	case magnitude < 0x1p-6: // subnormal: multiples of 2^-9
		return sign | byte(roundToEven(magnitude*0x1p9))
	}
	u = u&0x7FFFFFFF - 120<<23 // exponent bias 127 becomes 7
	return sign | byte((u+0x7FFFF+u>>20&1)>>20)
}

// fromE4M3 returns the value of an E4M3; 0x7F and 0xFF are NaN.
func fromE4M3(b byte) float32 {
	sign := uint32(b&0x80) << 24
	exponent, mantissa := uint32(b>>3&0xF), uint32(b&7)
	switch {
	case b&0x7F == 0x7F:
		return math.Float32frombits(sign | 0x7FF00000) // MLX's NaN
	case exponent == 0:
		return math.Float32frombits(sign | math.Float32bits(float32(mantissa)*0x1p-9))
	}
	return math.Float32frombits(sign | (exponent+120)<<23 | mantissa<<20)
}

// fromE8M0 returns 2^(b-127); 255 is infinite.
func fromE8M0(b byte) float32 {
	return float32(math.Ldexp(1, int(b)-127))
}

// dequantizeReference writes the values of all groups to dst in type t.
func (s Scheme) dequantizeReference(dst []byte, p Packed, t Float) {
	for g := range len(p.Weight) / (s.GroupSize * s.Bits / 8) {
		s.dequantizeGroupReference(dst[g*s.GroupSize*t.Size():], p, g, t)
	}
}

// dequantizeGroupReference writes the values of group g to the beginning of dst in type t.
func (s Scheme) dequantizeGroupReference(dst []byte, p Packed, g int, t Float) {
	for j := range s.GroupSize {
		code := codeAt(p.Weight[g*s.GroupSize*s.Bits/8:], j, s.Bits)
		var x float32
		if s.Mode == Affine { // two roundings in t
			x = t.round(multiply(float32(code), t.at(p.Scales, g)))
			x = add(x, t.at(p.Biases, g))
		} else {
			x = multiply(s.codeValue(code), t.round(s.scaleAt(p, g)))
		}
		t.put(dst, j, x)
	}
}

// decodeGroupReference writes the values of group g to the beginning of dst, in float32 arithmetic.
func (s Scheme) decodeGroupReference(dst []float32, p Packed, g int, t Float) {
	for j := range s.GroupSize {
		code := codeAt(p.Weight[g*s.GroupSize*s.Bits/8:], j, s.Bits)
		if s.Mode == Affine {
			dst[j] = add(multiply(float32(code), t.at(p.Scales, g)), t.at(p.Biases, g))
		} else {
			dst[j] = multiply(s.codeValue(code), s.scaleAt(p, g))
		}
	}
}

// codeValue returns what a code of a mode without biases stands for, before scaling.
func (s Scheme) codeValue(code uint32) float32 {
	if s.Bits == 8 {
		return fromE4M3(byte(code))
	}
	return e2m1[code]
}

// scaleAt returns the scale of group g in a mode without biases.
func (s Scheme) scaleAt(p Packed, g int) float32 {
	if s.Mode == NVFP4 {
		return fromE4M3(p.Scales[g])
	}
	return fromE8M0(p.Scales[g])
}

// castReference converts value by value.
func castReference(dst []byte, to Float, src []byte, from Float) {
	for i := range len(src) / from.Size() {
		to.put(dst, i, from.at(src, i))
	}
}

// putCode sets code j of a group: codes of every width form one bit stream, lowest bit first. The destination must be zero there.
func putCode(dst []byte, j, bits int, code uint32) {
	for b := range bits {
		at := j*bits + b
		dst[at/8] |= byte(code>>b&1) << (at % 8)
	}
}

// codeAt reads code j of a group.
func codeAt(src []byte, j, bits int) uint32 {
	at := j * bits
	v := uint32(src[at/8])
	if at%8+bits > 8 {
		v = uint32(le.Uint16(src[at/8:]))
	}
	return v >> (at % 8) & (1<<bits - 1)
}

// multiply is a*b, rounded once and never fused with an addition. A NaN has the bits that x86 gives it, so that they are the same on every machine.
func multiply(a, b float32) float32 {
	return settle(float32(a*b), a, b)
}

// add is a+b, with NaN as in multiply.
func add(a, b float32) float32 {
	return settle(a+b, a, b)
}

// settle returns the result x of an operation on a and b, or, when it is NaN, the first operand that is NaN, made quiet, or x86's NaN of an invalid operation.
func settle(x, a, b float32) float32 {
	const quiet = 1 << 22
	switch {
	case x == x:
		return x
	case a != a:
		return math.Float32frombits(math.Float32bits(a) | quiet)
	case b != b:
		return math.Float32frombits(math.Float32bits(b) | quiet)
	}
	return math.Float32frombits(0xFFC00000)
}

func abs(x float32) float32 {
	return math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
}

func roundToEven(x float32) float32 {
	return float32(math.RoundToEven(float64(x)))
}

// at reads value i.
func (f Float) at(src []byte, i int) float32 {
	switch f {
	case F16:
		return f16ToFloat(le.Uint16(src[2*i:]))
	case BF16:
		return math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
	}
	return math.Float32frombits(le.Uint32(src[4*i:]))
}

// put writes value i.
func (f Float) put(dst []byte, i int, x float32) {
	switch f {
	case F16:
		le.PutUint16(dst[2*i:], floatToF16(x))
	case BF16:
		le.PutUint16(dst[2*i:], floatToBF16(x))
	default:
		le.PutUint32(dst[4*i:], math.Float32bits(x))
	}
}

// round returns x rounded to type f, widened again.
func (f Float) round(x float32) float32 {
	switch f {
	case F16:
		return f16ToFloat(floatToF16(x))
	case BF16:
		return math.Float32frombits(uint32(floatToBF16(x)) << 16)
	}
	return x
}

// floatToBF16 rounds to nearest even by adding half of the lost part; a carry into the exponent is the right result, up to infinity.
func floatToBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if u&0x7FFFFFFF > 0x7F800000 {
		return 0x7FC0 // MLX drops sign and payload
	}
	return uint16((u + 0x7FFF + u>>16&1) >> 16)
}

// floatToF16 rounds to nearest even. Two cases: a normal result drops 13 bits of the mantissa; a subnormal one is a multiple of 2^-24, so more are dropped.
func floatToF16(x float32) uint16 {
	u := math.Float32bits(x)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7FFFFFFF
	switch {
	case u > 0x7F800000:
		return sign | 0x7D00 // MLX's NaN
	case u >= 0x477FF000: // 65520, halfway between the largest F16 and 2^16: the tie goes to the even side, infinity
		return sign | 0x7C00
	case u >= 0x38800000: // 2^-14, the smallest normal F16
		u -= 112 << 23 // exponent bias 127 becomes 15
		return sign | uint16((u+0xFFF+u>>13&1)>>13)
	case u < 0x33000000: // below 2^-25, half of the smallest subnormal
		return sign
	}
	mantissa := u&0x7FFFFF | 0x800000
	shift := 126 - u>>23 // bits between the mantissa's unit, 2^(e-150), and 2^-24
	half := uint32(1) << (shift - 1)
	return sign | uint16((mantissa+half-1+mantissa>>shift&1)>>shift)
}

// f16ToFloat widens exactly.
func f16ToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, mantissa := uint32(h>>10&0x1F), uint32(h&0x3FF)
	switch {
	case exponent == 0x1F && mantissa != 0: // hardware makes the NaN quiet
		return math.Float32frombits(sign | 0x7FC00000 | mantissa<<13)
	case exponent == 0x1F:
		return math.Float32frombits(sign | 0x7F800000)
	case exponent == 0: // mantissa * 2^-24, exact in float32
		return math.Float32frombits(sign | math.Float32bits(float32(mantissa)*0x1p-24))
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | mantissa<<13)
}
