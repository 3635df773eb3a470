//go:build !amd64

package tensor

const haveFour = false

var useFour = false

const noAssembly = "BUG: tensor: there is no assembly here"

func dotPair(out *[2]float32, q, k0, k1 *float32, steps int)    { panic(noAssembly) }
func addFour(dst, v *float32, stride, steps int, w *[4]float32) { panic(noAssembly) }
