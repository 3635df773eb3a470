package bandwidth

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// foldOf is the loop of a level.
func foldOf(l cpu.Level) func([]byte) uint64 {
	switch l {
	case cpu.AVX2:
		return folder(foldAVX2)
	case cpu.AVX512, cpu.AMX:
		return folder(foldAVX512)
	}
	return foldPlain
}
