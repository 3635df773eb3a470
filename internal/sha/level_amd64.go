package sha

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// blocksOf is the kernel of a level.
func blocksOf(l cpu.Level) func(state *uint32, streams *[]byte, blocks int) {
	if l == cpu.AVX512 || l == cpu.AMX {
		return blocksAVX512
	}
	return nil
}
