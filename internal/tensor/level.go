package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernels are the products in assembly of one level; nil stands for plain Go.
type kernels struct {
	// by kind of codes, type of scales, bytes of an activation less one, and shape
	integers [pairs][scaleTypes][2][shapes]func(dst *float32, stride int, panel, x *byte, steps *float32, segments, wordPairs int)
	// by kind of codes, type of scales, and shape
	floats [pairs][scaleTypes][shapes]func(dst *float32, stride int, panel *byte, panelStride int, codes, x, sums *float32, segments, words int)
	// by kind, and shape
	plain [codesKinds][shapes]func(dst *float32, stride int, panel *byte, panelStride int, x *float32, steps int)
	// by kind: four words at a time
	transpose [codesKinds]func(dst, src *byte, stride, fours int)

	tileProducts
	opsKernels
}

// scaleTypes is the number of types that scales have.
const scaleTypes = 3

// active are the kernels in use; tests change them.
var active = kernelsOf(cpu.Best())
