package benchmark_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/spec"
)

// The test's own program is the worker of a runtime: serve SLOWDOWN.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		by, err := strconv.ParseFloat(os.Args[2], 64)
		if err == nil {
			err = worker.Serve(context.Background(), os.Stdin, os.Stdout, slowed{builtin.New(), by})
		}
		if err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// slowed is a runtime that takes longer for every token, by a share of the time that it took.
type slowed struct {
	backend.Runtime
	by float64
}

func (s slowed) Load(ctx context.Context, dir string, c backend.Compute) (backend.Model, error) {
	m, err := s.Runtime.Load(ctx, dir, c)
	return slowedModel{m, s.by}, err
}

type slowedModel struct {
	backend.Model
	by float64
}

func (m slowedModel) Generate(ctx context.Context, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) ([]backend.Result, error) {
	started, last := time.Now(), time.Now()
	var at [][]time.Duration
	for range prompts {
		at = append(at, nil)
	}
	results, err := m.Model.Generate(ctx, prompts, o, func(e backend.Event) error {
		if m.by > 0 && e.Sequence == len(prompts)-1 {
			for until := time.Now().Add(time.Duration(m.by * float64(time.Since(last)))); time.Now().Before(until); {
			}
			last = time.Now()
		}
		at[e.Sequence] = append(at[e.Sequence], time.Since(started))
		if emit == nil {
			return nil
		}
		return emit(e)
	})
	for i := range results {
		results[i].At = at[i]
	}
	return results, err
}

// realityEnv says how many comparisons TestReality makes of each kind; it takes minutes, and its figures stand in docs/benchmarking.md.
const realityEnv = "MLXBUILD_REALITY"

// TestReality holds the gate to what it promises, on this machine as it is: builds that are the same are never slower, one that is slowed by 10 % always is.
func TestReality(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv(realityEnv))
	if err != nil {
		t.Skip("set " + realityEnv + "=30: measures for minutes")
	}
	for _, c := range []struct {
		name string
		by   float64 // of spinning on one core; that the others fall asleep meanwhile comes on top, and makes 10 % of 6 %
		want judge.Verdict
	}{{"the same", 0, judge.OK}, {"slowed by 10 %", 0.06, judge.Slower}} {
		t.Run(c.name, func(t *testing.T) {
			counts := map[judge.Verdict]int{}
			for i := range n {
				r := compare(t, c.by)
				if !r.OK() {
					t.Fatalf("%d: %s", i, r.Error)
				}
				checks, verdict := judge.Gate(r, &spec.Gate{Against: "git:x", SlowerBy: []spec.Tolerance{{Metric: benchmark.DecodeTokS, Share: 0.03}}}, nil)
				counts[verdict]++
				t.Logf("%d: %s, %d runs, ratio %.3f [%.3f, %.3f], %v", i, verdict, r.Ratios[benchmark.DecodeTokS].N, checks[0].Value.Value, checks[0].Value.Low, checks[0].Value.High, r.Flags)
			}
			t.Logf("%v", counts)
			if c.want == judge.OK && counts[judge.Slower] > 0 || c.want == judge.Slower && counts[judge.Slower] < n {
				t.Errorf("%v of %d", counts, n)
			}
		})
	}
}

// compare measures the tiny model against itself, one side slowed.
func compare(t *testing.T, by float64) *benchmark.Report {
	t.Helper()
	recipe := fmt.Sprintf("version: 1\nmodels: {tiny: {source: %q}}\nbenchmark: {b: {matrix: {target: tiny, runtime: builtin, shape: 64+32}, runs: {min: 12, max: 20, processes: 4}}}\n", "path:"+filepath.ToSlash(oracle.TinyStories(t)))
	r, diags := spec.LoadBytes("recipe.yaml", t.TempDir(), []byte(recipe), spec.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	r.Benchmarks[0].Folders, r.Benchmarks[0].Versus = true, &spec.Rival{Target: "tiny", Runtime: "torch", Compute: "float32"}
	return measure(t, r, func(name string, _ int) benchmark.Alone {
		slow := map[string]float64{"builtin": by, "torch": 0}[name]
		return worker.New(worker.Config{Name: "builtin", Program: []string{os.Args[0], "serve", fmt.Sprint(slow)}, Compute: []backend.Compute{backend.Float32}})
	})
}

// alias is the built-in runtime under the name of the other side.
type alias struct{ backend.Runtime }

func (alias) Name() string { return "torch" }

// measure runs a recipe with one cell.
func measure(t *testing.T, r *spec.Recipe, alone func(string, int) benchmark.Alone) *benchmark.Report {
	t.Helper()
	kind := benchmark.Kind{Runtimes: backend.NewSet(t.Context(), builtin.New(), alias{builtin.New()}), Alone: alone, Machine: machine.Read, Program: func() string { return "test" }}
	reports, _ := runCells(t, kind, openCache(t), r)
	return reports[0]
}
