package tensor

import (
	"math"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// mulReference is Mul for one row and one vector, plainly. mulIntegers, mulFloats and mulPlain say the same of panels.
//
// Codes are taken in segments of 64 columns, or of a group where groups are smaller. A segment's sum of products of codes and activations is worked out alone: of whole numbers exactly, of float32 as a chain of fused
// multiply-adds from the left. It is scaled and added to the row's sum, from left to right; an affine weight's bias meets only the sum of the segment's activations. Plain weights are added up in chains of 64 columns.
func mulReference(m *Matrix, in *Input, row, t int) float32 {
	x := in.Row(t)
	codes := make([]float32, m.Cols)
	m.codesReference(codes, row)
	if m.layout.plain() {
		if m.Scheme.Mode != "" {
			m.Row(codes, row)
		}
		var total float32
		for at := 0; at < m.Cols; at += Block {
			var chain float32
			for k := at; k < min(at+Block, m.Cols); k++ {
				chain = fma(codes[k], x[k], chain)
			}
			total += chain
		}
		return total
	}
	scale, bias := make([]float32, m.groups), make([]float32, m.groups)
	m.affine(scale, bias, row)
	var total float32
	for s := range m.layout.segments {
		at := s * m.layout.segment
		g := at / m.Scheme.GroupSize
		of := segmentReference{codes[at:][:m.layout.segment], x, at, scale[g], bias[g]}
		if m.form(in.arithmetic) == asFloats {
			total = of.floats(m, total)
		} else {
			total = of.integers(m, m.form(in.arithmetic).width(), total)
		}
	}
	return total
}

// segmentReference is one segment of a row, and a vector.
type segmentReference struct {
	codes       []float32 // less m.center
	x           []float32
	at          int
	scale, bias float32
}

func (s segmentReference) floats(m *Matrix, total float32) float32 {
	x := s.x[s.at:][:len(s.codes)]
	var chain float32
	for i, c := range s.codes {
		if m.layout.kind == minis {
			c *= 2
		}
		chain = fma(c, x[i], chain)
	}
	if m.layout.biased {
		total = fma(fma(m.center, s.scale, s.bias), sumReference(x), total)
		return fma(s.scale, chain, total)
	}
	return fma(s.scale/2, chain, total)
}

// sumReference adds chains of every eighth number, and those two by two.
func sumReference(x []float32) float32 {
	var a [8]float32
	for i, v := range x {
		a[i%8] += v
	}
	return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
}

func (s segmentReference) integers(m *Matrix, width int, total float32) float32 {
	step, q := stepReference(s.x, s.at/Block*Block, width)
	var dot, sum int64
	for i, c := range s.codes {
		code := int64(c + m.center)
		if m.layout.kind == minis {
			code = int64(2 * c)
		}
		dot += code * q[s.at%Block+i]
		sum += q[s.at%Block+i]
	}
	scale := s.scale
	if m.layout.biased {
		total = fma(s.bias, float32(step*float32(sum)), total)
	} else {
		scale /= 2
	}
	return fma(float32(scale*step), float32(dot), total)
}

// stepReference makes whole numbers of 64 neighbours; beyond the end stand zeros.
func stepReference(x []float32, at, width int) (step float32, q [Block]int64) {
	x = x[at:min(at+Block, len(x))]
	var largest float64
	for _, v := range x {
		if v-v != 0 {
			return float32(math.NaN()), q
		}
		largest = max(largest, math.Abs(float64(v)))
	}
	step = float32(largest) / most[width]
	if step < 0x1p-126 {
		return 0, q
	}
	inverse := 1 / step
	for i, v := range x {
		q[i] = int64(math.RoundToEven(float64(float32(v * inverse))))
	}
	return step, q
}

// affine writes the scales of a row, and its biases where it has them.
func (m *Matrix) affine(scale, bias []float32, row int) {
	if m.Scheme.Mode != quant.Affine {
		m.scales(scale, nil, row)
		return
	}
	size := m.Float.Size() * m.groups
	m.Float.Decode(scale, m.Packed.Scales[row*size:][:size])
	m.Float.Decode(bias, m.Packed.Biases[row*size:][:size])
}
