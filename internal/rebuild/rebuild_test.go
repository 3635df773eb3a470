package rebuild_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/rebuild"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// world is a recipe whose steps write what they are told and what they were made of. Each can be told to do otherwise the second time.
type world struct {
	t     *testing.T
	dir   string
	steps []*fake
	ran   []string
}

type fake struct {
	name   string
	needs  []string
	class  step.Determinism
	source string // content; "" for steps
	pinned bool   // a source whose digest is known without reading, and whose content is at hand
	says   string // beside its inputs
	value  bool   // a result and no files
	loose  bool   // files that lie in the cache only
	fail   error
	before func()
}

func (w *world) Name() string { return "fake" }

func (w *world) Plan(b step.Builder) spec.Diags {
	for _, f := range w.steps {
		s := step.Step{Kind: "fake", Name: "fake " + f.name, Target: f.name, Out: b.Artifact(f.name + " in " + b.BuildDir()), Pool: step.PoolCPU}
		for _, n := range f.needs {
			s.Ins = append(s.Ins, step.In{Role: n, Artifact: b.Artifact(n + " in " + b.BuildDir())})
		}
		if f.source != "" {
			s.Source = source{w, f}
		} else {
			s.Action = action{w, f}
			if !f.value && !f.loose {
				s.Folder = filepath.Join(b.BuildDir(), f.name)
			}
		}
		b.Add(s)
	}
	return nil
}

type source struct {
	w *world
	*fake
}

func (s source) memo() cache.Digest { return cache.SumBytes([]byte("remembered " + s.name)) }
func (s source) Known(c *cache.Cache) (cache.Digest, bool) {
	if s.pinned {
		return cache.SumBytes(s.listing()), true
	}
	return c.Memo(s.memo())
}
func (s source) listing() []byte {
	return fmt.Appendf(nil, "0644 %d %s text\n", len(s.source), cache.SumBytes([]byte(s.source)))
}
func (s source) Dir() string                                             { return filepath.Join(s.w.dir, s.name) }
func (s source) Size() int64                                             { return 0 }
func (s source) After() string                                           { return "hashing" }
func (s source) Ready(*cache.Cache) bool                                 { return !s.pinned }
func (s source) Check(context.Context, *cache.Cache, cache.Digest) error { return nil }
func (s source) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	if s.fail != nil {
		return cache.Digest{}, s.fail
	}
	s.w.ran = append(s.w.ran, s.name)
	text := []byte(s.source)
	if _, err := os.Stat(s.Dir()); err == nil && s.pinned {
		return cache.SumBytes(s.listing()), nil
	}
	if err := os.MkdirAll(s.Dir(), 0o755); err != nil {
		return cache.Digest{}, err
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "text"), text, 0o644); err != nil {
		return cache.Digest{}, err
	}
	d, err := e.Cache.AddBytes(s.listing())
	e.Cache.SetMemo(s.memo(), d)
	return d, err
}

type action struct {
	w *world
	*fake
}

func (a action) Key(k *cache.KeyWriter)           { k.Code("fake/1"); k.Param("name", a.name) }
func (a action) Prepare() (*step.Forecast, error) { return &step.Forecast{}, nil }
func (a action) Determinism() step.Determinism {
	if a.class == "" {
		return step.Exact
	}
	return a.class
}
func (a action) input(in step.Input) (string, error) {
	path := in.Files["text"]
	if in.Dir != "" {
		path = filepath.Join(in.Dir, "text")
	}
	data, err := os.ReadFile(path)
	return string(data), err
}

func (a action) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	a.w.ran = append(a.w.ran, a.name)
	if a.before != nil {
		a.before()
	}
	if a.fail != nil {
		return nil, a.fail
	}
	out := a.name + a.says + "("
	for _, in := range e.Inputs {
		text, err := a.input(in)
		if err != nil {
			return nil, err
		}
		out += text
	}
	out += ")"
	if a.value {
		value, err := json.Marshal(out)
		return &step.Result{Value: value}, err
	}
	if err := os.WriteFile(e.Stage.Path("text"), []byte(out), 0o644); err != nil {
		return nil, err
	}
	return &step.Result{Files: []step.File{{Path: "text", Digest: cache.SumBytes([]byte(out)), Size: int64(len(out))}}}, nil
}

func (w *world) plan(build string) *planner.Graph {
	w.t.Helper()
	g, diags := planner.Plan([]*spec.Recipe{{File: "r.yaml", Dir: w.dir, Build: build}}, []step.Kind{w})
	if diags != nil {
		w.t.Fatal(diags)
	}
	return g
}

func (w *world) step(name string) *fake {
	for _, f := range w.steps {
		if f.name == name {
			return f
		}
	}
	w.t.Fatalf("no step %s", name)
	return nil
}

// built makes a world and builds it.
func built(t *testing.T, steps ...*fake) (*world, *cache.Cache) {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), steps: steps}
	c, err := cache.Open(filepath.Join(w.dir, "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g := w.plan(filepath.Join(w.dir, "build"))
	want, err := g.Select(nil)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := executor.Run(context.Background(), g, want, executor.Options{Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	w.ran = nil
	return w, c
}

func (w *world) check(ctx context.Context, c *cache.Cache, change func(*rebuild.Options)) ([]rebuild.Finding, error) {
	w.t.Helper()
	o := rebuild.Options{Cache: c, Built: w.plan(filepath.Join(w.dir, "build")), Dir: w.t.TempDir()}
	o.Again = w.plan(filepath.Join(o.Dir, "build"))
	var err error
	if o.Want, err = o.Built.Select(nil); err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	return rebuild.Run(ctx, o)
}

// says is one line a finding: its step and state, and the files that differ.
func (w *world) says(c *cache.Cache, change func(*rebuild.Options)) string {
	w.t.Helper()
	all, err := w.check(context.Background(), c, change)
	if err != nil {
		w.t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range all {
		fmt.Fprintf(&out, "%s: %s", strings.TrimPrefix(f.Step, "fake "), f.State)
		for _, d := range f.Differences {
			where := "again"
			if d.Where != rebuild.Remade {
				where = "build"
			}
			fmt.Fprintf(&out, " %s %s", where, d.File)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func hold(t *testing.T, got string, want ...string) {
	t.Helper()
	if got != strings.Join(want, "\n")+"\n" {
		t.Errorf("got\n%swant\n%s", got, strings.Join(want, "\n"))
	}
}

func line() []*fake {
	return []*fake{{name: "src", source: "s"}, {name: "a", needs: []string{"src"}}, {name: "loose", needs: []string{"a"}, loose: true}, {name: "b", needs: []string{"a", "loose"}}, {name: "v", needs: []string{"b", "src"}, value: true}}
}

func TestEqual(t *testing.T) {
	w, c := built(t, line()...)
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: equal", "b: equal", "v: equal")
	if !slices.Equal(w.ran, []string{"src", "a", "loose", "b", "v"}) {
		t.Errorf("ran %v", w.ran)
	}
}

// A step that makes something else is named, and what hangs on it is not judged; others are.
func TestDiffers(t *testing.T) {
	w, c := built(t, append(line(), &fake{name: "other", needs: []string{"src"}})...)
	w.step("loose").says = "!"
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: differs again text", "b: unjudged", "v: unjudged", "other: equal")
	w.step("loose").says = ""
	w.step("v").says = "!"
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: equal", "b: equal", "v: differs again (result)", "other: equal")
	w.step("v").says = ""
	w.step("a").fail = errors.New("no luck")
	hold(t, w.says(c, nil), "src: equal", "a: failed", "loose: unjudged", "b: unjudged", "v: unjudged", "other: equal")
	w.step("a").fail = nil
	w.step("src").source = "S" // as a disk would that lost a bit: what is remembered of it stays
	hold(t, w.says(c, nil), "src: differs again text", "a: unjudged", "loose: unjudged", "b: unjudged", "v: unjudged", "other: unjudged")
}

// A source that is pinned is taken for what it was when it arrived; here it is hashed.
func TestPinned(t *testing.T) {
	w, c := built(t, line()...)
	w.step("src").pinned = true
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: equal", "b: equal", "v: equal")
	if err := os.WriteFile(filepath.Join(w.dir, "src", "text"), []byte("S"), 0o644); err != nil {
		t.Fatal(err)
	}
	hold(t, w.says(c, nil), "src: differs again text", "a: differs again text", "loose: unjudged", "b: unjudged", "v: unjudged")
}

// A build folder that somebody wrote into.
func TestBuildFolder(t *testing.T) {
	w, c := built(t, line()...)
	path := filepath.Join(w.dir, "build", "b", "text")
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: equal", "b: differs build text", "v: equal")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	hold(t, w.says(c, nil), "src: equal", "a: equal", "loose: equal", "b: differs build text", "v: equal")
	if err := os.RemoveAll(filepath.Join(w.dir, "build")); err != nil {
		t.Fatal(err)
	}
	all, err := w.check(context.Background(), c, nil)
	if err != nil || all[3].State != rebuild.Equal || all[3].Reason != "it is not in its build folder" {
		t.Errorf("%v, %+v", err, all[3])
	}
}

// Steps that promise no bytes are not made again unless that is asked for; what hangs on them is checked on what they once made.
func TestClasses(t *testing.T) {
	w, c := built(t, &fake{name: "src", source: "s"}, &fake{name: "mlx", needs: []string{"src"}, class: step.Tolerant}, &fake{name: "exact", needs: []string{"mlx"}},
		&fake{name: "time", needs: []string{"mlx"}, value: true, class: step.Sampled})
	w.step("mlx").says = "~"
	hold(t, w.says(c, nil), "mlx: not checked", "exact: equal", "time: not checked")
	if !slices.Equal(w.ran, []string{"exact"}) {
		t.Errorf("ran %v", w.ran)
	}
	hold(t, w.says(c, func(o *rebuild.Options) { o.Inexact = true }), "src: equal", "mlx: may differ again text", "exact: unjudged", "time: not checked")
	w.step("mlx").says = ""
	hold(t, w.says(c, func(o *rebuild.Options) { o.Inexact = true }), "src: equal", "mlx: equal", "exact: equal", "time: not checked")
}

// A sample makes nothing but itself; its inputs are what they were, or are made too where they are gone.
func TestSample(t *testing.T) {
	w, c := built(t, line()...)
	counts := map[string]int{}
	for seed := range uint64(40) {
		w.ran = nil
		w.says(c, func(o *rebuild.Options) { o.Sample, o.Seed = 0.25, seed })
		for _, name := range w.ran {
			if name != "src" {
				counts[name]++
			}
		}
		if len(w.ran) > 2 {
			t.Fatalf("seed %d ran %v", seed, w.ran)
		}
	}
	for _, name := range []string{"a", "loose", "b", "v"} {
		if counts[name] == 0 {
			t.Errorf("%s was never in 40 samples: %v", name, counts)
		}
	}

	// Without the cache's blobs and the build folders there is nothing to take.
	if err := os.RemoveAll(filepath.Join(w.dir, "build")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.Dir(), "blobs")); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(40) {
		w.ran = nil
		text := w.says(c, func(o *rebuild.Options) { o.Sample, o.Seed = 0.25, seed })
		if strings.Contains(text, "v: equal") {
			if !slices.Equal(w.ran, []string{"src", "a", "loose", "b", "v"}) {
				t.Errorf("ran %v", w.ran)
			}
			return
		}
	}
	t.Error("v was never in 40 samples")
}

// An input that is gone and cannot be made again leaves out what needs it.
func TestLost(t *testing.T) {
	w, c := built(t, &fake{name: "src", source: "s"}, &fake{name: "mlx", needs: []string{"src"}, class: step.Tolerant}, &fake{name: "exact", needs: []string{"mlx"}}, &fake{name: "next", needs: []string{"exact"}})
	for _, dir := range []string{filepath.Join(w.dir, "build"), filepath.Join(c.Dir(), "blobs")} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	hold(t, w.says(c, nil), "mlx: not checked", "exact: not checked", "next: not checked")
	if w.ran != nil {
		t.Errorf("ran %v", w.ran)
	}
}

// Steps without a record are not made.
func TestNotBuilt(t *testing.T) {
	w, c := built(t, line()...)
	if err := os.RemoveAll(filepath.Join(c.Dir(), "records")); err != nil {
		t.Fatal(err)
	}
	hold(t, w.says(c, nil), "a: not built", "loose: not built", "b: not built", "v: not built")
	if w.ran != nil {
		t.Errorf("ran %v", w.ran)
	}
}

func TestInterrupted(t *testing.T) {
	w, c := built(t, line()...)
	ctx, cancel := context.WithCancel(context.Background())
	w.step("loose").before = cancel
	if _, err := w.check(ctx, c, nil); !errors.Is(err, executor.ErrInterrupted) {
		t.Errorf("%v", err)
	}
}
