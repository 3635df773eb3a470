//go:build !amd64 && !arm64

package tensor

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level: there are none here.
func kernelsOf(cpu.Level) (k kernels) { return k }
