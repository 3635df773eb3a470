package tensor

import "github.com/mlxbuild/mlxbuild/internal/quant"

// codes writes the code values of a row: plain values as they are, affine codes less their centre, E2M1 and E4M3 values. codesReference is the same, plainly.
func (m *Matrix) codes(dst []float32, row int) {
	w := m.Packed.Weight[row*m.rowBytes:][:m.rowBytes]
	dst = dst[:m.Cols]
	if m.Scheme.Mode == "" {
		m.Float.Decode(dst, w)
		return
	}
	switch m.Scheme.Bits {
	case 1:
		unpack1(dst, w, m.values)
	case 2:
		unpack2(dst, w, m.values)
	case 3:
		unpack3(dst, w, m.values)
	case 4:
		unpack4(dst, w, m.values)
	case 5:
		unpack5(dst, w, m.values)
	case 6:
		unpack6(dst, w, m.values)
	default:
		unpack8(dst, w, m.values)
	}
}

// codesReference has package quant decode the row with scales of 1.
func (m *Matrix) codesReference(dst []float32, row int) {
	w := m.Packed.Weight[row*m.rowBytes:][:m.rowBytes]
	if m.Scheme.Mode == "" {
		m.Float.Decode(dst[:m.Cols], w)
		return
	}
	p := unitScales(m.Scheme, m.groups, m.center)
	p.Weight = w
	m.Scheme.DecodeRow(dst[:m.Cols], p, quant.F32, 0, m.Cols)
}

// The unpackers take eight codes at a time, which are as many bytes as a code has bits, lowest bits first.

func unpack1(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 1 {
		put(dst, values, uint64(w[0])&1, uint64(w[0])>>1&1, uint64(w[0])>>2&1, uint64(w[0])>>3&1, uint64(w[0])>>4&1, uint64(w[0])>>5&1, uint64(w[0])>>6&1, uint64(w[0])>>7)
		dst, w = dst[8:], w[1:]
	}
}

func unpack2(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 2 {
		v := uint64(le.Uint16(w))
		put(dst, values, v&3, v>>2&3, v>>4&3, v>>6&3, v>>8&3, v>>10&3, v>>12&3, v>>14)
		dst, w = dst[8:], w[2:]
	}
}

func unpack3(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 3 {
		v := uint64(le.Uint16(w)) | uint64(w[2])<<16
		put(dst, values, v&7, v>>3&7, v>>6&7, v>>9&7, v>>12&7, v>>15&7, v>>18&7, v>>21)
		dst, w = dst[8:], w[3:]
	}
}

func unpack4(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 4 {
		v := uint64(le.Uint32(w))
		put(dst, values, v&15, v>>4&15, v>>8&15, v>>12&15, v>>16&15, v>>20&15, v>>24&15, v>>28)
		dst, w = dst[8:], w[4:]
	}
}

func unpack5(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 5 {
		v := uint64(le.Uint32(w)) | uint64(w[4])<<32
		put(dst, values, v&31, v>>5&31, v>>10&31, v>>15&31, v>>20&31, v>>25&31, v>>30&31, v>>35)
		dst, w = dst[8:], w[5:]
	}
}

func unpack6(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 6 {
		v := uint64(le.Uint32(w)) | uint64(le.Uint16(w[4:]))<<32
		put(dst, values, v&63, v>>6&63, v>>12&63, v>>18&63, v>>24&63, v>>30&63, v>>36&63, v>>42)
		dst, w = dst[8:], w[6:]
	}
}

func unpack8(dst []float32, w []byte, values *[256]float32) {
	for len(dst) >= 8 && len(w) >= 8 {
		v := le.Uint64(w)
		put(dst, values, v&255, v>>8&255, v>>16&255, v>>24&255, v>>32&255, v>>40&255, v>>48&255, v>>56)
		dst, w = dst[8:], w[8:]
	}
}

// put writes the values of eight codes.
func put(dst []float32, values *[256]float32, a, b, c, d, e, f, g, h uint64) {
	dst = dst[:8]
	dst[0], dst[1], dst[2], dst[3] = values[a&255], values[b&255], values[c&255], values[d&255]
	dst[4], dst[5], dst[6], dst[7] = values[e&255], values[f&255], values[g&255], values[h&255]
}
