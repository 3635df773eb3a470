package tensor

import "math"

// RMSNorm writes x / sqrt(mean(x*x) + eps) * weight; sum and root are float64.
func RMSNorm(dst, x, weight []float32, eps float64) {
	var a0, a1, a2, a3 float64
	v := x
	for ; len(v) >= 4; v = v[4:] {
		a0 += float64(float64(v[0]) * float64(v[0]))
		a1 += float64(float64(v[1]) * float64(v[1]))
		a2 += float64(float64(v[2]) * float64(v[2]))
		a3 += float64(float64(v[3]) * float64(v[3]))
	}
	for _, e := range v {
		a0 += float64(float64(e) * float64(e))
	}
	root := 1 / math.Sqrt(((a0+a1)+(a2+a3))/float64(len(x))+eps)
	dst, weight = dst[:len(x)], weight[:len(x)]
	for i, e := range x {
		dst[i] = float32(float32(float64(e)*root) * weight[i])
	}
}

// SiLUMul writes gate / (1 + exp(-gate)) * up.
func SiLUMul(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		dst[i] = float32(float32(float64(g)/(1+Exp(-float64(g)))) * up[i])
	}
}

// Add adds x to dst.
func Add(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] += v
	}
}

// Rope turns pairs of a head's values by angles that grow with the position.
type Rope struct {
	Inverse     []float64 // radians a position for each pair
	Scale       float64   // what turned values are multiplied with
	Traditional bool      // pairs are neighbours; else i and i + half
}

// Angles writes cosine and sine for a position, Scale in them.
func (r *Rope) Angles(cos, sin []float32, position int) {
	for i, inverse := range r.Inverse {
		s, c := SinCos(float64(float64(position) * inverse))
		cos[i], sin[i] = float32(c*r.Scale), float32(s*r.Scale)
	}
}

// Turn turns the values of one head.
func (r *Rope) Turn(x, cos, sin []float32) {
	half := len(r.Inverse)
	if r.Traditional {
		for i := range half {
			a, b := x[2*i], x[2*i+1]
			x[2*i] = float32(a*cos[i]) - float32(b*sin[i])
			x[2*i+1] = float32(a*sin[i]) + float32(b*cos[i])
		}
		return
	}
	low, high := x[:half], x[half:][:half]
	cos, sin = cos[:half], sin[:half]
	for i, a := range low {
		b := high[i]
		low[i] = float32(a*cos[i]) - float32(b*sin[i])
		high[i] = float32(a*sin[i]) + float32(b*cos[i])
	}
}

// Dot is the sum of products of two vectors of one length: pairs in four sums, as in Mul, and what is left over at the end in the first.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	whole := len(a) &^ 7
	total := dot(a[:whole], b[:whole])
	var rest float32
	for i := whole; i < len(a); i++ {
		rest += float32(a[i] * b[i])
	}
	return total + rest
}

// dot is the sum of products of two vectors of one length, a multiple of 8: pairs in four sums.
func dot(q, x []float32) float32 {
	var a0, a1, a2, a3 float32
	for len(q) >= 8 && len(x) >= 8 {
		a0 += float32(q[0]*x[0]) + float32(q[1]*x[1])
		a1 += float32(q[2]*x[2]) + float32(q[3]*x[3])
		a2 += float32(q[4]*x[4]) + float32(q[5]*x[5])
		a3 += float32(q[6]*x[6]) + float32(q[7]*x[7])
		q, x = q[8:], x[8:]
	}
	return (a0 + a1) + (a2 + a3)
}
