package benchmark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// cell is the action of one step.
type cell struct {
	kind       Kind
	entry      spec.Benchmark
	cell       Cell
	sides      []side // the cell's, and its baseline's
	subject    subject
	noBaseline string
	recipeDir  string
}

// Key has everything that is measured and how, and the machine: a timing of another one is none of this one. Tolerances are not in it.
func (a *cell) Key(k *cache.KeyWriter) {
	k.Code(Code)
	k.Param("machine", a.kind.Machine().String())
	k.Param("batch", a.cell.Batch)
	k.Param("shape", a.cell.Shape())
	k.Param("threads", a.cell.Threads)
	k.Param("warmup", []any{a.entry.Warmup.Runs, a.entry.Warmup.Until})
	k.Param("runs", []any{a.entry.Runs.Min, a.entry.Runs.Max, a.entry.Runs.Until, a.entry.Runs.Processes})
	if a.kind.Quick {
		k.Param("quick", true)
	}
	k.Param("cooldown", []any{a.entry.Cooldown.Min.String(), a.entry.Cooldown.Nominal})
	if a.entry.Prompts != nil {
		var texts []any
		for _, p := range a.entry.Prompts {
			texts = append(texts, p.Text)
		}
		k.Param("prompts", texts)
	}
	for i, s := range a.sides {
		role := [...]string{"side", "baseline"}[i]
		k.Param(role+"_runtime", s.runtime)
		k.Param(role+"_compute", s.compute)
		if c := s.command; c != nil {
			k.Param(role+"_command", toAny(c.Run))
			k.Param(role+"_version", a.kind.version(a.recipeDir, c))
			for _, r := range c.Read {
				k.Param(role+"_read_"+r.Metric, r.Expr)
			}
			continue
		}
		k.Param(role+"_runtime_id", s.id)
		if s.runtime == "builtin" {
			k.Param("program", a.kind.Program())
		}
	}
}

func toAny(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// Benchmark is the recipe's entry, with its gate.
func (a *cell) Benchmark() spec.Benchmark { return a.entry }

// Cell is the place in the matrix.
func (a *cell) Cell() Cell { return a.cell }

// NoBaseline says why a cell with a gate has no baseline, as the plan is now; "" when it has one or needs none.
func (a *cell) NoBaseline() string { return a.noBaseline }

// Where finds the recipe line of a changed parameter.
func (a *cell) Where(name, path string) (spec.Pos, bool) {
	if pos, ok := a.entry.Where[name]; ok {
		return pos, true
	}
	return a.entry.Pos, true
}

// Prepare says how often the cell is run, and about how long that takes.
func (a *cell) Prepare() (*step.Forecast, error) {
	r := a.entry.Runs
	runs := fmt.Sprintf("%d to %d runs", r.Min, r.Max)
	if r.Min == r.Max {
		runs = fmt.Sprintf("%d runs", r.Min)
	}
	if len(a.sides) > 1 {
		runs += " in turn with " + a.sides[1].name
	}
	f := &step.Forecast{Summary: runs, Seconds: a.seconds()}
	if a.noBaseline != "" {
		f.Notes = append(f.Notes, a.noBaseline+", so there is no gate")
	}
	return f, nil
}

// paces of the runtimes on a CPU: seconds a token costs for each parameter, when it is read with others and when it is made. They are only there to say about how long a matrix that never ran will take.
var paces = map[string]struct{ read, write, start float64 }{"builtin": {2.8e-11, 3e-10, 0.2}, "torch": {1.5e-11, 2.4e-10, 8}, "mlx": {7e-11, 4e-9, 4}}

// seconds that the cell will take, roughly; 0 when nothing is known.
func (a *cell) seconds() float64 {
	bytes, scale := folderBytes(a.subject.dir), a.subject.scale
	if bytes == 0 {
		bytes, scale = folderBytes(a.subject.source), 1
	}
	params := float64(bytes) / 2 / scale
	total := 0.0
	for _, s := range a.sides {
		pace, ok := paces[s.runtime]
		if !ok || bytes == 0 {
			return 0
		}
		prompt := max(a.cell.Prompt, 16)
		run := params * (pace.read*float64(prompt*a.cell.Batch) + pace.write*float64(a.cell.Generated)*math.Sqrt(float64(a.cell.Batch)))
		run = max(run, 0.25*float64(len(a.sides)))
		runs := float64(a.entry.Runs.Min + a.entry.Runs.Processes*max(a.entry.Warmup.Runs, 1))
		total += runs*(run+a.entry.Cooldown.Min.Seconds()) + float64(a.entry.Runs.Processes)*pace.start
	}
	return min(total, a.entry.Timeout.Seconds())
}

func folderBytes(dir string) (bytes int64) {
	found, _ := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	for _, path := range found {
		if info, err := os.Stat(path); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// kept are the classes of errors that will be the same tomorrow. A result that another day may change is told and not kept.
var kept = map[string]bool{"unsupported": true, "bad_input": true}

// Run measures the cell. What goes wrong in it is a row among the others; only being interrupted is not.
func (a *cell) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	release, err := e.Cache.LockDevice(ctx, func(holder string) { e.Message("waiting for " + holder + ", which measures on this machine") })
	if err != nil {
		return nil, err
	}
	defer release()
	limited, cancel := context.WithTimeout(ctx, a.entry.Timeout)
	defer cancel()
	m := &measuring{cell: a, env: e, report: &Report{Format: Format, Cell: a.cell, Machine: a.kind.Machine(), Quick: a.kind.Quick, NoBaseline: a.noBaseline, Tokens: "random", Started: time.Now().UTC()}}
	if a.entry.Prompts != nil {
		m.report.Tokens = "prompts"
	}
	started := time.Now()
	err = m.measure(limited)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && limited.Err() != nil { // what was measured just in time counts
		err = &cellError{"timeout", fmt.Sprintf("over its time of %v after %s", a.entry.Timeout, m.count()), "raise timeout, or take a smaller shape"}
	}
	m.finish(err)
	m.report.Seconds = time.Since(started).Seconds()
	value, err := json.Marshal(m.report)
	if err != nil {
		return nil, err
	}
	return &step.Result{Value: value, Volatile: !m.report.OK() && !kept[m.report.Class]}, nil
}

// cellError is why a cell has no figures, with a class.
type cellError struct{ class, what, hint string }

func (e *cellError) Error() string { return e.what }

// Hint says what to do.
func (e *cellError) Hint() string { return e.hint }

// classOf an error: what its type says, internal otherwise.
func classOf(err error) string {
	var own *cellError
	var classed interface{ ErrorClass() string }
	var input *backend.InputError
	var compute *backend.ComputeError
	var missing *backend.MissingError
	switch {
	case errors.As(err, &own):
		return own.class
	case errors.As(err, &missing):
		return "missing"
	case errors.As(err, &compute):
		return "unsupported"
	case errors.As(err, &input):
		return "bad_input"
	case errors.As(err, &classed):
		return classed.ErrorClass()
	case errors.Is(err, errClock):
		return "clock"
	}
	return "internal"
}
