//go:build !amd64 && !arm64

package quant

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernelsOf are those of a level: there are none here.
func kernelsOf(cpu.Level) *kernels { return nil }
