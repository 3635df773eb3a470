//go:build !amd64 && !arm64

package bandwidth

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// foldOf is the loop of a level: there are none here.
func foldOf(cpu.Level) func([]byte) uint64 { return foldPlain }
