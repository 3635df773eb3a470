package quant

import (
	"math"
	"sync"
)

// dequantizePlain is dequantizeReference: group by group it decodes to float32 with t's roundings in between, then rounds to t.
func (s Scheme) dequantizePlain(dst []byte, p Packed, t Float) {
	work := takeWorkspace()
	defer work.giveBack()
	w := work.values[:s.GroupSize]
	bytes := s.GroupSize * t.Size()
	for g := range len(dst) / bytes {
		out := dst[g*bytes:][:bytes]
		if s.decodeGroup(w, p, g, t, t) {
			t.Encode(out, w)
		} else {
			s.dequantizeGroupReference(out, p, g, t)
		}
	}
}

// decodeRowPlain is decodeGroupReference for all groups of a row.
func (s Scheme) decodeRowPlain(dst []float32, p Packed, t Float, row, cols int) {
	groups := cols / s.GroupSize
	for g := range groups {
		out := dst[g*s.GroupSize:][:s.GroupSize]
		if !s.decodeGroup(out, p, row*groups+g, t, F32) {
			s.decodeGroupReference(out, p, row*groups+g, t)
		}
	}
}

// decodeGroup writes the values of group g to w, with intermediate results, but not the last, rounded to type to. It declines groups whose scale or bias is not
// finite: only they can give a NaN that no code stands for, and the bits of such a NaN are the reference's business.
func (s Scheme) decodeGroup(w []float32, p Packed, g int, t, to Float) bool {
	bytes := s.GroupSize * s.Bits / 8
	codes := p.Weight[g*bytes:][:bytes]
	if s.Mode == Affine {
		scale, bias := t.at(p.Scales, g), t.at(p.Biases, g)
		if scale-scale != 0 || bias-bias != 0 {
			return false
		}
		decodeAffine(w, codes, uint(s.Bits), scale, bias, to)
		return true
	}
	scale := to.round(s.scaleAt(p, g))
	if scale-scale != 0 {
		return false
	}
	if s.Bits == 8 {
		values := e4m3()
		for i := range w {
			w[i] = values[codes[i]] * scale
		}
		return true
	}
	var table [16]float32
	for c := range table {
		table[c] = e2m1[c] * scale
	}
	unpack4(w, codes, &table)
	return true
}

// decodeAffine writes round(code*scale) + bias. Where a group has more weights than there are codes, the values of all codes are worked out first.
func decodeAffine(w []float32, codes []byte, bits uint, scale, bias float32, to Float) {
	var table [64]float32
	n := 1 << bits
	switch {
	case n < len(w):
		for c := range table[:n] {
			table[c] = to.round(float32(float32(c)*scale)) + bias
		}
		if bits == 4 {
			unpack4(w, codes, (*[16]float32)(table[:]))
		} else {
			unpack(w, codes, bits, &table)
		}
	case bits == 8:
		for i := range w {
			w[i] = to.round(float32(float32(codes[i])*scale)) + bias
		}
	default:
		for len(w) >= 8 {
			var v uint64
			v, codes = getBytes(codes, bits)
			for k := range w[:8] {
				w[k] = to.round(float32(float32(uint32(v)&uint32(n-1))*scale)) + bias
				v >>= bits & 63
			}
			w = w[8:]
		}
	}
}

// unpack4 looks up 4-bit codes.
func unpack4(w []float32, codes []byte, table *[16]float32) {
	for len(w) >= 8 && len(codes) >= 4 {
		v := le.Uint32(codes)
		w[0], w[1], w[2], w[3] = table[v&15], table[v>>4&15], table[v>>8&15], table[v>>12&15]
		w[4], w[5], w[6], w[7] = table[v>>16&15], table[v>>20&15], table[v>>24&15], table[v>>28]
		w, codes = w[8:], codes[4:]
	}
}

// unpack looks up codes of at most 6 bits.
func unpack(w []float32, codes []byte, bits uint, table *[64]float32) {
	mask := uint64(1)<<bits - 1
	for len(w) >= 8 {
		var v uint64
		v, codes = getBytes(codes, bits)
		for k := range w[:8] {
			w[k] = table[v&mask&63]
			v >>= bits & 63
		}
		w = w[8:]
	}
}

// e4m3 gives the values of the 256 codes of E4M3.
var e4m3 = sync.OnceValue(func() *[256]float32 {
	var values [256]float32
	for b := range values {
		values[b] = fromE4M3(byte(b))
	}
	return &values
})

// fastE8M0 is fromE8M0: the byte is the exponent of a float32, but for 2^-127, which is subnormal there.
func fastE8M0(b byte) float32 {
	return math.Float32frombits(max(uint32(b)<<23, 1<<22))
}

// getBytes reads the lowest count bytes of in and returns the rest of it.
func getBytes(in []byte, count uint) (v uint64, rest []byte) {
	switch count {
	case 1:
		v = uint64(in[0])
	case 2:
		v = uint64(le.Uint16(in))
	case 3:
		v = uint64(le.Uint16(in)) | uint64(in[2])<<16
	case 4:
		v = uint64(le.Uint32(in))
	case 5:
		v = uint64(le.Uint32(in)) | uint64(in[4])<<32
	case 6:
		v = uint64(le.Uint32(in)) | uint64(le.Uint16(in[4:]))<<32
	case 8:
		v = le.Uint64(in)
	}
	return v, in[count:]
}
