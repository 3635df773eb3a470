package quant

import (
	"math"
)

// group is the widened weights of one group; only the first group_size values count.
type group [128]float32

// span is what one pass over the bits of a group tells about its range. Floats are sign and magnitude, so one signed and one unsigned maximum of their bits,
// which need no branches, find the largest weight if any is positive and the smallest if any is negative.
type span struct {
	signed   int32  // not negative: the bits of the largest weight; negative: all weights are negative
	unsigned uint32 // sign bit set: the bits of the smallest weight; clear: no weight is negative
}

// finite reports whether no weight is NaN or infinite.
func (s span) finite() bool { return s.signed < 0x7F800000 && s.unsigned < 0xFF800000 }

// largest returns the largest magnitude.
func (s span) largest() float32 {
	return math.Float32frombits(max(uint32(max(s.signed, 0)), s.unsigned&0x7FFFFFFF))
}

// bounds returns smallest and largest weight; it looks at w again when all weights are on one side of zero. The sign of a zero may be any that occurs.
func (s span) bounds(w []float32) (lowest, highest float32) {
	lowest, highest = math.Float32frombits(s.unsigned), math.Float32frombits(uint32(s.signed))
	if s.signed < 0 {
		highest = w[0]
		for _, x := range w {
			if x > highest {
				highest = x
			}
		}
	}
	if int32(s.unsigned) >= 0 {
		lowest = w[0]
		for _, x := range w {
			if x < lowest {
				lowest = x
			}
		}
	}
	return lowest, highest
}

// load widens the weights of src, one group of type t, into w.
func (w *group) load(src []byte, t Float) span {
	switch t {
	case F16:
		return w.loadF16(src)
	case BF16:
		return w.loadBF16(src)
	}
	return w.loadF32(src)
}

func (w *group) loadF32(src []byte) span {
	s := span{math.MinInt32, 0}
	out := w[:len(src)/4]
	for len(src) >= 8 && len(out) >= 2 {
		v := le.Uint64(src)
		a, b := uint32(v), uint32(v>>32)
		out[0], out[1] = math.Float32frombits(a), math.Float32frombits(b)
		s.signed = max(s.signed, int32(a), int32(b))
		s.unsigned = max(s.unsigned, a, b)
		src, out = src[8:], out[2:]
	}
	return s
}

func (w *group) loadBF16(src []byte) span {
	s := span{math.MinInt32, 0}
	out := w[:len(src)/2]
	for len(src) >= 8 && len(out) >= 4 {
		v := le.Uint64(src)
		a, b := uint32(v)<<16, uint32(v)&0xFFFF0000
		c, d := uint32(v>>32)<<16, uint32(v>>32)&0xFFFF0000
		out[0], out[1], out[2], out[3] = math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c), math.Float32frombits(d)
		s.signed = max(s.signed, max(int32(a), int32(b)), max(int32(c), int32(d)))
		s.unsigned = max(s.unsigned, max(a, b), max(c, d))
		src, out = src[8:], out[4:]
	}
	return s
}

// loadF16 looks for the range in the 16-bit values and widens its two ends at the end, so that a NaN or infinity shows (the widening below makes numbers of
// them: the caller does not use the weights then).
func (w *group) loadF16(src []byte) span {
	signed, unsigned := int32(math.MinInt32), uint32(0)
	out := w[:len(src)/2]
	for len(src) >= 8 && len(out) >= 4 {
		v := le.Uint64(src)
		a, b := uint32(v)<<16, uint32(v)&0xFFFF0000
		c, d := uint32(v>>32)<<16, uint32(v>>32)&0xFFFF0000
		out[0], out[1], out[2], out[3] = widenF16(a), widenF16(b), widenF16(c), widenF16(d)
		signed = max(signed, max(int32(a), int32(b)), max(int32(c), int32(d)))
		unsigned = max(unsigned, max(a, b), max(c, d))
		src, out = src[8:], out[4:]
	}
	return span{
		int32(math.Float32bits(f16ToFloat(uint16(uint32(signed) >> 16)))),
		math.Float32bits(f16ToFloat(uint16(unsigned >> 16))),
	}
}

// widenF16 widens a finite F16 that stands in the upper half of h; the lower half does not matter. Moving exponent and mantissa to their places in a float32 leaves the exponent 112 too
// small, for subnormals too; the product with a power of two is exact.
func widenF16(h uint32) float32 {
	return math.Float32frombits(uint32(int32(h)>>3)&0x8FFFE000) * 0x1p112
}
