package quant

import (
	"math"
)

// quantizeAffine is quantizeReference for affine mode.
func (s Scheme) quantizeAffine(dst Packed, src []byte, t Float, cols int) error {
	var buf group
	w := buf[:s.GroupSize]
	inBytes, outBytes := s.GroupSize*t.Size(), s.GroupSize*s.Bits/8
	for g := range len(src) / inBytes {
		sp := buf.load(src[g*inBytes:][:inBytes], t)
		if !sp.finite() {
			return nonFinite(src, t, cols)
		}
		lowest, highest := sp.bounds(w)
		if lowest == 0 && s.Bits == 1 {
			lowest = firstZero(w) // the bias, where its sign shows
		}
		scale, bias := affineGrid(lowest, highest, s.Bits)
		t.put(dst.Scales, g, scale)
		t.put(dst.Biases, g, bias)
		out := dst.Weight[g*outBytes:][:outBytes]
		switch s.Bits {
		case 4:
			pack4(out, w, scale, bias)
		case 8:
			pack8(out, w, scale, bias)
		default:
			pack(out, w, scale, bias, uint(s.Bits))
		}
	}
	return nil
}

// nonFinite finds the weight that made a group fail.
func nonFinite(src []byte, t Float, cols int) error {
	i, _ := FirstNonFinite(src, t)
	return &NonFiniteError{Row: i / cols, Col: i % cols, Value: t.at(src, i)}
}

func firstZero(w []float32) float32 {
	for _, x := range w {
		if x == 0 {
			return x
		}
	}
	return 0
}

// roundBits is affineCode without its lower and upper clamp, for the weights of the group that scale and bias come from. Three facts make it short:
//   - The quotient is never below -1/2, because the bias is the edge that the scale's sign points away from (or 0, when no weight is larger than half a step),
//     and never above 2*255, because the steps to that edge, a quotient of at least 1/2, were rounded to a whole number of at least 1.
//   - Adding 3*2^22 to a float32 of such a size rounds it to an integer, ties to even, that stands in the low bits of the sum.
//   - 0/0 and inf/inf (a group of one huge value; a range that is infinite) are NaN, whose low bits are 0 here, as the code must be.
func roundBits(x, scale, bias float32) uint32 {
	const magic = 3 << 22
	return math.Float32bits((x-bias)/scale+magic) & 0x3FF
}

// pack4 writes 4-bit codes, eight to a word.
func pack4(out []byte, w []float32, scale, bias float32) {
	for len(w) >= 8 && len(out) >= 4 {
		v := min(roundBits(w[0], scale, bias), 15)
		v |= min(roundBits(w[1], scale, bias), 15) << 4
		v |= min(roundBits(w[2], scale, bias), 15) << 8
		v |= min(roundBits(w[3], scale, bias), 15) << 12
		v |= min(roundBits(w[4], scale, bias), 15) << 16
		v |= min(roundBits(w[5], scale, bias), 15) << 20
		v |= min(roundBits(w[6], scale, bias), 15) << 24
		v |= min(roundBits(w[7], scale, bias), 15) << 28
		le.PutUint32(out, v)
		w, out = w[8:], out[4:]
	}
}

// pack8 writes 8-bit codes.
func pack8(out []byte, w []float32, scale, bias float32) {
	for len(w) >= 4 && len(out) >= 4 {
		v := min(roundBits(w[0], scale, bias), 255)
		v |= min(roundBits(w[1], scale, bias), 255) << 8
		v |= min(roundBits(w[2], scale, bias), 255) << 16
		v |= min(roundBits(w[3], scale, bias), 255) << 24
		le.PutUint32(out, v)
		w, out = w[4:], out[4:]
	}
}

// pack writes codes of any width: eight of them are a whole number of bytes, as many as a code has bits.
func pack(out []byte, w []float32, scale, bias float32, bits uint) {
	n := uint32(1)<<bits - 1
	for len(w) >= 8 {
		v := uint64(0)
		for k := 7; k >= 0; k-- {
			v = v<<(bits&63) | uint64(min(roundBits(w[k], scale, bias), n))
		}
		out = putBytes(out, v, bits)
		w = w[8:]
	}
}

// putBytes writes the lowest count bytes of v and returns the rest of out. It never writes more: the bytes behind may belong to another goroutine.
func putBytes(out []byte, v uint64, count uint) []byte {
	switch count {
	case 1:
		out[0] = byte(v)
	case 2:
		le.PutUint16(out, uint16(v))
	case 3:
		le.PutUint16(out, uint16(v))
		out[2] = byte(v >> 16)
	case 5:
		le.PutUint32(out, uint32(v))
		out[4] = byte(v >> 32)
	case 6:
		le.PutUint32(out, uint32(v))
		le.PutUint16(out[4:], uint16(v>>32))
	}
	return out[count:]
}
