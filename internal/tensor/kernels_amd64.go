package tensor

import "golang.org/x/sys/cpu"

// haveFour reports whether this CPU runs the assembly: AVX2, and nothing newer.
var haveFour = cpu.X86.HasAVX2

//go:noescape
func mulFour(a *fourArgs)

//go:noescape
func splitPairs(dst, src *float32, steps int)

//go:noescape
func dotPair(out *[2]float32, q, k0, k1 *float32, steps int)

//go:noescape
func addFour(dst, v *float32, stride, steps int, w *[4]float32)
