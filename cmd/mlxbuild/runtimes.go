package main

import (
	"context"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/backend/mlx"
	"github.com/mlxbuild/mlxbuild/backend/torch"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
)

// openRuntimes lists what runs models. Nothing is started before it is asked for something.
func (a *app) openRuntimes(python string) *backend.Set {
	find := worker.Finder{Flag: python}
	if dir, err := cache.DefaultDir(); err == nil {
		find.Dir = filepath.Join(dir, "runtimes")
	}
	return backend.NewSet(a.ctx, builtin.New(), mlx.New(find), torch.New(find))
}

// openHead reads the output matrix of a folder.
func openHead(dir string, compute backend.Compute) (validate.Head, error) {
	return builtin.OpenHead(dir, compute)
}

// compareWeights compares every parameter of two folders.
func compareWeights(reference, target string) (out []validate.Tensor, err error) {
	all, err := builtin.CompareWeights(reference, target)
	for _, d := range all {
		out = append(out, validate.NewTensor(d.Name, d.Error, d.Mode, d.Bits))
	}
	return out, err
}

// mlxConverter is mlx_lm.convert in the mlx runtime's worker.
type mlxConverter struct{ runtimes *backend.Set }

// ID of the mlx runtime.
func (c mlxConverter) ID() (string, error) { return c.runtimes.ID("mlx") }

func (c mlxConverter) worker() *worker.Runtime { return c.runtimes.Find("mlx").(*worker.Runtime) }

// Modules asks mlx-lm.
func (c mlxConverter) Modules(ctx context.Context, dir string) ([]convert.Module, int, error) {
	var answer struct {
		Modules []convert.Module `json:"modules"`
		Layers  int              `json:"layers"`
	}
	err := c.worker().Call(ctx, "modules", map[string]any{"dir": dir}, &answer)
	return answer.Modules, answer.Layers, err
}

// Convert has mlx-lm write a folder.
func (c mlxConverter) Convert(ctx context.Context, o convert.MLXOptions) error {
	request := map[string]any{"dir": o.Dir, "out": o.Out, "quantize": o.Quantize, "dequantize": o.Dequantize, "q_mode": o.Mode, "q_bits": o.Bits, "q_group_size": o.GroupSize, "dtype": nil, "rules": o.Rules}
	if o.DType != "" {
		request["dtype"] = o.DType
	}
	return c.worker().Call(ctx, "convert", request, nil)
}
