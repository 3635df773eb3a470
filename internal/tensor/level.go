package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernels are the products in assembly of one level; nil stands for plain Go.
type kernels struct {
	plainF32 [shapes]func(dst *float32, stride int, panel *float32, panelStride int, x *float32, steps int)
	plainF16 [shapes]func(dst *float32, stride int, panel *uint16, panelStride int, x *float32, steps int)
}

// active are the kernels in use; tests change them.
var active = kernelsOf(cpu.Best())
