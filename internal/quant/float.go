package quant

import (
	"encoding/binary"
	"math"
)

// Float is one of the three float types that weights come in.
type Float uint8

const (
	F32  Float = iota // IEEE binary32
	F16               // IEEE binary16
	BF16              // the upper half of binary32
)

// ParseFloat understands the names of safetensors: "F32", "F16", "BF16".
func ParseFloat(dtype string) (Float, bool) {
	switch dtype {
	case "F32":
		return F32, true
	case "F16":
		return F16, true
	case "BF16":
		return BF16, true
	}
	return 0, false
}

// String returns the name that ParseFloat takes.
func (f Float) String() string {
	switch f {
	case F32:
		return "F32"
	case F16:
		return "F16"
	case BF16:
		return "BF16"
	}
	return "unknown float"
}

// Size returns the bytes of one value.
func (f Float) Size() int {
	if f == F32 {
		return 4
	}
	return 2
}

// Decode widens the little-endian values of src exactly; len(dst) values are read. A NaN of F16 becomes quiet and keeps its payload, as in MLX.
func (f Float) Decode(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = f.at(src, i)
	}
}

// Encode writes src to dst as little-endian values, rounded to nearest, ties to even; what is too large becomes infinite. NaN becomes MLX's: 0x7FC0 in BF16,
// 0x7D00 with the sign in F16.
func (f Float) Encode(dst []byte, src []float32) {
	for i, x := range src {
		f.put(dst, i, x)
	}
}

// Cast converts src, values of type from, to dst, values of type to, as MLX's astype does: bit for bit, NaN included. A cast to the same type copies.
// dst must have room for all values of src.
func Cast(dst []byte, to Float, src []byte, from Float) {
	if to == from {
		copy(dst, src)
		return
	}
	for i := range len(src) / from.Size() {
		to.put(dst, i, from.at(src, i))
	}
}

// FirstNonFinite returns the index of the first NaN or infinity among the values of src; ok is false when all are finite.
func FirstNonFinite(src []byte, t Float) (index int, ok bool) {
	for i := range len(src) / t.Size() {
		if x := t.at(src, i); x-x != 0 {
			return i, true
		}
	}
	return 0, false
}

// at reads value i.
func (f Float) at(src []byte, i int) float32 {
	switch f {
	case F16:
		return f16ToFloat(binary.LittleEndian.Uint16(src[2*i:]))
	case BF16:
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
}

// put writes value i.
func (f Float) put(dst []byte, i int, x float32) {
	switch f {
	case F16:
		binary.LittleEndian.PutUint16(dst[2*i:], floatToF16(x))
	case BF16:
		binary.LittleEndian.PutUint16(dst[2*i:], floatToBF16(x))
	default:
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
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
