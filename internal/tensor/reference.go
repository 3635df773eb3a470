package tensor

import "github.com/mlxbuild/mlxbuild/internal/quant"

// mulReference is Mul for one row and one vector, plainly:
//
// The columns are taken in blocks of 64, or of a group where groups are smaller. In a block the products of code values and activations are added pair by pair, (0,1) (2,3) ..., and pair i
// is added to sum i mod 4; the four sums are added as (0+1)+(2+3). A block's sum times its scale is added to the row's sum, from left to right. Affine weights are
// scale*code + bias = scale*(code-centre) + (bias+scale*centre); the second part meets only the sum of the group's activations, and has a row's sum of its own, which is added last.
// Beyond the last column stand zeros.
func mulReference(m *Matrix, in *Input, row, t int) float32 {
	codes := make([]float32, in.stride)
	m.codesReference(codes, row)
	scale, bias := make([]float32, m.groups), make([]float32, m.groups)
	if m.groups > 0 {
		m.scales(scale, bias, row)
	}
	x := in.padded(t)
	var total, rest float32
	for at := 0; at < m.Cols; at += m.block {
		var lanes [4]float32
		for i := 0; i < m.block; i += 2 {
			lanes[i/2%4] += float32(codes[at+i]*x[at+i]) + float32(codes[at+i+1]*x[at+i+1])
		}
		d := (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
		if m.groups > 0 {
			d = float32(scale[at/m.Scheme.GroupSize] * d)
		}
		total += d
	}
	if m.Scheme.Mode != quant.Affine {
		return total
	}
	for g, s := range in.groupSums(m.Scheme.GroupSize, t) {
		rest += float32(bias[g] * s)
	}
	return total + rest
}
