package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level, or the best below it.
func kernelsOf(l cpu.Level) (k kernels) {
	k.opsKernels = opsOf(l)
	if l == cpu.AVX2 {
		integersAVX2(&k)
		floatsAVX2(&k)
	}
	if l == cpu.AVX512 || l == cpu.AMX {
		integersAVX512(&k)
		floatsAVX512(&k)
	}
	if l == cpu.AMX {
		k.hasTiles = true
		tilesAMX(&k)
	}
	return k
}
