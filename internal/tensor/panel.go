package tensor

import (
	"math"
	"slices"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// codesKind is how the weights of a panel are stored.
type codesKind uint8

const (
	nibbles  codesKind = iota // affine, up to 4 bits
	minis                     // E2M1
	octets                    // affine, 5 to 8 bits
	pairs                     // bfloat16; it and those below are multiplied as they are
	halves                    // float16
	quarters                  // E4M3, with scales of powers of two
	wide                      // float32
	codesKinds
)

// layout is how a matrix lies in panels of 16 rows.
//
// A panel of codes is a row of segments, each of min(group size, 64) columns: 16 scales, 16 biases where there are any, and the codes of 16 rows side by side. Scales and biases have the type of the matrix; those
// of E2M1 codes are half the scale, as bfloat16, because the values of the codes are taken twice, which makes them whole; those of quarters 256 times the scale, as float32 (see halfOfE4M3). Codes come in words of 32 bits, one for each row:
//
//	nibbles, minis: eight columns; bits 4k of the low half have column 2k, of the high half column 2k+1
//	octets:         four columns, in the order 0, 2, 1, 3
//	pairs:          two columns; no segments
//	halves:         two columns; no segments; words are taken apart, so that 16 rows of one column stand side by side and then those of the other
//	quarters:       four columns, taken apart into twos as halves are into ones
//	wide:           one; no segments
//
// So words split into halves by a mask and shifts have neighbouring columns beside each other, which is what products of pairs want.
type layout struct {
	kind     codesKind
	segment  int         // columns; 0 of pairs, halves and wide
	level    int         // the place of segment in segmentSizes
	segments int         // 0 of pairs, halves and wide, which stay as they are stored
	scale    quant.Float // type of scales
	biased   bool
	head     int // bytes of the scales and biases of a segment
	words    int // of a row and a segment; where there are none of a row, padded to whole steps
	bytes    int // of a panel
	codes    *codeTable
}

// codeTable is what kernels make of codes: the values of 4-bit codes less the centre, the centre, and 2^23, 2^19, 2^15, 2^11 and 2^7 + centre. The centre is the code that stands for about 0: products in float32 are made with codes less the
// centre, so that large sums do not cancel.
type codeTable [22]float32

// codeCenter is the place of the centre.
const codeCenter = 16

// plain reports whether weights are multiplied as they are, in float32: see mulPlain.
func (l *layout) plain() bool { return l.kind >= pairs }

// columns are those of a row, padded.
func (l *layout) columns() int { return max(l.segments, 1) * l.words * l.columnsPerWord() }

func (l *layout) segmentBytes() int { return l.head + 4*panelRows*l.words }

// values are what codes stand for in whole numbers.
func (l *layout) values() *[256]int32 {
	if l.kind == minis {
		return &miniValues
	}
	return &ownValues
}

var miniValues = [256]int32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

var ownValues = func() (v [256]int32) {
	for i := range v {
		v[i] = int32(i)
	}
	return v
}()

func (m *Matrix) newLayout() layout {
	s := m.Scheme
	if s.Mode == "" || s.Mode == quant.MXFP8 && slices.Max(m.Packed.Scales) > largestQuarterScale {
		l := layout{kind: wide}
		if s.Mode == "" {
			l.kind = [...]codesKind{quant.F32: wide, quant.F16: halves, quant.BF16: pairs}[m.Float]
		}
		l.words = padded(m.Cols, plainSteps) / l.columnsPerWord()
		l.bytes = 4 * panelRows * l.words
		return l
	}
	l := layout{kind: minis, segment: min(s.GroupSize, Block), scale: quant.BF16}
	switch {
	case s.Mode == quant.MXFP8:
		l.kind, l.scale = quarters, quant.F32
	case s.Mode == quant.Affine:
		l.kind, l.scale, l.biased = nibbles, m.Float, true
		if s.Bits > 4 {
			l.kind = octets
		}
	}
	l.level = slices.Index(segmentSizes[:], l.segment)
	l.segments = m.Cols / l.segment
	l.head = panelRows * l.scale.Size()
	if l.biased {
		l.head *= 2
	}
	l.words = l.segment / l.columnsPerWord()
	l.codes = &codeTable{codeCenter: m.center, codeCenter + 1: 1<<23 + m.center, 1<<19 + m.center, 1<<15 + m.center, 1<<11 + m.center, 1<<7 + m.center}
	for c := range codeCenter {
		l.codes[c] = float32(l.values()[c]) - m.center
	}
	l.bytes = l.segments * l.segmentBytes()
	return l
}

func (l *layout) columnsPerWord() int {
	return [codesKinds]int{nibbles: 8, minis: 8, octets: 4, pairs: 2, halves: 2, quarters: 4, wide: 1}[l.kind]
}

func padded(n, unit int) int { return (n + unit - 1) / unit * unit }

// panelCount is the number of panels, the last of which may have rows of zeros.
func (m *Matrix) panelCount() int { return (m.Rows + panelRows - 1) / panelRows }

// layer lays out panels; it is what one worker needs for it, and grows with the matrices that it is used for.
type layer struct {
	rows  []byte // [16][words]: rows as words, before they stand side by side
	words []byte // [words][16]
	row   []float32
	scale [1]float32
}

// fit makes room for a matrix.
func (k *layer) fit(m *Matrix) {
	l := &m.layout
	n := 4 * panelRows * max(l.segments, 1) * l.words
	if len(k.rows) < n {
		k.rows = make([]byte, n)
	}
	if l.segments > 0 && len(k.words) < n {
		k.words = make([]byte, n)
	}
	if l.kind == wide && len(k.row) < m.Cols {
		k.row = make([]float32, m.Cols)
	}
}

// lay writes panel p to dst, l.bytes.
func (k *layer) lay(m *Matrix, dst []byte, p int) {
	l := &m.layout
	n := min(panelRows, m.Rows-p*panelRows)
	rowBytes := 4 * max(l.segments, 1) * l.words
	src, stride := k.rows, rowBytes
	switch {
	case n == panelRows && m.rowBytes == rowBytes && m.direct():
		src, stride = m.Packed.Weight[p*panelRows*rowBytes:], rowBytes // as they are
	default:
		for r := range n {
			k.words16(m, k.rows[r*rowBytes:][:rowBytes], p*panelRows+r)
		}
		clear(k.rows[n*rowBytes : panelRows*rowBytes])
	}
	if l.segments == 0 {
		transpose(dst, src, stride, rowBytes/4, l.kind)
		return
	}
	transpose(k.words, src, stride, rowBytes/4, l.kind)
	for s := range l.segments {
		copy(dst[s*l.segmentBytes()+l.head:], k.words[s*4*panelRows*l.words:][:4*panelRows*l.words])
	}
	k.layHeads(m, dst, p, n)
}

// direct reports whether rows as stored are rows of words.
func (m *Matrix) direct() bool {
	switch m.Scheme.Mode {
	case "":
		return true
	case quant.MXFP8:
		return m.layout.kind == quarters
	}
	return m.Scheme.Bits == 4 || m.Scheme.Bits == 8
}

// words16 writes one row as words: codes of 4 or 8 bits from the lowest bit, or floats.
func (k *layer) words16(m *Matrix, dst []byte, row int) {
	w := m.Packed.Weight[row*m.rowBytes:][:m.rowBytes]
	switch {
	case m.direct():
		clear(dst[copy(dst, w):])
	case m.layout.kind == wide:
		m.Row(k.row[:m.Cols], row)
		quant.F32.Encode(dst[:4*m.Cols], k.row[:m.Cols])
		clear(dst[4*m.Cols:])
	default:
		spread(dst, w, uint(m.Scheme.Bits))
	}
}

// spread widens a row's codes of some bits to 4 bits, or to 8.
func spread(dst, w []byte, bits uint) {
	mask := uint64(1)<<bits - 1
	for len(w) >= int(bits) && len(dst) >= 4 {
		var v uint64 // eight codes
		for i := range bits {
			v |= uint64(w[i]) << (8 * i)
		}
		w = w[bits:]
		if bits < 4 {
			var out uint32
			for c := range 8 {
				out |= uint32(v>>(uint(c)*bits)&mask) << (4 * c)
			}
			le.PutUint32(dst, out)
			dst = dst[4:]
			continue
		}
		var out uint64
		for c := range 8 {
			out |= v >> (uint(c) * bits) & mask << (8 * c)
		}
		le.PutUint64(dst, out)
		dst = dst[8:]
	}
}

// layHeads writes the scales and biases of a panel's n rows.
func (k *layer) layHeads(m *Matrix, dst []byte, p, n int) {
	l := &m.layout
	size, perGroup := l.scale.Size(), m.Scheme.GroupSize/l.segment
	for r := range panelRows {
		if r >= n {
			for s := range l.segments {
				clear(dst[s*l.segmentBytes()+r*size:][:size])
				if l.biased {
					clear(dst[s*l.segmentBytes()+(panelRows+r)*size:][:size])
				}
			}
			continue
		}
		at := (p*panelRows + r) * m.groups
		if l.biased {
			for s := range l.segments {
				g := (at + s/perGroup) * size
				copy(dst[s*l.segmentBytes()+r*size:], m.Packed.Scales[g:][:size])
				copy(dst[s*l.segmentBytes()+(panelRows+r)*size:], m.Packed.Biases[g:][:size])
			}
			continue
		}
		for s, b := range m.Packed.Scales[at:][:m.groups] {
			k.scale[0] = m.scaleU8[b] / 2
			if l.kind == quarters {
				k.scale[0] = m.quarterScale(p*panelRows+r, s)
			}
			l.scale.Encode(dst[s*l.segmentBytes()+r*size:][:size], k.scale[:])
		}
	}
}

// largestQuarterScale is the largest stored scale of E4M3 codes, 2^119, that can be taken 256 times. Matrices with larger ones are multiplied as float32.
const largestQuarterScale = 246

// quarterScale is what kernels multiply the codes of a group with, which they make 1/256 of their values. They know no NaN: a group that has one is NaN altogether, as is every sum that it is a part of.
func (m *Matrix) quarterScale(row, g int) float32 {
	codes := m.Packed.Weight[row*m.rowBytes+g*m.Scheme.GroupSize:][:m.Scheme.GroupSize]
	var found uint64
	for ; len(codes) >= 8; codes = codes[8:] {
		found |= le.Uint64(codes)&0x7F7F7F7F7F7F7F7F + 0x0101010101010101 // NaN is 127, with either sign
	}
	if found&0x8080808080808080 != 0 {
		return float32(math.NaN())
	}
	return 256 * m.scaleU8[m.Packed.Scales[row*m.groups+g]]
}

// transpose puts 16 rows of words, stride bytes apart, side by side: [words][16], with the order inside words that layout says.
func transpose(dst, src []byte, stride, words int, kind codesKind) {
	done := 0
	if f := active.transpose[kind]; f != nil && words >= 4 {
		done = words / 4 * 4
		_, _ = dst[done*4*panelRows-1], src[(panelRows-1)*stride+4*done-1]
		f(&dst[0], &src[0], stride, done/4)
	}
	for w := done; w < words; w++ {
		for r := range panelRows {
			v := le.Uint32(src[r*stride+4*w:])
			switch kind {
			case nibbles, minis:
				v = gather(v) | gather(v>>4)<<16
			case octets:
				v = v&0xFF0000FF | v>>8&0xFF00 | v&0xFF00<<8
			case halves, quarters:
				le.PutUint16(dst[(w*2*panelRows+r)*2:], uint16(v))
				le.PutUint16(dst[(w*2*panelRows+panelRows+r)*2:], uint16(v>>16))
				continue
			}
			le.PutUint32(dst[(w*panelRows+r)*4:], v)
		}
	}
}

// gather puts every other four bits, from the lowest, beside each other.
func gather(v uint32) uint32 {
	v &= 0x0F0F0F0F
	v = (v | v>>4) & 0x00FF00FF
	return (v | v>>8) & 0xFFFF
}
