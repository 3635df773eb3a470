package bandwidth

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// foldOf is the loop of a level.
func foldOf(l cpu.Level) func([]byte) uint64 {
	if l == cpu.NEON {
		return folder(foldNEON)
	}
	return foldPlain
}
