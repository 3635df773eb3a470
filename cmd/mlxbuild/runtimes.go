package main

import (
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/backend/mlx"
	"github.com/mlxbuild/mlxbuild/backend/torch"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/cache"
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
func openHead(dir string) (validate.Head, error) { return builtin.OpenHead(dir) }

// compareWeights compares every parameter of two folders.
func compareWeights(reference, target string) (out []validate.Tensor, err error) {
	all, err := builtin.CompareWeights(reference, target)
	for _, d := range all {
		out = append(out, validate.NewTensor(d.Name, d.Error, d.Mode, d.Bits))
	}
	return out, err
}
