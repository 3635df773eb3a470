package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// haveFour reports whether this CPU runs the assembly of attention.
var haveFour = cpu.Has(cpu.AVX2)

var useFour = haveFour

//go:noescape
func dotPair(out *[2]float32, q, k0, k1 *float32, steps int)

//go:noescape
func addFour(dst, v *float32, stride, steps int, w *[4]float32)
