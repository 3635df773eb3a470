// Package mlx is the runtime of MLX and mlx-lm, on whatever device MLX takes: Metal, CUDA or the CPU. What a folder means, mlx-lm says.
package mlx

import (
	_ "embed"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/worker"
)

//go:embed worker.py
var script string

// Requirements of the environment that is made for it, with exact versions and hashes.
//
//go:embed requirements.txt
var Requirements string

// New returns the runtime. It starts nothing. find says where Python may be; what it has to have is filled in here.
func New(find worker.Finder) *worker.Runtime {
	find.Pins, find.Module = Requirements, "mlx_lm"
	return worker.New(worker.Config{Name: "mlx", Script: script, Compute: []backend.Compute{backend.Float32, backend.BFloat16, backend.Float16}, Find: find})
}
