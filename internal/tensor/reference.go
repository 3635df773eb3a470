package tensor

import "github.com/mlxbuild/mlxbuild/internal/quant"

// mulReference is Mul for one row and one vector, plainly:
//
// The columns are taken in blocks of 64, or of a group where groups are smaller. In a block the products of code values and activations are added pair by pair, (0,1) (2,3) ..., and pair i
// is added to sum i mod 4; the four sums are added as (0+1)+(2+3). A block's sum times its scale is added to the row's sum, from left to right. Affine weights are
// scale*code + bias = scale*(code-centre) + (bias+scale*centre); the second part meets only the sum of the group's activations, and is added to the row's sum after the group's blocks.
// Beyond the last column stand zeros.
func mulReference(m *Matrix, in *Input, row, t int) float32 {
	codes := make([]float32, in.stride)
	m.codesReference(codes, row)
	scale, bias := make([]float32, m.groups), make([]float32, m.groups)
	if m.groups > 0 {
		m.scales(scale, bias, row)
	}
	x := in.padded(t)
	sums := in.groupSums(m.Scheme.GroupSize, t)
	var total float32
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
		if end := at + m.block; m.Scheme.Mode == quant.Affine && end%m.Scheme.GroupSize == 0 {
			g := at / m.Scheme.GroupSize
			total += float32(bias[g] * sums[g])
		}
	}
	return total
}
