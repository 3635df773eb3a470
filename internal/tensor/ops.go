package tensor

import "math"

// Of all operations here the plain loop is the reference; kernels take as many whole 16 as there are, and have the same bits.

// whole is the part of n that kernels take.
func whole(n int) int { return n &^ 15 }

// RMSNorm writes x / sqrt(mean(x*x) + eps) * weight; sum and root are float64.
func RMSNorm(dst, x, weight []float32, eps float64) {
	root := 1 / math.Sqrt(sumSquares(x)/float64(len(x))+eps)
	dst, weight = dst[:len(x)], weight[:len(x)]
	if n := whole(len(x)); n > 0 && active.normalize != nil {
		active.normalize(&dst[0], &x[0], &weight[0], root, n/16)
		dst, x, weight = dst[n:], x[n:], weight[n:]
	}
	for i, e := range x {
		dst[i] = float32(float32(float64(e)*root) * weight[i])
	}
}

// sumSquares has a sum for each of 16 neighbours, which are added 8 apart, 4, 2 and 1 apart; then what is left over at the end, from the left.
func sumSquares(x []float32) float64 {
	var total float64
	if n := whole(len(x)); n > 0 && active.sumSquares != nil {
		total = active.sumSquares(&x[0], n/16)
		x = x[n:]
	} else if n > 0 {
		total = sumSquares16(x[:n])
		x = x[n:]
	}
	for _, v := range x {
		total += float64(float64(v) * float64(v))
	}
	return total
}

func sumSquares16(x []float32) float64 {
	var sums [16]float64
	for ; len(x) > 0; x = x[16:] {
		for l, v := range x[:16] {
			sums[l] += float64(float64(v) * float64(v))
		}
	}
	for apart := 8; apart > 0; apart /= 2 {
		for l := range apart {
			sums[l] += sums[l+apart]
		}
	}
	return sums[0]
}

// SiLUMul writes gate / (1 + exp(-gate)) * up.
func SiLUMul(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	if n := whole(len(gate)); n > 0 && active.siluMul != nil {
		active.siluMul(&dst[0], &gate[0], &up[0], n/16)
		dst, gate, up = dst[n:], gate[n:], up[n:]
	}
	for i, g := range gate {
		dst[i] = float32(float32(g/(1+exp32(-g))) * up[i])
	}
}

// Add adds x to dst.
func Add(dst, x []float32) {
	dst = dst[:len(x)]
	if n := whole(len(x)); n > 0 && active.add != nil {
		active.add(&dst[0], &x[0], n/16)
		dst, x = dst[n:], x[n:]
	}
	for i, v := range x {
		dst[i] += v
	}
}

// blend makes dst*keep + x*take.
func blend(dst, x []float32, keep, take float32) {
	dst = dst[:len(x)]
	if n := whole(len(x)); n > 0 && active.blend != nil {
		active.blend(&dst[0], &x[0], keep, take, n/16)
		dst, x = dst[n:], x[n:]
	}
	for i, v := range x {
		dst[i] = fma(dst[i], keep, float32(v*take))
	}
}

// scaleTo writes x*scale to dst.
func scaleTo(dst, x []float32, scale float32) {
	dst = dst[:len(x)]
	if n := whole(len(x)); n > 0 && active.scaleTo != nil {
		active.scaleTo(&dst[0], &x[0], scale, n/16)
		dst, x = dst[n:], x[n:]
	}
	for i, v := range x {
		dst[i] = float32(v * scale)
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
	if n := whole(half); n > 0 && active.turn != nil {
		active.turn(&low[0], &high[0], &cos[0], &sin[0], n/16)
		low, high, cos, sin = low[n:], high[n:], cos[n:], sin[n:]
	}
	for i, a := range low {
		b := high[i]
		low[i] = float32(a*cos[i]) - float32(b*sin[i])
		high[i] = float32(a*sin[i]) + float32(b*cos[i])
	}
}

// Largest is the place of the largest number, the first of equals, and whether all are finite; where they are not, the place says nothing.
func Largest(x []float32) (at int, finite bool) {
	const block = 1024 // of them, the one with the largest number is looked through once more
	best, from, bits := float32(math.Inf(-1)), 0, uint32(0)
	for lo := 0; lo < len(x); lo += block {
		most, b := extremes(x[lo:min(lo+block, len(x))])
		bits = max(bits, b)
		if most > best {
			best, from = most, lo
		}
	}
	for i, v := range x[from:] {
		if v == best {
			return from + i, bits < 0x7F800000
		}
	}
	return 0, bits < 0x7F800000
}

// extremes are the largest number, -Inf of none, and the bits of the largest magnitude, so that NaN is larger than all others.
func extremes(x []float32) (most float32, bits uint32) {
	most = float32(math.Inf(-1))
	if n := whole(len(x)); n > 0 && active.extremes != nil {
		most, bits = active.extremes(&x[0], n/16)
		x = x[n:]
	}
	for _, v := range x {
		if v > most {
			most = v
		}
		bits = max(bits, math.Float32bits(v)&0x7FFFFFFF)
	}
	return most, bits
}
