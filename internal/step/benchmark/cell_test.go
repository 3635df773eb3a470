package benchmark_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/null"
	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/fetch"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// fake is the null runtime under the name of another, in no process at all. Its clock is its own: a thousand tokens a second, exactly.
type fake struct {
	backend.Runtime
	name string
	lab  *lab
}

// lab is a kind with fakes, and what they saw.
type lab struct {
	kind benchmark.Kind
	mu   sync.Mutex
	// calls of Generate in order: "starts/side first id of the prompt".
	calls   []string
	prompts [][][]int32
	starts  int
	fail    func(calls int) error // of a call, by how many there were
	missing error
}

func newLab() *lab {
	l := &lab{}
	l.kind = benchmark.Kind{Runtimes: backend.NewSet(context.Background(), fake{null.New(), "builtin", l}, fake{null.New(), "torch", l}, fake{null.New(), "mlx", l}),
		Alone: func(name string, _ int) benchmark.Alone {
			l.starts++
			return alone{fake{null.New(), name, l}}
		},
		Machine: func() machine.Fingerprint {
			return machine.Fingerprint{Chip: "a chip", Cores: 2, Memory: 4, OS: "linux 6.1", Arch: "amd64"}
		},
		Program: func() string { return "v1" }, State: func() machine.State { return machine.State{Power: "ac", LowPower: "no", MemoryPressure: "normal"} }, Shortest: time.Nanosecond}
	return l
}

func (f fake) Name() string { return f.name }

func (f fake) ID(ctx context.Context) (string, error) {
	if f.name == "mlx" && f.lab.missing != nil {
		return "", f.lab.missing
	}
	return f.name + "/1", nil
}

func (f fake) Load(ctx context.Context, dir string, c backend.Compute) (backend.Model, error) {
	m, err := f.Runtime.Load(ctx, dir, c)
	if err != nil {
		return nil, err
	}
	return fakeModel{m, f}, nil
}

type fakeModel struct {
	backend.Model
	fake fake
}

func (m fakeModel) Generate(ctx context.Context, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) ([]backend.Result, error) {
	l := m.fake.lab
	l.mu.Lock()
	l.calls = append(l.calls, m.fake.name)
	l.prompts = append(l.prompts, prompts)
	n := len(l.calls)
	l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(n); err != nil {
			return nil, err
		}
	}
	return m.Model.Generate(ctx, prompts, o, emit)
}

type alone struct{ fake }

func (alone) Start(context.Context) error { return nil }
func (alone) PID() int                    { return 0 }
func (alone) Close() error                { return nil }

// recipe with one benchmark of the tiny model's folder.
func folderRecipe(t *testing.T, settings string) *spec.Recipe {
	t.Helper()
	text := fmt.Sprintf("version: 1\nmodels: {tiny: {source: %q}, other: {source: %q}}\nbenchmark: {b: {%s}}\n", "path:"+filepath.ToSlash(oracle.TinyStories(t)), "path:"+filepath.ToSlash(oracle.TinyStories(t)), settings)
	r, diags := spec.LoadBytes("recipe.yaml", t.TempDir(), []byte(text), spec.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	r.Benchmarks[0].Folders = true
	return r
}

func (l *lab) run(t *testing.T, c *cache.Cache, r *spec.Recipe) ([]*benchmark.Report, []executor.Outcome) {
	t.Helper()
	return runCells(t, l.kind, c, r)
}

// runCells plans and runs a recipe, and returns the reports of its cells.
func runCells(t *testing.T, kind benchmark.Kind, c *cache.Cache, r *spec.Recipe) ([]*benchmark.Report, []executor.Outcome) {
	t.Helper()
	g, diags := planner.Plan([]*spec.Recipe{r}, []step.Kind{fetch.Kind{}, kind})
	if diags != nil {
		t.Fatal(diags)
	}
	want, err := g.Select(nil)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := executor.Run(t.Context(), g, want, executor.Options{Cache: c, Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	var reports []*benchmark.Report
	var of []executor.Outcome
	for _, id := range want {
		o := outcomes[id]
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		rec := o.Record
		if rec == nil {
			rec, _ = c.Record(o.Key)
		}
		report := &benchmark.Report{}
		if err := json.Unmarshal(rec.Result, report); err != nil {
			t.Fatal(err)
		}
		reports, of = append(reports, report), append(of, o)
	}
	return reports, of
}

func openCache(t *testing.T) *cache.Cache {
	t.Helper()
	c, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCell(t *testing.T) {
	l, c := newLab(), openCache(t)
	reports, outcomes := l.run(t, c, folderRecipe(t, "matrix: {target: tiny, runtime: builtin, batch: [1, 3], shape: 20+5}"))
	if len(reports) != 2 || reports[0].Error != "" {
		t.Fatalf("%+v", reports)
	}
	one, batch := reports[0], reports[1]
	for name, want := range map[string]float64{benchmark.DecodeTokS: 1000, benchmark.TTFT: 21, benchmark.PrefillTokS: 20 / 0.021, benchmark.ITL50: 1, benchmark.WeightsBytes: null.Weights, benchmark.PeakMemory: null.Weights} {
		if f := one.Side.Metrics[name]; math.Abs(f.Value-want) > 1e-9 || math.Abs(f.High-f.Low) > 1e-9 {
			t.Errorf("%s is %+v, want %v", name, f, want)
		}
	}
	if f := batch.Side.Metrics[benchmark.BatchDecodeTokS]; math.Abs(f.Value-3000) > 1e-6 {
		t.Errorf("three texts at once make %v tokens a second", f.Value)
	}
	if n := one.Side.Metrics[benchmark.DecodeTokS].N; n != 6 || len(one.Side.Samples[benchmark.DecodeTokS]) != 6 || one.Processes != 2 || len(one.Side.Warmup) != 2 {
		t.Errorf("%d runs, %d processes, %d warm-ups; want 6, 2 and 2", n, one.Processes, len(one.Side.Warmup))
	}
	if outcomes[0].Record != nil {
		t.Error("a cell that went well is not kept")
	}
	before := l.starts
	if _, outcomes = l.run(t, c, folderRecipe(t, "matrix: {target: tiny, runtime: builtin, batch: [1, 3], shape: 20+5}")); l.starts != before || outcomes[0].State != executor.UpToDate {
		t.Errorf("the second time %d processes were started", l.starts-before)
	}
}

// Every prompt of every run is another one, and both sides get the same.
func TestPrompts(t *testing.T) {
	l := newLab()
	r := folderRecipe(t, "matrix: {target: tiny, runtime: builtin, batch: 2, shape: 20+5}, runs: {min: 6, max: 6, processes: 1}, warmup: {runs: 0}")
	r.Benchmarks[0].Versus = &spec.Rival{Target: "other", Runtime: "torch", Compute: "float32"}
	reports, _ := l.run(t, openCache(t), r)
	if reports[0].Error != "" {
		t.Fatal(reports[0].Error)
	}
	seen := map[string]int{}
	for _, batch := range l.prompts {
		for _, ids := range batch {
			if len(ids) != 20 || slices.ContainsFunc(ids, func(id int32) bool { return id < 0 || id >= null.Vocabulary }) {
				t.Fatalf("a prompt of %d ids: %v", len(ids), ids)
			}
			seen[fmt.Sprint(ids)]++
		}
	}
	for ids, n := range seen {
		if n != 2 {
			t.Errorf("a prompt was read %d times, want once by each side: %s", n, ids)
		}
	}
	if f := reports[0].Ratios[benchmark.DecodeTokS]; f.Value != 1 || f.N != 6 {
		t.Errorf("the ratio of equal sides is %+v", f)
	}
}

func TestSidesTakeTurns(t *testing.T) {
	l := newLab()
	r := folderRecipe(t, "matrix: {target: tiny, runtime: builtin, shape: 20+5}, runs: {min: 6, max: 6, processes: 1}, warmup: {runs: 0}")
	r.Benchmarks[0].Versus = &spec.Rival{Target: "other", Runtime: "torch", Compute: "float32"}
	l.run(t, openCache(t), r)
	got := strings.NewReplacer("builtin", "A", "torch", "B", " ", "").Replace(strings.Join(l.calls, " "))
	if got != "ABBAABBAABBA" {
		t.Errorf("the sides ran in the order %s", got)
	}
}

type classed struct{ class string }

func (e classed) Error() string      { return "it is " + e.class }
func (e classed) ErrorClass() string { return e.class }

// What goes wrong in a cell is a row; only what will be the same tomorrow is kept.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		settings string
		prepare  func(l *lab)
		class    string
		says     string
		kept     bool
	}{
		"a worker dies in the seventh call": {"matrix: {target: tiny, runtime: builtin, shape: 20+5}", func(l *lab) {
			l.fail = func(n int) error {
				if n == 7 {
					return classed{"died"}
				}
				return nil
			}
		}, "died", "it is died", false},
		"out of memory":        {"matrix: {target: tiny, runtime: builtin, shape: 20+5}", func(l *lab) { l.fail = func(int) error { return classed{"oom"} } }, "oom", "it is oom", false},
		"no such arithmetic":   {"matrix: {target: tiny, runtime: builtin, compute: bfloat16, shape: 20+5}", nil, "unsupported", "cannot compute in", true},
		"longer than possible": {"matrix: {target: tiny, runtime: builtin, shape: 600+5}", nil, "bad_input", "do not fit the model's context of 512", true},
		"a missing runtime": {"matrix: {target: tiny, runtime: mlx, shape: 20+5}", func(l *lab) {
			l.missing = &backend.MissingError{Runtime: "mlx", What: "nothing was installed", Do: "install it"}
		},
			"missing", "the mlx runtime is missing", false},
		"over its time": {"matrix: {target: tiny, runtime: builtin, shape: 20+5}, timeout: 30ms", func(l *lab) {
			l.fail = func(int) error { time.Sleep(20 * time.Millisecond); return nil }
		}, "timeout", "over its time of 30ms after", false},
		"on a battery": {"matrix: {target: tiny, runtime: builtin, shape: 20+5}, require: {power: ac}", func(l *lab) {
			l.kind.State = func() machine.State { return machine.State{Power: "battery"} }
		}, "conditions", "the machine has power battery", false},
		"a program without leave": {"matrix: {target: tiny, runtime: \"command:x\", shape: 20+5}, commands: {x: {run: [x], read: {decode_tok_s: '(.*)'}}}", nil, "not_allowed", "not run unless", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			if c.prepare != nil {
				c.prepare(l)
			}
			reports, outcomes := l.run(t, openCache(t), folderRecipe(t, c.settings))
			r := reports[0]
			if r.Class != c.class || !strings.Contains(r.Error, c.says) {
				t.Errorf("%s: %s", r.Class, r.Error)
			}
			if kept := outcomes[0].Record == nil; kept != c.kept {
				t.Errorf("kept: %v", kept)
			}
		})
	}
}

func TestCancelIsNoRow(t *testing.T) {
	l := newLab()
	ctx, cancel := context.WithCancel(t.Context())
	l.fail = func(n int) error {
		if n == 4 {
			cancel()
			return context.Canceled
		}
		return nil
	}
	g, diags := planner.Plan([]*spec.Recipe{folderRecipe(t, "matrix: {target: tiny, runtime: builtin, batch: [1, 2, 3], shape: 20+5}")}, []step.Kind{fetch.Kind{}, l.kind})
	if diags != nil {
		t.Fatal(diags)
	}
	want, _ := g.Select(nil)
	outcomes, err := executor.Run(ctx, g, want, executor.Options{Cache: openCache(t), Jobs: 1})
	if !errors.Is(err, executor.ErrInterrupted) {
		t.Fatal(err)
	}
	for _, id := range want {
		if outcomes[id].State == executor.Done {
			t.Errorf("%s is done", g.Steps[id].Name)
		}
	}
}

// The key moves with all that a timing depends on, and not with what it is judged by.
func TestKey(t *testing.T) {
	key := func(settings string, change func(l *lab)) string {
		l := newLab()
		if change != nil {
			change(l)
		}
		g, diags := planner.Plan([]*spec.Recipe{folderRecipe(t, settings)}, []step.Kind{fetch.Kind{}, l.kind})
		if diags != nil {
			t.Fatal(diags)
		}
		want, _ := g.Select(nil)
		text, _ := g.Key(want[0], make([]cache.Digest, len(g.Steps[want[0]].Ins)))
		return text
	}
	base := "matrix: {target: tiny, runtime: builtin, shape: 20+5}"
	same := key(base, nil)
	for what, settings := range map[string]string{
		"batch": "matrix: {target: tiny, runtime: builtin, shape: 20+5, batch: 2}", "shape": "matrix: {target: tiny, runtime: builtin, shape: 20+6}", "threads": "matrix: {target: tiny, runtime: builtin, shape: 20+5, threads: 1}",
		"runtime": "matrix: {target: tiny, runtime: torch, shape: 20+5}", "compute": "matrix: {target: tiny, runtime: builtin, compute: float64, shape: 20+5}",
		"runs": base + ", runs: {max: 7}", "warmup": base + ", warmup: {runs: 2}", "cooldown": base + ", cooldown: {min: 1ms}",
	} {
		if key(settings, nil) == same {
			t.Errorf("the key does not know %s", what)
		}
	}
	for what, settings := range map[string]string{"timeout": base + ", timeout: 5m", "require": base + ", require: {power: ac}", "gate": base + ", runs: {min: 6, processes: 2}, gate: {against: accepted, slower_by: {ttft_ms: 1%}}"} {
		if key(settings, nil) != same {
			t.Errorf("the key moves with %s", what)
		}
	}
	if key(base, func(l *lab) { l.kind.Program = func() string { return "v2" } }) == same {
		t.Error("the key does not know the program")
	}
	if key(base, func(l *lab) {
		l.kind.Machine = func() machine.Fingerprint { return machine.Fingerprint{Chip: "another"} }
	}) == same {
		t.Error("the key does not know the machine")
	}
}

func TestCommand(t *testing.T) {
	l := newLab()
	var ran [][]string
	l.kind.Run = func(_ context.Context, _ string, argv []string) (string, error) {
		ran = append(ran, argv)
		if argv[0] == "version" {
			return "x 1.2\n", nil
		}
		return "pp20 | 99.5\ntg5 | 12\ntg5 | 50.5\n", nil
	}
	settings := `matrix: {target: tiny, runtime: "command:x", shape: 20+5, threads: 3}, commands: {x: {run: [x, "-m", "{model}", "{prompt}/{generated}/{batch}/{threads}"], version: [version], read: {decode_tok_s: 'tg\d+ \| ([0-9.]+)', prefill_tok_s: 'pp\d+ \| ([0-9.]+)'}}}`
	reports, _ := l.run(t, openCache(t), folderRecipe(t, settings))
	r := reports[0]
	if r.Error != "" || r.Side.Metrics[benchmark.DecodeTokS].Value != 50.5 || r.Side.Metrics[benchmark.PrefillTokS].Value != 99.5 {
		t.Fatalf("%s %+v", r.Error, r.Side.Metrics)
	}
	if got := ran[len(ran)-1]; !slices.Equal(got, []string{"x", "-m", oracle.TinyStories(t), "20/5/1/3"}) {
		t.Errorf("ran %v", got)
	}
	l.kind.Run = func(context.Context, string, []string) (string, error) { return "nothing to see", nil }
	reports, _ = l.run(t, openCache(t), folderRecipe(t, settings))
	if reports[0].Class != "output" || !strings.Contains(reports[0].Error, "nothing to see") {
		t.Errorf("%s: %s", reports[0].Class, reports[0].Error)
	}
}

func TestQuick(t *testing.T) {
	l := newLab()
	l.kind.Quick = true
	reports, _ := l.run(t, openCache(t), folderRecipe(t, "matrix: {target: tiny, runtime: builtin, shape: 20+5}, runs: {min: 12}"))
	if r := reports[0]; r.Side.Metrics[benchmark.DecodeTokS].N != 3 || !r.Quick || !slices.Contains(r.Flags, "quick") {
		t.Errorf("a quick look: %d runs, %v", r.Side.Metrics[benchmark.DecodeTokS].N, r.Flags)
	}
}

// Every metric of the table is explained in the documents, in the same words.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "benchmarking.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range benchmark.Table {
		if name, _, _ := strings.Cut(m.Name, "."); !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/benchmarking.md does not name %s", m.Name)
		}
	}
}
