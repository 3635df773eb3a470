package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level: products. What lies between them, and laying out panels, is plain Go.
func kernelsOf(l cpu.Level) (k kernels) {
	if l == cpu.NEON {
		integersNEON(&k)
		floatsNEON(&k)
	}
	return k
}
