package executor_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// tower is the plan of many models: for each a source, a conversion of it, 8 variants of that, 8 checks, 24 measurements and a report: 43 steps a model. Every step writes one file.
type tower struct{ models int }

func (t tower) Name() string { return "tower" }

func (t tower) Plan(b step.Builder) spec.Diags {
	for m := range t.models {
		prefix := "m" + strconv.Itoa(m) + "."
		at := func(name string) string { return prefix + name }
		src := b.Artifact(at("source"))
		b.Add(step.Step{Kind: "source", Name: at("source"), Source: still(at("source")), Out: src})
		add := func(name string, needs ...string) {
			s := step.Step{Kind: "x", Name: at(name), Target: at(name), Out: b.Artifact(at(name)), Action: towerAction(at(name)), Folder: filepath.Join(b.BuildDir(), at(name))}
			for i, n := range needs {
				s.Ins = append(s.Ins, step.In{Role: "r" + strconv.Itoa(i), Artifact: b.Artifact(at(n))})
			}
			b.Add(s)
		}
		add("conv", "source")
		var all []string
		for q := range 8 {
			name := "q" + strconv.Itoa(q)
			add(name, "conv")
			add(name+"v", name, "conv")
			all = append(all, name+"v")
			for n := range 3 {
				bench := name + "b" + strconv.Itoa(n)
				add(bench, name)
				all = append(all, bench)
			}
		}
		add("report", all...)
	}
	return nil
}

// still is a source that never changes.
type still string

func (s still) Known(*cache.Cache) (cache.Digest, bool) { return cache.SumBytes([]byte(s)), true }
func (s still) Read(context.Context, *step.Env) (cache.Digest, error) {
	return cache.SumBytes([]byte(s)), nil
}
func (s still) Dir() string                                             { return "" }
func (s still) Size() int64                                             { return 0 }
func (s still) After() string                                           { return "hashing" }
func (s still) Ready(*cache.Cache) bool                                 { return true }
func (s still) Check(context.Context, *cache.Cache, cache.Digest) error { return nil }

type towerAction string

func (a towerAction) Key(k *cache.KeyWriter) {
	k.Code("tower/1")
	k.Param("name", string(a))
}
func (a towerAction) Prepare() (*step.Forecast, error) { return &step.Forecast{}, nil }
func (a towerAction) Run(_ context.Context, e *step.Env) (*step.Result, error) {
	text := []byte(a)
	return &step.Result{Files: []step.File{{Path: "out", Digest: cache.SumBytes(text), Size: int64(len(text))}}}, os.WriteFile(e.Stage.Path("out"), text, 0o644)
}

// BenchmarkNoOp is a build with nothing to do, after the recipe is loaded: planning, looking at every step and every output, deciding. MLXBUILD_BENCH_STEPS sets the number of steps (default 1,000).
// It is what a build costs beside reading the recipe when there is no snapshot; bench/ninja.go has it beside ninja.
func BenchmarkNoOp(b *testing.B) {
	steps := 1000
	if text := os.Getenv("MLXBUILD_BENCH_STEPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		steps = n
	}
	dir := b.TempDir()
	recipe := []*spec.Recipe{{File: filepath.Join(dir, "r.yaml"), Dir: dir}}
	build := func() []executor.Outcome {
		c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{MaxSize: 1 << 40})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		g, diags := planner.Plan(recipe, []step.Kind{tower{(steps + 42) / 43}})
		if diags != nil {
			b.Fatal(diags)
		}
		want, err := g.Select(nil)
		if err != nil {
			b.Fatal(err)
		}
		out, err := executor.Run(context.Background(), g, want, executor.Options{Cache: c, Jobs: 4})
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as main does
	build()
	b.ResetTimer()
	for b.Loop() {
		for _, o := range build() {
			if o.State != executor.UpToDate {
				b.Fatalf("a step is %v: %v", o.State, o.Err)
			}
		}
	}
	b.ReportMetric(float64((steps+42)/43*43), "steps")
}
