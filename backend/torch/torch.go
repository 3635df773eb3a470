// Package torch is the runtime of PyTorch and transformers: the reference for parity, and the peer of benchmarks. It loads Hugging Face folders, and MLX folders, whose quantized weights its worker
// turns into floats.
package torch

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
	find.Pins, find.Module = Requirements, "torch"
	return worker.New(worker.Config{Name: "torch", Script: script, Compute: []backend.Compute{backend.Float32, backend.BFloat16, backend.Float16}, Find: find})
}
