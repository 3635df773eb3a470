package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level, or the best below it.
func kernelsOf(l cpu.Level) (k kernels) {
	if l == cpu.AVX512 || l == cpu.AMX {
		k.plainF32 = [shapes]func(*float32, int, *float32, int, *float32, int){mulF32FloatBy1AVX512, mulF32FloatBy4AVX512, mulF32FloatBy12AVX512}
		k.plainF16 = [shapes]func(*float32, int, *uint16, int, *float32, int){mulF16FloatBy1AVX512, mulF16FloatBy4AVX512, mulF16FloatBy12AVX512}
	}
	return k
}
