package tensor

import (
	"math"

	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// The operations in float64, plainly: what the fast ones are measured against. Weights are what they are stored as, exactly: scale*code + bias is worked out in float64 too.

// Row64 writes a row's weights. codes, scale and bias are room for Cols and twice the number of groups.
func (m *Matrix) Row64(dst []float64, row int, s *Scratch64) {
	m.codes(s.codes[:m.Cols], row)
	if m.Scheme.Mode == "" {
		for i, c := range s.codes[:m.Cols] {
			dst[i] = float64(c)
		}
		return
	}
	scale, bias := s.scale[:m.groups], s.bias[:m.groups]
	clear(bias)
	var center float64
	if m.Scheme.Mode == quant.Affine {
		size := m.Float.Size() * m.groups
		m.Float.Decode(scale, m.Packed.Scales[row*size:][:size])
		m.Float.Decode(bias, m.Packed.Biases[row*size:][:size])
		center = float64(m.center)
	} else {
		m.scales(scale, nil, row)
	}
	for i, c := range s.codes[:m.Cols] {
		g := i / m.Scheme.GroupSize
		dst[i] = float64(float64(scale[g])*(float64(c)+center)) + float64(bias[g])
	}
}

// Scratch64 is room for decoding rows.
type Scratch64 struct{ codes, scale, bias []float32 }

// NewScratch64 makes room for rows of at most cols columns.
func NewScratch64(cols int) *Scratch64 {
	return &Scratch64{make([]float32, cols+Block), make([]float32, cols), make([]float32, cols)}
}

// Mul64 writes the products of all rows with vectors, dst[t][row]. Each row is decoded once.
func (m *Matrix) Mul64(p *Pool, dst, x [][]float64) {
	p.Run(func(worker int) {
		s, row := NewScratch64(m.Cols), make([]float64, m.Cols)
		lo, hi := p.Share(worker, m.Rows, 1)
		for r := lo; r < hi; r++ {
			m.Row64(row, r, s)
			for t := range x {
				dst[t][r] = dot64(row, x[t])
			}
		}
	})
}

func dot64(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i] * b[i])
		s1 += float64(a[i+1] * b[i+1])
		s2 += float64(a[i+2] * b[i+2])
		s3 += float64(a[i+3] * b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// RMSNorm64 writes x / sqrt(mean(x*x) + eps) * weight.
func RMSNorm64(dst, x []float64, weight []float32, eps float64) {
	root := 1 / math.Sqrt(dot64(x, x)/float64(len(x))+eps)
	for i, v := range x {
		dst[i] = float64(float64(v*root) * float64(weight[i]))
	}
}

// SiLUMul64 writes silu(gate) * up into gate.
func SiLUMul64(gate, up []float64) {
	for i, g := range gate {
		gate[i] = float64(g/(1+Exp(-g))) * up[i]
	}
}

// Turn64 turns the values of one head by a position.
func (r *Rope) Turn64(x []float64, position int) {
	half := len(r.Inverse)
	for i, inverse := range r.Inverse {
		sin, cos := SinCos(float64(float64(position) * inverse))
		sin, cos = sin*r.Scale, cos*r.Scale
		lo, hi := i, half+i
		if r.Traditional {
			lo, hi = 2*i, 2*i+1
		}
		a, b := x[lo], x[hi]
		x[lo] = float64(a*cos) - float64(b*sin)
		x[hi] = float64(a*sin) + float64(b*cos)
	}
}

// Attend64 writes softmax(query . keys * scale) . values, over the keys and values of some positions.
func Attend64(dst, query []float64, keys, values [][]float64, scale float64) {
	weights := make([]float64, len(keys))
	top := math.Inf(-1)
	for i, k := range keys {
		weights[i] = dot64(query, k) * scale
		top = math.Max(top, weights[i])
	}
	var sum float64
	for i, w := range weights {
		weights[i] = Exp(w - top)
		sum += weights[i]
	}
	clear(dst)
	for i, v := range values {
		w := weights[i] / sum
		for d := range dst {
			dst[d] += float64(w * v[d])
		}
	}
}
