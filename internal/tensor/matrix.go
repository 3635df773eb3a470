// Package tensor is the float32 arithmetic of running a model on the CPU: matrices that stay packed as their file has them, and the few operations between them.
//
// It promises the same bits on every machine, for any number of workers, and for a token computed alone or in a block of others: the order of every sum is part of what a function is
// (see Matrix.Mul), products are fused into sums only where that is said, and exp, log, sin and cos are its own. It knows no files and no models, and refuses matrices whose bytes do not follow from their sizes.
//
// reference.go says the arithmetic of a product plainly; tests hold the kernels of every level to it, bit for bit (see internal/cpu, internal/asmgen).
package tensor

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// Block is the number of neighbours in a row that are summed up on their own, before they are added to the sum of the row; a group of less is a block of its own.
const Block = 64

// Matrix is a weight [Rows, Cols] as it is stored: plain values, or quantized in one of MLX's formats. It does not change.
type Matrix struct {
	Rows, Cols int
	Float      quant.Float  // of plain values, or of affine scales and biases
	Scheme     quant.Scheme // Mode "" for plain values
	Packed     quant.Packed // plain values stand in Weight

	layout layout // of panels
	panels []byte // [panelCount][layout.bytes] after Lay

	rowBytes int
	groups   int           // scales in a row; 0 for plain values
	center   float32       // affine: what is subtracted from codes, so that they lie around 0
	values   *[256]float32 // of codes; as many count as there are codes
	scaleU8  *[256]float32 // of one-byte scales
}

// NewMatrix checks that the bytes are a matrix's. scheme has Mode "" for plain values.
func NewMatrix(rows, cols int, t quant.Float, scheme quant.Scheme, p quant.Packed) (*Matrix, error) {
	m := &Matrix{Rows: rows, Cols: cols, Float: t, Scheme: scheme, Packed: p}
	if rows < 1 || cols < 1 || t > quant.BF16 {
		return nil, fmt.Errorf("a matrix of %d x %d cannot be", rows, cols)
	}
	if scheme.Mode == "" {
		m.rowBytes = cols * t.Size()
		if len(p.Weight) != rows*m.rowBytes {
			return nil, fmt.Errorf("a %d x %d matrix of %s has %d bytes, not %d", rows, cols, t, rows*m.rowBytes, len(p.Weight))
		}
		m.layout = m.newLayout()
		return m, nil
	}
	if err := scheme.Validate(); err != nil {
		return nil, err
	}
	if cols%scheme.GroupSize != 0 {
		return nil, fmt.Errorf("%d columns are not a multiple of the group size %d", cols, scheme.GroupSize)
	}
	weight, scales, biases := scheme.Sizes(rows, cols, t)
	if len(p.Weight) != weight || len(p.Scales) != scales || len(p.Biases) != biases {
		return nil, fmt.Errorf("a %d x %d matrix in %s has %d, %d and %d bytes of weight, scales and biases, not %d, %d and %d", rows, cols, scheme,
			weight, scales, biases, len(p.Weight), len(p.Scales), len(p.Biases))
	}
	m.rowBytes, m.groups = weight/rows, cols/scheme.GroupSize
	m.prepare()
	m.layout = m.newLayout()
	return m, nil
}

// prepare works out the values of codes and one-byte scales, by asking package quant, which is where formats are known.
func (m *Matrix) prepare() {
	if m.Scheme.Mode == quant.Affine {
		m.center = float32(int(1) << (m.Scheme.Bits - 1)) // a power of two, so that scale*centre is exact
		if m.Scheme.Bits == 1 {
			m.center = 0.5
		}
	} else {
		m.scaleU8 = scaleValues(m.Scheme)
	}
	m.values = codeValues(m.Scheme, m.center)
}

// unitScales are scales and biases for which decoding gives code values less the centre.
func unitScales(s quant.Scheme, groups int, center float32) quant.Packed {
	if s.Mode == quant.Affine {
		return quant.Packed{Scales: repeatF32(1, groups), Biases: repeatF32(-center, groups)}
	}
	return quant.Packed{Scales: bytes.Repeat([]byte{unitScale(scaleValues(s))}, groups)}
}

func repeatF32(value float32, n int) []byte {
	one := make([]byte, 4)
	quant.F32.Encode(one, []float32{value})
	return bytes.Repeat(one, n)
}

// codeValues gives the values of all codes: those of a row that has each of them, in order.
func codeValues(s quant.Scheme, center float32) *[256]float32 {
	codes, bits := new([256]float32), uint(s.Bits)
	n := max(1<<bits, s.GroupSize)
	weight := make([]byte, n*s.Bits/8)
	for c := range 1 << bits {
		for b := range bits {
			at := uint(c)*bits + b
			weight[at/8] |= byte(c>>b&1) << (at % 8)
		}
	}
	p := unitScales(s, n/s.GroupSize, center)
	p.Weight = weight
	s.DecodeRow(codes[:n], p, quant.F32, 0, n)
	return codes
}

// scaleValues gives the value of each one-byte scale: that of a code that stands for 1.
func scaleValues(s quant.Scheme) *[256]float32 {
	if s.Mode == quant.NVFP4 {
		return nvScales()
	}
	return mxScales()
}

var nvScales = sync.OnceValue(func() *[256]float32 { return decodeScales(quant.Scheme{Mode: quant.NVFP4, Bits: 4, GroupSize: 16}) })
var mxScales = sync.OnceValue(func() *[256]float32 { return decodeScales(quant.Scheme{Mode: quant.MXFP4, Bits: 4, GroupSize: 32}) })

func decodeScales(s quant.Scheme) *[256]float32 {
	const one = 2 // the code of 1.0 in E2M1: exponent 1, mantissa 0
	p := quant.Packed{Weight: make([]byte, 256*s.GroupSize/2), Scales: make([]byte, 256)}
	for i := range p.Weight {
		p.Weight[i] = one | one<<4
	}
	for i := range p.Scales {
		p.Scales[i] = byte(i)
	}
	row := make([]float32, 256*s.GroupSize)
	s.DecodeRow(row, p, quant.F32, 0, len(row))
	out := new([256]float32)
	for i := range out {
		out[i] = row[i*s.GroupSize]
	}
	return out
}

func unitScale(values *[256]float32) byte {
	for b, v := range values {
		if v == 1 {
			return byte(b)
		}
	}
	panic("tensor: no scale is 1")
}

// Row writes the exact values of a row in float32 arithmetic, as an embedding is looked up.
func (m *Matrix) Row(dst []float32, row int) {
	if m.Scheme.Mode == "" {
		m.Float.Decode(dst[:m.Cols], m.Packed.Weight[row*m.rowBytes:][:m.rowBytes])
		return
	}
	m.Scheme.DecodeRow(dst[:m.Cols], m.Packed, m.Float, row, m.Cols)
}

// scales writes the scales of a row, and for affine what stands beside them: bias + scale*centre, the value of a code at the centre.
func (m *Matrix) scales(scale, bias []float32, row int) {
	if m.Scheme.Mode != quant.Affine {
		for g, b := range m.Packed.Scales[row*m.groups:][:m.groups] {
			scale[g] = m.scaleU8[b]
		}
		return
	}
	size := m.Float.Size() * m.groups
	m.Float.Decode(scale[:m.groups], m.Packed.Scales[row*size:][:size])
	m.Float.Decode(bias[:m.groups], m.Packed.Biases[row*size:][:size])
	for g, s := range scale[:m.groups] {
		bias[g] += float32(s * m.center)
	}
}

// Bytes that running with the matrix takes: as it is stored, or laid out.
func (m *Matrix) Bytes() int64 {
	if m.layout.segments > 0 {
		return int64(m.panelCount()) * int64(m.layout.bytes)
	}
	return int64(len(m.Packed.Weight)) + int64(len(m.Packed.Scales)) + int64(len(m.Packed.Biases))
}
