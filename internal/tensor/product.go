package tensor

import (
	"encoding/binary"
	"math"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

var le = binary.LittleEndian

// mulIntegers multiplies a panel of codes with a tile of integer activations, and writes row r times vector t to dst[t*stride+r].
//
// For each segment the products of codes and activations are added up exactly. Then, in this order and each rounded once: total = bias*sum + total, total = round(scale*step)*dot + total, where step is
// what one unit of the activations is worth and sum is that of the activations' values. Totals begin with 0.
//
// x has 16-bit activations in pairs of columns [columns/2][tile][2], or 8-bit ones in fours [columns/4][tile][4]: of nibbles columns 0, 4, 1, 5 and then 2, 6, 3, 7 of every eight, of octets columns 0, 2, 1, 3 of every
// four. steps has [segments][2][tile]: steps, then sums.
func mulIntegers(dst []float32, stride int, panel []byte, l *layout, x []byte, width int, steps []float32, tile int) {
	values := l.values()
	perWord := l.columnsPerWord()
	for t := range tile {
		out := dst[t*stride:][:panelRows]
		clear(out)
		for s := range l.segments {
			seg := panel[s*l.segmentBytes():][:l.segmentBytes()]
			step, sum := steps[s*2*tile+t], steps[(s*2+1)*tile+t]
			var dots [panelRows]int32
			for w := range l.words {
				column := s*l.segment + w*perWord
				for r := range dots {
					word := le.Uint32(seg[l.head+(w*panelRows+r)*4:])
					for i := range perWord {
						dots[r] += values[codeOf(l.kind, word, i)] * activation(x, l.kind, width, tile, t, column+i)
					}
				}
			}
			for r, d := range dots {
				if l.biased {
					out[r] = fma(headOf(l, seg, panelRows+r), sum, out[r])
				}
				out[r] = fma(float32(headOf(l, seg, r)*step), float32(d), out[r])
			}
		}
	}
}

// codeOf is the code of column i of a word.
func codeOf(kind codesKind, word uint32, i int) uint32 {
	if kind == octets {
		return word >> [4]int{0, 16, 8, 24}[i] & 255
	}
	return word >> (i/2*4 + i%2*16) & 15
}

// headOf is scale r of a segment, or bias r-16.
func headOf(l *layout, seg []byte, r int) float32 {
	var out [1]float32
	size := l.scale.Size()
	l.scale.Decode(out[:], seg[r*size:][:size])
	return out[0]
}

// activation is that of a column in a tile.
func activation(x []byte, kind codesKind, width, tile, t, column int) int32 {
	if width == 2 {
		return int32(int16(le.Uint16(x[((column/2)*tile+t)*4+column%2*2:])))
	}
	quad, place := quadOf(kind, column)
	return int32(int8(x[(quad*tile+t)*4+place]))
}

// quadOf is where a column of 8-bit activations stands.
func quadOf(kind codesKind, column int) (quad, place int) {
	if kind == octets {
		return column / 4, [4]int{0, 2, 1, 3}[column%4]
	}
	return column/8*2 + [8]int{0, 0, 1, 1, 0, 0, 1, 1}[column%8], [8]int{0, 2, 0, 2, 1, 3, 1, 3}[column%8]
}

// mulFloats multiplies a panel of codes with a tile of float32 activations x [columns][tile], whose sums by segment are sums [segments][tile], and writes row r times vector t to dst[t*stride+r].
//
// For each segment the products of activations and codes, less the centre of the codes, are a chain of fused multiply-adds from the left that begins with 0. Then total = (centre*scale + bias)*sum + total,
// total = scale*chain + total, all fused. Totals begin with 0.
func mulFloats(dst []float32, stride int, panel []byte, l *layout, x, sums []float32, tile int) {
	values, center := l.values(), l.codes[codeCenter]
	perWord := l.columnsPerWord()
	for t := range tile {
		out := dst[t*stride:][:panelRows]
		clear(out)
		for s := range l.segments {
			seg := panel[s*l.segmentBytes():][:l.segmentBytes()]
			var chain [panelRows]float32
			for w := range l.words {
				column := s*l.segment + w*perWord
				for i := range perWord {
					v := x[(column+i)*tile+t]
					for r := range chain {
						code := values[codeOf(l.kind, le.Uint32(seg[l.head+(w*panelRows+r)*4:]), i)]
						chain[r] = fma(float32(code)-center, v, chain[r])
					}
				}
			}
			for r, c := range chain {
				scale := headOf(l, seg, r)
				if l.biased {
					out[r] = fma(fma(center, scale, headOf(l, seg, panelRows+r)), sums[s*tile+t], out[r])
				}
				out[r] = fma(scale, c, out[r])
			}
		}
	}
}

// integers is mulIntegers by the best kernel.
func integers(dst []float32, stride int, panel []byte, l *layout, x []byte, width int, steps []float32, tile int) {
	k := active.integers[l.kind][l.scale][width-1][shapeOf(tile)]
	if k == nil {
		mulIntegers(dst, stride, panel, l, x, width, steps, tile)
		return
	}
	columns := l.segments * l.segment
	_, _, _, _ = panel[l.bytes-1], x[columns*width*tile-1], steps[2*l.segments*tile-1], dst[(tile-1)*stride+panelRows-1]
	k(&dst[0], stride, &panel[0], &x[0], &steps[0], l.segments, l.words/2)
}

// floats is mulFloats by the best kernel, for as many panels, panelStride bytes apart, as the tile's kernel takes.
func floats(dst []float32, stride int, panels []byte, panelStride int, l *layout, x, sums []float32, tile int) {
	shape := shapeOf(tile)
	n := panelsOf(shape)
	k := active.floats[l.kind][l.scale][shape]
	if k == nil {
		for p := range n {
			mulFloats(dst[p*panelRows:], stride, panels[p*panelStride:], l, x, sums, tile)
		}
		return
	}
	columns := l.segments * l.segment
	_, _, _, _ = panels[(n-1)*panelStride+l.bytes-1], x[columns*tile-1], sums[l.segments*tile-1], dst[(tile-1)*stride+n*panelRows-1]
	k(&dst[0], stride, &panels[0], panelStride, &l.codes[0], &x[0], &sums[0], l.segments, l.words)
}

// plainPanels is mulPlain by the best kernel, for panels of plain weights.
func plainPanels(dst []float32, stride int, panels []byte, panelStride int, l *layout, x []float32, tile int) {
	shape := shapeOf(tile)
	n := panelsOf(shape)
	columns := l.columns()
	if k := active.plain[l.kind][shape]; k != nil {
		_, _, _ = panels[(n-1)*panelStride+l.bytes-1], x[columns*tile-1], dst[(tile-1)*stride+n*panelRows-1]
		k(&dst[0], stride, &panels[0], panelStride, &x[0], columns/plainSteps)
		return
	}
	row := make([]float32, columns*panelRows)
	for p := range n {
		decodePanel(row, panels[p*panelStride:], l)
		mulPlain(dst[p*panelRows:], stride, row, x, tile, columns)
	}
}

// decodePanel writes a panel of plain weights as float32, [columns][16].
func decodePanel(dst []float32, panel []byte, l *layout) {
	switch l.kind {
	case wide:
		quant.F32.Decode(dst, panel[:4*len(dst)])
		return
	case halves:
		quant.F16.Decode(dst, panel[:2*len(dst)])
		return
	case quarters:
		for s := range l.segments {
			decodeQuarters(dst[s*l.segment*panelRows:], panel[s*l.segmentBytes():][:l.segmentBytes()], l)
		}
		return
	}
	for w := range l.words {
		for r := range panelRows {
			v := le.Uint32(panel[(w*panelRows+r)*4:])
			dst[2*w*panelRows+r] = math.Float32frombits(v << 16)
			dst[(2*w+1)*panelRows+r] = math.Float32frombits(v & 0xFFFF0000)
		}
	}
}

// halfOfE4M3 has the bits of a float16 that an E4M3 code becomes: the sign, and the other seven one place lower. That is the code's value / 256, of subnormal codes too.
const halfOfE4M3 = 0xBF80

// decodeQuarters is decodePanel for a segment of quarters.
func decodeQuarters(dst []float32, segment []byte, l *layout) {
	for column := range l.segment {
		for r := range panelRows {
			code := segment[l.head+column/2*2*panelRows+2*r+column%2]
			dst[column*panelRows+r] = widenF16(uint16(int16(uint16(code)<<8)>>1)&halfOfE4M3) * headOf(l, segment, r)
		}
	}
}
