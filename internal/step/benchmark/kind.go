// Package benchmark is the step kind that says how fast targets are: one cached step for each cell of a matrix, valid on the machine that it was measured on.
//
// A cell runs alone on the machine, in a process of its own for each side. Where it is compared with a baseline, both are measured in turn, A B B A, so that what changes slowly is in both. What comes out are
// samples and figures; whether they are good enough is judged afterwards, against tolerances that are in no key.
package benchmark

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Code is raised when what this package writes for the same key changes, or how it measures.
const Code = "benchmark/1"

// Alone is a runtime in a process of its own.
type Alone interface {
	backend.Runtime
	Start(ctx context.Context) error
	PID() int
	Close() error
}

// Kind plans the benchmark section.
type Kind struct {
	Runtimes *backend.Set
	// Alone makes a runtime with a process of its own and so many threads; 0 = all.
	Alone   func(runtime string, threads int) Alone
	Machine func() machine.Fingerprint
	// Program is the identity of this program: what times the built-in runtime.
	Program func() string
	// Run starts a user's own program in a folder and returns what it wrote to standard output; nil where that was not allowed.
	Run   func(ctx context.Context, dir string, argv []string) (output string, err error)
	Quick bool // three runs, no gate
	// State of the machine; nil: machine.Now.
	State func() machine.State
	// Shortest is how long a side runs at least in a run, twice that where two are compared; 0: a quarter of a second.
	Shortest time.Duration
}

// Name of the kind.
func (Kind) Name() string { return "benchmark" }

// Plan adds one step for each cell.
func (k Kind) Plan(b step.Builder) (diags spec.Diags) {
	for _, entry := range b.Recipe().Benchmarks {
		p := &planning{Kind: k, b: b, entry: entry, seen: map[string]bool{}}
		p.plan()
		diags = append(diags, p.diags...)
	}
	return diags
}

type planning struct {
	Kind
	b     step.Builder
	entry spec.Benchmark
	seen  map[string]bool
	diags spec.Diags
}

// subject is a model folder that is measured.
type subject struct {
	id       string
	artifact string
	labels   step.Labels
	dtype    string
	dir      string // where it will be
	source   string // the folder it is made of, "" when unknown
	scale    float64
}

func (p *planning) fail(pos spec.Pos, hints []string, format string, args ...any) {
	p.diags = append(p.diags, spec.Diag{Pos: pos, Msg: fmt.Sprintf(format, args...), Hints: hints})
}

// subjects that the selectors of the matrix pick.
func (p *planning) subjects(selectors []string) (out []subject) {
	if p.entry.Folders {
		for _, m := range p.b.Recipe().Models {
			if slices.Contains(selectors, m.Name) {
				out = append(out, folder(m))
			}
		}
		return out
	}
	for _, t := range p.b.Targets() {
		if t.Picked(selectors) {
			out = append(out, target(t, p.b.BuildDir()))
		}
	}
	return out
}

func folder(m spec.Model) subject {
	return subject{id: m.Name, artifact: step.ModelArtifact(m), labels: step.Labels{"target": m.Name, "model": m.Name}, dtype: "auto", dir: m.Source.Path, scale: 1}
}

func target(t step.Target, buildDir string) subject {
	s := subject{id: t.ID, artifact: step.TargetArtifact(buildDir, t.ID), labels: t.Labels(), dtype: t.DType, dir: step.TargetDir(buildDir, t.ID), source: t.Model.Source.Path, scale: 1}
	if t.Quantization.Quantize && t.Quantization.Bits != nil {
		s.scale = float64(*t.Quantization.Bits) / 16
	}
	return s
}

func (p *planning) plan() {
	for _, sel := range p.entry.Matrix.Targets {
		if p.entry.Folders {
			break
		}
		if wrong, hints := step.Unmatched(sel, p.b.Targets()); wrong != "" {
			p.fail(p.entry.Matrix.Pos, hints, "benchmark.%s.matrix.target: %s", p.entry.Name, wrong)
		}
	}
	m := p.entry.Matrix
	for _, s := range p.subjects(m.Targets) {
		for _, runtime := range m.Runtimes {
			for _, compute := range m.Computes {
				for _, batch := range m.Batches {
					for _, shape := range m.Shapes {
						for _, threads := range m.Threads {
							if !p.excluded(s, runtime, compute, batch, shape, threads) {
								p.add(s, runtime, compute, batch, shape, threads, p.entry.Pos)
							}
						}
					}
				}
			}
		}
	}
	for _, row := range m.Include {
		found := p.subjects([]string{row.Target})
		if len(found) == 0 {
			p.fail(row.Pos, nil, "benchmark.%s.matrix.include: %s is no target of this recipe", p.entry.Name, row.Target)
		}
		for _, s := range found {
			p.add(s, row.Runtime, row.Compute, row.Batch, row.Shape, row.Threads, row.Pos)
		}
	}
}

func (p *planning) excluded(s subject, runtime, compute string, batch int, shape spec.Shape, threads int) bool {
	for _, f := range p.entry.Matrix.Exclude {
		picked := len(f.Targets) == 0 || slices.ContainsFunc(f.Targets, func(sel string) bool { return step.Match(sel, s.id, s.labels) })
		if picked && has(f.Runtimes, runtime) && has(f.Computes, compute) && has(f.Batches, batch) && has(f.Shapes, shape) && has(f.Threads, threads) {
			return true
		}
	}
	return false
}

// has reports whether an axis of a filter matches; an empty one does.
func has[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

// add plans a cell. What auto and default come to may be the same as another cell, which then is not planned twice.
func (p *planning) add(s subject, runtime, compute string, batch int, shape spec.Shape, threads int, pos spec.Pos) {
	own := p.side(s, runtime, compute)
	c := Cell{Target: s.id, Runtime: own.runtime, Compute: own.compute, Batch: batch, Prompt: shape.Prompt, Generated: shape.Generated, Threads: threads}
	if p.entry.Prompts != nil {
		c.Prompt = 0
	}
	name := "benchmark " + p.entry.Name + " " + s.id + " " + c.Label()
	if p.seen[name] {
		return
	}
	p.seen[name] = true
	a := &cell{kind: p.Kind, entry: p.entry, cell: c, sides: []side{own}, subject: s, recipeDir: p.b.Recipe().Dir}
	if p.Quick {
		a.entry.Runs = spec.Runs{Min: 3, Max: 3, Processes: 1}
		a.entry.Gate = nil
	}
	ins := []step.In{{Role: "model", Artifact: p.b.Artifact(s.artifact)}}
	if other, ok := p.baseline(a, s, runtime, compute); ok {
		ins = append(ins, step.In{Role: "baseline", Artifact: p.b.Artifact(other.artifact)})
	}
	labels := step.Labels{"kind": "benchmark", "benchmark": p.entry.Name, "runtime": c.Runtime, "compute": c.Compute, "batch": fmt.Sprint(batch), "shape": c.Shape(), "threads": threadsText(threads)}
	for k, v := range s.labels {
		labels[k] = v
	}
	p.b.Add(step.Step{Kind: "benchmark", Name: name, Target: s.id, Labels: labels, Pos: pos, Pool: step.PoolDevice, Ins: ins, Out: p.b.Artifact(name + " in " + p.b.BuildDir()), Action: a})
}

func threadsText(n int) string {
	if n == 0 {
		return "all"
	}
	return fmt.Sprint(n)
}

// baseline finds what a cell is measured in turn with, and notes it in the cell.
func (p *planning) baseline(a *cell, s subject, runtime, compute string) (subject, bool) {
	if v := p.entry.Versus; v != nil {
		for _, other := range p.subjects([]string{v.Target}) {
			a.sides = append(a.sides, p.side(other, v.Runtime, v.Compute))
			return other, true
		}
	}
	if a.entry.Gate == nil || a.entry.Gate.Against == "accepted" {
		return subject{}, false
	}
	dir, targets, why := p.b.At(a.entry.Gate.Against)
	if why != "" {
		a.noBaseline = why
		return subject{}, false
	}
	for _, t := range targets {
		if t.ID == s.id {
			other := target(t, dir)
			rival := p.side(other, runtime, compute)
			rival.name = s.id + " at " + a.entry.Gate.Against
			a.sides = append(a.sides, rival)
			return other, true
		}
	}
	a.noBaseline = fmt.Sprintf("%s has no target %s", a.entry.Gate.Against, s.id)
	return subject{}, false
}

// side of a cell: a runtime in an arithmetic, on one folder.
type side struct {
	name    string
	runtime string
	compute string
	id      string
	missing error
	command *spec.Command
}

func (p *planning) side(s subject, runtime, compute string) side {
	for i, c := range p.entry.Commands {
		if runtime == "command:"+c.Name {
			return side{name: s.id, runtime: runtime, compute: "own", command: &p.entry.Commands[i]}
		}
	}
	out := side{name: s.id, runtime: p.Runtimes.Resolve(runtime), compute: compute}
	if compute == "default" {
		out.compute = defaultCompute(out.runtime, s.dtype)
	}
	out.id, out.missing = p.Runtimes.ID(out.runtime)
	return out
}

// defaultCompute is what a runtime's users would run: mlx-lm runs a model in the type that it is stored in.
func defaultCompute(runtime, dtype string) string {
	switch {
	case runtime == "builtin":
		return string(backend.Fast)
	case runtime != "mlx":
		return string(backend.Float32)
	case dtype == "float16" || dtype == "float32":
		return dtype
	}
	return string(backend.BFloat16)
}

// Determinism: a timing is another one each time.
func (c *cell) Determinism() step.Determinism { return step.Sampled }

// Runtimes that are timed; a recipe's own programs are none of them.
func (c *cell) Runtimes() (names []string) {
	for _, s := range c.sides {
		if s.command == nil {
			names = append(names, s.runtime)
		}
	}
	return names
}
