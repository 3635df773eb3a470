// Package builtin is the runtime that needs nothing installed: MLX model folders run on the CPU, read in place, in Go.
//
// It computes what mlx-lm 0.32.2 makes of a folder, in better precision: weights as stored, activations and sums in float32, norms, exponentials and angles in float64; or, many times slower,
// everything in float64, which is the strictest reference there is. It promises the same bits on every machine, whatever the number of cores, and whether a token is computed alone or with others. It refuses folders whose tensors are not exactly those that config.json asks
// for, and never runs code that a model brings.
package builtin

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// Code is this runtime's part of a cache key. It is raised when any result can change.
const Code = "builtin/3"

// Computes are the arithmetics that it has.
var Computes = []backend.Compute{backend.Float32, backend.Fast, backend.Int8, backend.Float64}

// arithmetics are those of tensor's products.
var arithmetics = map[backend.Compute]tensor.Arithmetic{backend.Float32: tensor.Float32, backend.Fast: tensor.Fast, backend.Int8: tensor.Int8}

// Runtime runs models on the CPU.
type Runtime struct {
	workers int          // 0: one for each core
	memory  func() int64 // that may still be taken, 0 where that is unknown; nil: no matter how much
}

// New returns the runtime. It starts nothing.
func New() backend.Runtime { return Runtime{memory: machine.Available} }

// Name is what recipes call it.
func (Runtime) Name() string { return "builtin" }

// ID is Code: results do not depend on the machine.
func (Runtime) ID(context.Context) (string, error) { return Code, nil }

// Load maps the weights of a folder and checks them against its config.json.
func (r Runtime) Load(ctx context.Context, dir string, compute backend.Compute) (backend.Model, error) {
	if !slices.Contains(Computes, compute) {
		return nil, &backend.ComputeError{Runtime: "builtin", Asked: compute, Has: Computes}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, w, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	workers := r.workers
	if workers == 0 {
		workers = cores()
	}
	if compute == backend.Float64 {
		return newPrecise(s, w, workers), nil
	}
	if r.memory != nil {
		w.arena.Budget = budgetOf(r.memory())
	}
	m, err := newModel(s, w, workers, arithmetics[compute])
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// cores are the processors that Go uses, as far as the process may run on so many: workers that take turns on a core wait for each other, 2 on one at half the speed of 1.
func cores() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU()) }

// budgetOf leaves an eighth of memory to Go's heap, to the kernel's tables, and to files, whose pages come and go.
func budgetOf(memory int64) *tensor.Budget {
	if memory == 0 {
		return nil
	}
	return tensor.NewBudget(memory / 8 * 7)
}

// newModel makes a model ready. With an error, too, it has to be closed.
func newModel(s *settings, w *weights, workers int, a tensor.Arithmetic) (*model, error) {
	m := &model{gate: newGate(s, w, workers), pace: newPace()}
	m.network = s.model.Network(w, m.pool, block, a)
	m.hidden = make([]float32, block*m.info.HiddenSize)
	m.tokens, m.places = make([]int32, 0, block), make([]arch.Place, 0, block)
	m.note(backend.PhaseLoad, 0)
	return m, w.arena.Budget.Take("activations and logits of a block", m.network.Bytes()+4*int64(len(m.hidden)+headRows*m.info.VocabSize))
}
