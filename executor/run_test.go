package executor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// world is a plan of fake steps that work: each writes its parameter and its inputs' text into one file. What ran is remembered, because cache behaviour is what ran.
type world struct {
	t     *testing.T
	dir   string
	cache *cache.Cache
	mu    sync.Mutex
	ran   []string
	met   map[string]int // by step: how many it met at its seat, itself included
	steps []fake
}

type fake struct {
	name    string
	needs   []string
	param   string
	output  func(inputs string) string // nil: parameter and inputs
	fail    error
	running func(ctx context.Context) // called while it runs
	source  string                    // content of a source; "" for steps
	pinned  bool                      // a source whose digest is known before it is here
	pool    string
	pass    string
	writes  int64 // by forecast
	memory  int64 // the same, without its inputs
	holds   bool  // its inputs
}

func newWorld(t *testing.T, steps ...fake) *world {
	w := &world{t: t, dir: t.TempDir(), steps: steps}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	c, err := cache.Open(filepath.Join(w.dir, "cache"), cache.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cache = c
	w.t.Cleanup(func() { c.Close() })
}

// set changes one step.
func (w *world) set(name string, change func(*fake)) {
	for i := range w.steps {
		if w.steps[i].name == name {
			change(&w.steps[i])
		}
	}
}

// Name, Plan make the world a step.Kind.
func (w *world) Name() string { return "fake" }

func (w *world) Plan(b step.Builder) spec.Diags {
	for _, f := range w.steps {
		s := step.Step{Kind: "fake", Name: "fake " + f.name, Target: f.name, Pool: f.pool, Pass: f.pass, Out: b.Artifact(f.name)}
		for _, n := range f.needs {
			s.Ins = append(s.Ins, step.In{Role: n, Artifact: b.Artifact(n), Held: f.holds})
		}
		if f.source != "" {
			s.Source = &fakeSource{w: w, f: f}
		} else {
			s.Action, s.Folder = &fakeAction{w, f}, filepath.Join(b.BuildDir(), f.name)
		}
		b.Add(s)
	}
	return nil
}

type fakeSource struct {
	w    *world
	f    fake
	here bool
}

func (s *fakeSource) Known(c *cache.Cache) (cache.Digest, bool) {
	if s.f.pinned {
		return cache.SumBytes([]byte(s.f.source)), true
	}
	return c.Memo(s.memo())
}
func (s *fakeSource) memo() cache.Digest                                      { return cache.SumBytes([]byte("fake source " + s.f.source)) }
func (s *fakeSource) Dir() string                                             { return s.w.dir }
func (s *fakeSource) Size() int64                                             { return int64(len(s.f.source)) }
func (s *fakeSource) After() string                                           { return "hashing" }
func (s *fakeSource) Ready(*cache.Cache) bool                                 { return s.here || !s.f.pinned }
func (s *fakeSource) Check(context.Context, *cache.Cache, cache.Digest) error { return nil }
func (s *fakeSource) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	if s.f.running != nil {
		s.f.running(ctx)
	}
	if s.f.fail != nil {
		return cache.Digest{}, s.f.fail
	}
	s.w.note(s.f.name)
	s.here = true
	d := cache.SumBytes([]byte(s.f.source))
	e.Cache.SetMemo(s.memo(), d)
	return d, nil
}

type fakeAction struct {
	w *world
	f fake
}

func (a *fakeAction) Key(k *cache.KeyWriter) {
	k.Code("fake/1")
	k.Param("param", a.f.param)
}
func (a *fakeAction) Prepare() (*step.Forecast, error) {
	return &step.Forecast{Summary: a.f.param, WriteBytes: a.f.writes, PeakMemory: a.f.memory}, nil
}

func (w *world) note(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran = append(w.ran, name)
}

func (a *fakeAction) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	a.w.note(a.f.name)
	if a.f.pass != "" && a.f.fail == nil {
		met := len(e.Seat.Join(a.f.name))
		a.w.mu.Lock()
		a.w.met[a.f.name] = met
		a.w.mu.Unlock()
	}
	if a.f.running != nil {
		a.f.running(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a.f.fail != nil {
		return nil, a.f.fail
	}
	var inputs []string
	for _, in := range e.Inputs {
		data, err := os.ReadFile(filepath.Join(in.Dir, "out"))
		if err != nil {
			data = []byte(in.Digest.String()[:8])
		}
		inputs = append(inputs, string(data))
	}
	text := a.f.param + "(" + strings.Join(inputs, ",") + ")"
	if a.f.output != nil {
		text = a.f.output(strings.Join(inputs, ","))
	}
	if err := os.WriteFile(e.Stage.Path("out"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	return &step.Result{Files: []step.File{{Path: "out", Digest: cache.SumBytes([]byte(text)), Size: int64(len(text))}}}, nil
}

func (w *world) plan() *planner.Graph {
	w.t.Helper()
	g, diags := planner.Plan([]*spec.Recipe{{File: filepath.Join(w.dir, "r.yaml"), Dir: w.dir}}, []step.Kind{w})
	if diags != nil {
		w.t.Fatal(diags)
	}
	return g
}

// build runs the steps that the selectors pick and returns what ran, in order, and how each step ended.
func (w *world) build(o executor.Options, selectors ...string) (ran []string, states map[string]executor.State, err error) {
	w.t.Helper()
	g := w.plan()
	want, err := g.Select(selectors)
	if err != nil {
		w.t.Fatal(err)
	}
	o.Cache = w.cache
	w.ran, w.met = nil, map[string]int{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := executor.Run(ctx, g, want, o)
	states = map[string]executor.State{}
	for id, s := range out {
		states[g.Steps[id].Target] = s.State
	}
	return w.ran, states, err
}

func (w *world) expect(what string, want []string, o executor.Options, selectors ...string) {
	w.t.Helper()
	ran, _, err := w.build(o, selectors...)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	slices.Sort(ran)
	if !slices.Equal(ran, want) {
		w.t.Errorf("%s: %v ran, want %v", what, ran, want)
	}
}

func (w *world) read(name string) string {
	data, err := os.ReadFile(filepath.Join(w.dir, "build", name, "out"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// chain: two sources' worth of steps, a diamond at the end.
func chain(t *testing.T) *world {
	return newWorld(t,
		fake{name: "src", source: "weights"},
		fake{name: "a", needs: []string{"src"}, param: "a1"},
		fake{name: "b", needs: []string{"a"}, param: "b1"},
		fake{name: "c", needs: []string{"a"}, param: "c1"},
		fake{name: "d", needs: []string{"b", "c"}, param: "d1"})
}

func TestNothingIsDoneTwice(t *testing.T) {
	w := chain(t)
	w.expect("first", []string{"a", "b", "c", "d", "src"}, executor.Options{})
	w.expect("again", nil, executor.Options{})
	w.set("c", func(f *fake) { f.param = "c2" })
	w.expect("c changed", []string{"c", "d"}, executor.Options{})
	w.set("c", func(f *fake) { f.param = "c1" })
	w.expect("c back", nil, executor.Options{})
	if got := w.read("c"); !strings.HasPrefix(got, "c1(") {
		t.Errorf("after going back, c holds %s", got)
	}
}

func TestEarlyCutoff(t *testing.T) {
	w := chain(t)
	same := func(string) string { return "always the same" }
	w.set("b", func(f *fake) { f.output = same })
	w.expect("first", []string{"a", "b", "c", "d", "src"}, executor.Options{})
	w.set("b", func(f *fake) { f.param = "b2" })
	w.expect("b made again with the same result", []string{"b"}, executor.Options{})
}

func TestDemandPruning(t *testing.T) {
	w := chain(t)
	w.expect("first", []string{"a", "b", "c", "d", "src"}, executor.Options{})
	// With a's folder gone but its record there, d is up to date and nothing needs a.
	if err := os.RemoveAll(filepath.Join(w.dir, "build", "a")); err != nil {
		t.Fatal(err)
	}
	_, states, err := w.build(executor.Options{}, "d")
	if err != nil || states["a"] != executor.Unneeded || states["d"] != executor.UpToDate {
		t.Fatalf("states %v, %v", states, err)
	}
	_, states, err = w.build(executor.Options{})
	if err != nil || states["a"] != executor.Restored {
		t.Fatalf("asked for, a is %v, %v", states["a"], err)
	}
}

func TestOutputFolderIsRestored(t *testing.T) {
	w := chain(t)
	w.expect("first", []string{"a", "b", "c", "d", "src"}, executor.Options{})
	path := filepath.Join(w.dir, "build", "b", "out")
	want := w.read("b")
	if err := os.WriteFile(path+"2", []byte("stray"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.expect("with a stray file", nil, executor.Options{})
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("the stray file is still there")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.expect("with a file gone", nil, executor.Options{})
	if got := w.read("b"); got != want {
		t.Errorf("restored %q, want %q", got, want)
	}
}

func TestForeignFolderIsNotReplaced(t *testing.T) {
	w := chain(t)
	mine := filepath.Join(w.dir, "build", "a")
	if err := os.MkdirAll(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mine, "precious"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, states, err := w.build(executor.Options{})
	if err != nil || states["a"] != executor.Failed || states["d"] != executor.Skipped {
		t.Fatalf("states %v, %v", states, err)
	}
	if _, err := os.Stat(filepath.Join(mine, "precious")); err != nil {
		t.Fatal("the foreign folder is gone")
	}
	if _, states, _ = w.build(executor.Options{Force: true}); states["a"] != executor.Restored {
		t.Errorf("with Force a is %v", states["a"])
	}
}

func TestFailure(t *testing.T) {
	w := newWorld(t, fake{name: "src", source: "x"},
		fake{name: "bad", needs: []string{"src"}, param: "b", fail: errors.New("broken")},
		fake{name: "after", needs: []string{"bad"}, param: "a"},
		fake{name: "other", needs: []string{"src"}, param: "o"},
		fake{name: "late", needs: []string{"other"}, param: "l"})
	_, states, err := w.build(executor.Options{KeepGoing: true})
	want := map[string]executor.State{"src": executor.Done, "bad": executor.Failed, "after": executor.Skipped, "other": executor.Done, "late": executor.Done}
	if err != nil || fmt.Sprint(states) != fmt.Sprint(want) {
		t.Fatalf("keep going: %v, %v", states, err)
	}
	w.set("bad", func(f *fake) { f.fail = nil })
	w.expect("mended", []string{"after", "bad"}, executor.Options{})
}

// Steps of one pass that have to run meet, as one job; those that are settled, fail before, or are the same as another, are not waited for.
func TestPass(t *testing.T) {
	in := []string{"src"}
	w := newWorld(t, fake{name: "src", source: "x"},
		fake{name: "a", needs: in, param: "a", pass: "p"},
		fake{name: "b", needs: in, param: "b", pass: "p"},
		fake{name: "c", needs: in, param: "c", pass: "p"},
		fake{name: "other", needs: in, param: "o", pass: "q"})
	expect := func(what string, want map[string]int) {
		t.Helper()
		if _, states, err := w.build(executor.Options{KeepGoing: true}); err != nil || fmt.Sprint(w.met) != fmt.Sprint(want) {
			t.Errorf("%s: they met %v, want %v; %v, %v", what, w.met, want, states, err)
		}
	}
	expect("all", map[string]int{"a": 3, "b": 3, "c": 3, "other": 1})
	expect("again", map[string]int{})
	w.set("a", func(f *fake) { f.param = "a2" })
	w.set("b", func(f *fake) { f.param = "b2" })
	expect("two changed", map[string]int{"a": 2, "b": 2})
	w.set("a", func(f *fake) { f.param = "a3" })
	w.set("b", func(f *fake) { f.param, f.fail = "b3", errors.New("broken") })
	w.set("c", func(f *fake) { f.param = "c3" })
	expect("one fails", map[string]int{"a": 2, "c": 2})
	for _, name := range []string{"a", "b", "c"} {
		w.set(name, func(f *fake) { f.param, f.fail = "the same", nil })
	}
	if ran, states, err := w.build(executor.Options{}); err != nil || len(ran) != 1 || len(w.met) != 1 {
		t.Errorf("three times the same: %v ran and met %v; %v, %v", ran, w.met, states, err)
	}
}

func TestCancel(t *testing.T) {
	w := chain(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.set("b", func(f *fake) { f.running = func(ctx context.Context) { cancel(); <-ctx.Done() } })
	g := w.plan()
	want, _ := g.Select(nil)
	ended := map[step.ID]int{}
	started := map[step.ID]int{}
	out, err := executor.Run(ctx, g, want, executor.Options{Cache: w.cache, Events: func(e executor.Event) {
		if e.Kind == executor.StepEvent && e.State == executor.Running {
			started[e.ID]++
		} else if e.Kind == executor.StepEvent {
			ended[e.ID]++
		}
	}})
	if !errors.Is(err, executor.ErrInterrupted) {
		t.Fatalf("error %v", err)
	}
	for id, s := range out {
		if ended[step.ID(id)] != 1 {
			t.Errorf("%s (%v) ended %d times", g.Steps[id].Name, s.State, ended[step.ID(id)])
		}
	}
	w.set("b", func(f *fake) { f.running = nil })
	ran, _, err := w.build(executor.Options{})
	if err != nil || slices.Contains(ran, "a") || slices.Contains(ran, "src") {
		t.Errorf("after the interruption %v ran, %v; what was finished is kept", ran, err)
	}
	if got := w.read("d"); !strings.HasPrefix(got, "d1(b1(") {
		t.Errorf("d holds %s", got)
	}
}

func TestPools(t *testing.T) {
	var mu sync.Mutex
	now, most, beside := 0, 0, 0
	count := func(device bool) func(context.Context) {
		return func(context.Context) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			if device {
				beside = max(beside, now-1)
			}
			now--
			mu.Unlock()
		}
	}
	var steps []fake
	for i := range 8 {
		steps = append(steps, fake{name: fmt.Sprint("s", i), param: fmt.Sprint(i), running: count(false)})
	}
	steps = append(steps, fake{name: "dev", param: "dev", pool: step.PoolDevice, running: count(true)})
	w := newWorld(t, steps...)
	if _, _, err := w.build(executor.Options{Jobs: 3}); err != nil || most < 2 || most > 3 || beside != 0 {
		t.Fatalf("%d steps ran together with 3 jobs, %d beside the one of the device, %v", most, beside, err)
	}
}

// TestMemory has steps that fit together by themselves, and not with what they hold of others.
func TestMemory(t *testing.T) {
	for _, c := range []struct {
		memory int64
		holds  bool
		most   int
	}{{0, true, 3}, {100, false, 3}, {100, true, 1}, {130, true, 2}, {10, true, 1}} {
		var mu sync.Mutex
		now, most := 0, 0
		count := func(context.Context) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
		}
		steps := []fake{{name: "big", writes: 40}}
		for i := range 6 {
			steps = append(steps, fake{name: fmt.Sprint("s", i), needs: []string{"big"}, param: fmt.Sprint(i), running: count, memory: 20, holds: c.holds})
		}
		w := newWorld(t, steps...)
		if _, _, err := w.build(executor.Options{Jobs: 3, Memory: c.memory}); err != nil || most != c.most {
			t.Errorf("%d of %+v ran together, %v", most, c, err)
		}
	}
}

func TestTwoRunsDoEachStepOnce(t *testing.T) {
	w := chain(t)
	w.set("a", func(f *fake) { f.running = func(context.Context) { time.Sleep(50 * time.Millisecond) } })
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			g := w.plan()
			want, _ := g.Select(nil)
			c, err := cache.Open(filepath.Join(w.dir, "cache"), cache.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			out, err := executor.Run(context.Background(), g, want, executor.Options{Cache: c})
			if err != nil {
				t.Error(err)
			}
			for id, o := range out {
				if o.State == executor.Failed {
					t.Errorf("%s: %v", g.Steps[id].Name, o.Err)
				}
			}
		}()
	}
	wg.Wait()
	count := map[string]int{}
	for _, n := range w.ran {
		count[n]++
	}
	for _, n := range []string{"a", "b", "c", "d"} {
		if count[n] != 1 {
			t.Errorf("%s ran %d times", n, count[n])
		}
	}
}

func TestExamineAgreesWithRun(t *testing.T) {
	w := chain(t)
	g := w.plan()
	want, _ := g.Select(nil)
	show := func() string {
		var s []string
		for id, st := range executor.Examine(g, want, w.cache) {
			s = append(s, fmt.Sprintf("%s=%s:%s", g.Steps[id].Target, st.State, st.Reason))
		}
		return strings.Join(s, " ")
	}
	if got := show(); got != "src=run:hashing a=run:key: after hashing b=run:after fake a c=run:after fake a d=run:after fake b, fake c" {
		t.Error(got)
	}
	w.expect("first", []string{"a", "b", "c", "d", "src"}, executor.Options{})
	if got := show(); strings.Count(got, "=up to date:") != 5 {
		t.Error(got)
	}
	w.set("a", func(f *fake) { f.param = "a2" })
	g = w.plan()
	if got := show(); !strings.Contains(got, `a=run:param "a1" -> "a2"`) || !strings.Contains(got, "b=run:after fake a") {
		t.Error(got)
	}
	if text, ok := executor.KeyText(g, 1, w.cache); !ok || !strings.Contains(text, `param param "a2"`) || !strings.HasPrefix(text, "mlxbuild-key 1\nkind fake\n") {
		t.Errorf("key text %q", text)
	}
}

// An event can be turned into JSON without loss of its meaning.
func TestEventsAnnounceAndEnd(t *testing.T) {
	w := chain(t)
	var mu sync.Mutex
	var seen []string
	_, _, err := w.build(executor.Options{Events: func(e executor.Event) {
		mu.Lock()
		defer mu.Unlock()
		b, err := json.Marshal(e.State.String())
		if err != nil {
			t.Error(err)
		}
		if e.Kind == executor.RunStart {
			b = []byte(fmt.Sprintf("start %d", len(e.Needed)))
		}
		seen = append(seen, string(b))
	}})
	if err != nil || len(seen) != 11 || seen[0] != "start 5" {
		t.Fatalf("%v, %v", seen, err)
	}
}

// A source that is pinned is brought only when a step that runs takes it: not for results that are there, and not for those that only have to be put in place.
func TestPinnedSources(t *testing.T) {
	w := newWorld(t, fake{name: "hub", source: "weights", pinned: true, pool: step.PoolNet}, fake{name: "a", needs: []string{"hub"}, param: "1"}, fake{name: "b", needs: []string{"hub"}, param: "one"})
	ran := func(what string, want ...string) {
		t.Helper()
		w.ran = nil
		if _, _, err := w.build(executor.Options{}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(w.ran)
		if fmt.Sprint(w.ran) != fmt.Sprint(want) {
			t.Errorf("%s: %v ran, want %v", what, w.ran, want)
		}
	}
	ran("first", "a", "b", "hub")
	ran("again")
	if err := os.RemoveAll(filepath.Join(w.dir, "build")); err != nil {
		t.Fatal(err)
	}
	ran("output folders are gone")
	w.set("b", func(f *fake) { f.param = "2" })
	ran("one parameter", "b", "hub")
	w.set("hub", func(f *fake) { f.fail = errors.New("no network") })
	ran("no network, nothing to do")
	w.set("b", func(f *fake) { f.param = "one" })
	ran("no network, back to what is cached")
	w.set("hub", func(f *fake) { f.source = "other weights" })
	w.ran = nil
	if _, out, err := w.build(executor.Options{}); err != nil || out["a"] != executor.Skipped || out["hub"] != executor.Failed || w.ran != nil {
		t.Errorf("no network, and something to do: %v, %v, %v ran", out, err, w.ran)
	}
}

// Fetches run beside conversions, and beside each other, but not beside what is timed.
func TestNetPool(t *testing.T) {
	var mu sync.Mutex
	now := map[string]int{}
	most := map[string]int{}
	count := func(pool string) func(context.Context) {
		return func(context.Context) {
			mu.Lock()
			now[pool]++
			most[pool] = max(most[pool], now[pool])
			if now["dev"] > 0 && now["net"]+now["cpu"] > 0 {
				most["beside"]++
			}
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			now[pool]--
			mu.Unlock()
		}
	}
	var steps []fake
	for i := range 8 {
		steps = append(steps, fake{name: fmt.Sprint("n", i), source: fmt.Sprint(i), pinned: true, pool: step.PoolNet, running: count("net")})
		steps = append(steps, fake{name: fmt.Sprint("s", i), needs: []string{fmt.Sprint("n", i)}, param: fmt.Sprint(i), running: count("cpu")})
	}
	steps = append(steps, fake{name: "dev", param: "dev", pool: step.PoolDevice, running: count("dev")})
	w := newWorld(t, steps...)
	if _, _, err := w.build(executor.Options{Jobs: 1}); err != nil || most["net"] < 2 || most["net"] > 4 || most["cpu"] != 1 || most["beside"] > 0 {
		t.Fatalf("most at a time: %v, %v", most, err)
	}
}
