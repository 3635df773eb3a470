package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/backend/mlx"
	"github.com/mlxbuild/mlxbuild/backend/torch"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	machinery "github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
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

// alone is a runtime in a process of its own, for timing it. The built-in one runs in this program, started again.
func (a *app) alone(name string, threads int) benchmark.Alone {
	if r, ok := a.runtimes.Find(name).(*worker.Runtime); ok {
		_ = r.Close() // the one that was asked what it is holds memory; it starts again when it is needed
		if name == "torch" && threads == 0 {
			threads = machinery.Read().Cores // by itself it takes the host's cores, not the container's, or what OMP_NUM_THREADS happens to say
		}
		return r.Alone(threads)
	}
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	c := worker.Config{Name: name, Program: []string{self, "worker", name}, Compute: builtin.Computes}
	if threads > 0 {
		c.Env = []string{fmt.Sprintf("GOMAXPROCS=%d", threads)}
	}
	if v := os.Getenv("MLXBUILD_CPU"); v != "" {
		c.Env = append(c.Env, "MLXBUILD_CPU="+v)
	}
	return worker.New(c)
}

type workerCmd struct {
	Runtime string `arg:"" enum:"builtin" help:"The runtime to serve."`
}

func (c workerCmd) Run(a *app) error {
	return worker.Serve(a.ctx, os.Stdin, a.stdout, a.runtimes.Find(c.Runtime))
}

// identity of this program, for keys of what it times: its version, or the digest of its file where it has none.
func identity(c *cache.Cache) func() string {
	forced := ""
	if v := os.Getenv("MLXBUILD_CPU"); v != "" {
		forced = " MLXBUILD_CPU=" + v
	}
	return sync.OnceValue(func() string { return build(c) + forced })
}

func build(c *cache.Cache) string {
	if v := version(); v != "devel" && !strings.Contains(v, "+") {
		return v
	}
	path, err := os.Executable()
	if err != nil {
		return "devel"
	}
	info, err := os.Stat(path)
	if err != nil {
		return "devel"
	}
	memo := cache.SumBytes(fmt.Appendf(nil, "program\n%s\n%d\n%d", path, info.Size(), info.ModTime().UnixNano()))
	if d, ok := c.Memo(memo); ok {
		return "devel " + d.Short()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "devel"
	}
	d := cache.SumBytes(data)
	c.SetMemo(memo, d)
	return "devel " + d.Short()
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
