package quant

import (
	"encoding/binary"
	"math"
)

// le is the byte order of safetensors.
var le = binary.LittleEndian

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
	src = src[:len(dst)*f.Size()]
	if blocks := len(dst) / castBlock; active != nil && blocks > 0 {
		active.decode[f](&dst[0], &src[0], blocks)
		dst, src = dst[blocks*castBlock:], src[blocks*castBlock*f.Size():]
	}
	switch f {
	case F16:
		for i := range dst {
			dst[i] = fastF16ToFloat(le.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		}
	default:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	}
}

// Encode writes src to dst as little-endian values, rounded to nearest, ties to even; what is too large becomes infinite. NaN becomes MLX's: 0x7FC0 in BF16,
// 0x7D00 with the sign in F16.
func (f Float) Encode(dst []byte, src []float32) {
	dst = dst[:len(src)*f.Size()]
	if blocks := len(src) / castBlock; active != nil && blocks > 0 {
		active.encode[f](&dst[0], &src[0], blocks)
		dst, src = dst[blocks*castBlock*f.Size():], src[blocks*castBlock:]
	}
	switch f {
	case F16:
		for i, x := range src {
			le.PutUint16(dst[2*i:], fastFloatToF16(math.Float32bits(x)))
		}
	case BF16:
		for len(src) >= 4 && len(dst) >= 8 {
			le.PutUint64(dst, fourBF16(math.Float32bits(src[0]), math.Float32bits(src[1]), math.Float32bits(src[2]), math.Float32bits(src[3])))
			src, dst = src[4:], dst[8:]
		}
		for i, x := range src {
			le.PutUint16(dst[2*i:], floatToBF16(x))
		}
	default:
		for i, x := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	}
}

// Cast converts src, values of type from, to dst, values of type to, as MLX's astype does: bit for bit, NaN included. A cast to the same type copies.
// dst must have room for all values of src and must not overlap it.
func Cast(dst []byte, to Float, src []byte, from Float) {
	n := len(src) / from.Size()
	src, dst = src[:n*from.Size()], dst[:n*to.Size()]
	if from == to {
		copy(dst, src)
		return
	}
	if blocks := n / castBlock; active != nil && blocks > 0 {
		active.cast[from][to](&dst[0], &src[0], blocks)
		src, dst = src[blocks*castBlock*from.Size():], dst[blocks*castBlock*to.Size():]
	}
	switch {
	case from == BF16 && to == F32:
		for len(src) >= 8 && len(dst) >= 16 {
			v := le.Uint64(src)
			le.PutUint64(dst, v&0xFFFF<<16|v&0xFFFF0000<<32)
			le.PutUint64(dst[8:], v>>16&0xFFFF0000|v>>48<<48)
			src, dst = src[8:], dst[16:]
		}
	case from == BF16 && to == F16:
		for len(src) >= 4 && len(dst) >= 4 {
			v := le.Uint32(src)
			le.PutUint32(dst, uint32(fastFloatToF16(v<<16))|uint32(fastFloatToF16(v&0xFFFF0000))<<16)
			src, dst = src[4:], dst[4:]
		}
	case from == F16 && to == F32:
		for len(src) >= 8 && len(dst) >= 16 {
			if v := le.Uint64(src); finiteF16(v) {
				a, b, c, d := widenF16(uint32(v)<<16), widenF16(uint32(v)), widenF16(uint32(v>>16)), widenF16(uint32(v>>32))
				le.PutUint64(dst, uint64(math.Float32bits(a))|uint64(math.Float32bits(b))<<32)
				le.PutUint64(dst[8:], uint64(math.Float32bits(c))|uint64(math.Float32bits(d))<<32)
			} else {
				castReference(dst, to, src[:8], from)
			}
			src, dst = src[8:], dst[16:]
		}
	case from == F16 && to == BF16:
		for len(src) >= 8 && len(dst) >= 8 {
			if v := le.Uint64(src); finiteF16(v) {
				a, b, c, d := widenF16(uint32(v)<<16), widenF16(uint32(v)), widenF16(uint32(v>>16)), widenF16(uint32(v>>32))
				le.PutUint64(dst, fourBF16(math.Float32bits(a), math.Float32bits(b), math.Float32bits(c), math.Float32bits(d)))
			} else {
				castReference(dst, to, src[:8], from)
			}
			src, dst = src[8:], dst[8:]
		}
	case from == F32 && to == F16:
		for len(src) >= 8 && len(dst) >= 4 {
			v := le.Uint64(src)
			le.PutUint32(dst, uint32(fastFloatToF16(uint32(v)))|uint32(fastFloatToF16(uint32(v>>32)))<<16)
			src, dst = src[8:], dst[4:]
		}
	case from == F32 && to == BF16:
		for len(src) >= 16 && len(dst) >= 8 {
			v, w := le.Uint64(src), le.Uint64(src[8:])
			le.PutUint64(dst, fourBF16(uint32(v), uint32(v>>32), uint32(w), uint32(w>>32)))
			src, dst = src[16:], dst[8:]
		}
	}
	castReference(dst, to, src, from) // what is left: fewer than four values
}

// FirstNonFinite returns the index of the first NaN or infinity among the values of src; ok is false when all are finite.
func FirstNonFinite(src []byte, t Float) (index int, ok bool) {
	// A value is not finite when its exponent is all ones. Adding the lowest bit of the exponent to the magnitude then carries into the place of the sign, and
	// never further, so eight bytes can be looked at in one go.
	magnitude, one, signs := uint64(0x7FFFFFFF_7FFFFFFF), uint64(1<<55|1<<23), uint64(1<<63|1<<31)
	if t != F32 {
		magnitude, one, signs = 0x7FFF7FFF_7FFF7FFF, 0x04000400_04000400, 0x80008000_80008000
	}
	if t == BF16 {
		one = 0x00800080_00800080
	}
	at := 0
	if blocks := len(src) / finiteBlock; active != nil && blocks > 0 {
		at = active.finite[t](&src[0], blocks) * finiteBlock
	}
	for at+8 <= len(src) && (le.Uint64(src[at:])&magnitude+one)&signs == 0 {
		at += 8
	}
	for i := at / t.Size(); i < len(src)/t.Size(); i++ {
		if x := t.at(src, i); x-x != 0 {
			return i, true
		}
	}
	return 0, false
}

// fourBF16 is floatToBF16 for the bits of four float32, the first in the lowest place.
func fourBF16(a, b, c, d uint32) uint64 {
	const inf = 0x7F800000
	if max(a&^(1<<31), b&^(1<<31), c&^(1<<31), d&^(1<<31)) > inf {
		return uint64(floatToBF16(math.Float32frombits(a))) | uint64(floatToBF16(math.Float32frombits(b)))<<16 |
			uint64(floatToBF16(math.Float32frombits(c)))<<32 | uint64(floatToBF16(math.Float32frombits(d)))<<48
	}
	a, b, c, d = a+0x7FFF+a>>16&1, b+0x7FFF+b>>16&1, c+0x7FFF+c>>16&1, d+0x7FFF+d>>16&1
	return uint64(a>>16|b&^0xFFFF) | uint64(c>>16|d&^0xFFFF)<<32
}

// finiteF16 reports whether four F16 are all finite (see FirstNonFinite).
func finiteF16(v uint64) bool {
	return (v&0x7FFF7FFF_7FFF7FFF+0x04000400_04000400)&0x80008000_80008000 == 0
}

// fastF16ToFloat is f16ToFloat; all but NaN and infinity take the short way.
func fastF16ToFloat(h uint16) float32 {
	if h&0x7C00 == 0x7C00 {
		return f16ToFloat(h)
	}
	return widenF16(uint32(h) << 16)
}

// fastFloatToF16 is floatToF16 for the bits of a float32. It lets a floating-point addition round, as MLX and Maratyszcza's FP16 library do: 2^13 times the unit
// of the result is added to four times the magnitude, so that what the result has no room for falls off the end of the sum. Multiplying on the way makes what
// is too large infinite.
func fastFloatToF16(u uint32) uint16 {
	a, sign := u&0x7FFFFFFF, uint16(u>>16&0x8000)
	if a > 0x7F800000 {
		return sign | 0x7D00
	}
	magic := math.Float32frombits(max(u&0x7F800000, 0x38800000) + 15<<23)
	sum := math.Float32bits(float32(float32(math.Float32frombits(a)*0x1p112)*0x1p-110) + magic)
	return sign | uint16(sum>>13&0x7C00+sum&0xFFF)
}
