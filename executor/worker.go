package executor

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// worker settles one step: it looks again now that the inputs are settled, and puts in place, or runs, what is missing. It reads the run's constants and
// changes nothing of its state.
type worker struct {
	run    *run
	id     step.ID
	inputs []cache.Digest
	keys   []cache.Digest // of the steps that made the inputs
	seat   *step.Seat     // among the steps of its pass
}

func (w worker) work(ctx context.Context) (out Outcome) {
	defer w.seat.Leave()
	defer func() {
		if p := recover(); p != nil {
			out = Outcome{State: Failed, Err: fmt.Errorf("BUG: %v\n%s", p, debug.Stack())}
		}
	}()
	started := time.Now()
	out, err := w.settle(ctx)
	out.Seconds = time.Since(started).Seconds()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		out.State, out.Reason = Skipped, "interrupted"
	default:
		out.State, out.Err = Failed, err
	}
	return out
}

func (w worker) settle(ctx context.Context) (Outcome, error) {
	r, s := w.run, w.run.graph.Steps[w.id]
	if s.Source != nil {
		env, err := w.env(ctx, nil, nil)
		if err != nil {
			return Outcome{}, err
		}
		tree, err := s.Source.Read(ctx, env)
		if known := r.steps[w.id].Tree; err == nil && known != (cache.Digest{}) && known != tree {
			err = fmt.Errorf("BUG: %s is %s, and %s was pinned", s.Name, tree.Short(), known.Short())
		}
		return Outcome{State: Done, Tree: tree}, err
	}
	var out Outcome
	for range 3 { // a collection may take outputs between the look and the lease that protects them; then they are made
		var err error
		if out, err = w.settleOnce(ctx); !errors.Is(err, cache.ErrMissing) || ctx.Err() != nil {
			return out, err
		}
	}
	return out, fmt.Errorf("what %s made goes away as soon as it is there; does another program clean up %s?", s.Name, r.o.Cache.Dir())
}

func (w worker) settleOnce(ctx context.Context) (Outcome, error) {
	r, s := w.run, w.run.graph.Steps[w.id]
	v := r.look.look(w.id, w.inputs)
	if v.settled {
		return w.place(ctx, v, UpToDate)
	}
	release, err := r.o.Cache.Lock(ctx, v.key, func(holder string) {
		w.seat.Leave()
		if holder == fmt.Sprintf("process %d", os.Getpid()) {
			holder = "another step of this build"
		}
		r.o.Events(Event{Kind: Message, ID: w.id, Message: "waiting for " + holder + ", which makes the same"})
	})
	if err != nil {
		return Outcome{Key: v.key}, err
	}
	defer release()
	if v := r.look.look(w.id, w.inputs); v.settled { // another run made it while this one waited
		return w.place(ctx, v, UpToDate)
	}
	out := Outcome{State: Done, Key: v.key, Reason: r.look.why(w.id, v)}
	warn := func(sentence string) { out.Warnings = append(out.Warnings, sentence) }
	rec, volatile, err := w.make(ctx, v, warn)
	if err != nil {
		return out, err
	}
	if volatile {
		out.Tree, out.Record = rec.Tree, rec
		return out, nil
	}
	if !r.o.Cache.Complete(rec) {
		return out, cache.ErrMissing
	}
	v.settled, v.tree, v.placed = true, rec.Tree, s.Folder == ""
	placed, err := w.place(ctx, v, Done)
	placed.Reason, placed.Warnings = out.Reason, out.Warnings
	return placed, err
}

// make runs the action and stores what it made: outputs first, the record last. A result that another day may change is volatile: it is handed on and not stored.
func (w worker) make(ctx context.Context, v sight, warn func(string)) (rec *cache.Record, volatile bool, err error) {
	r, s, c := w.run, w.run.graph.Steps[w.id], w.run.o.Cache
	if f := r.forecasts[w.id]; f != nil {
		if err := c.Reserve(f.WriteBytes); err != nil {
			return nil, false, err
		}
	}
	stage, err := c.NewStage()
	if err != nil {
		return nil, false, err
	}
	defer stage.Remove()
	started := time.Now()
	env, err := w.env(ctx, stage, warn)
	if err != nil {
		return nil, false, err
	}
	res, err := s.Action.Run(ctx, env)
	if err != nil {
		return nil, false, c.Explain(s.Name, err)
	}
	if err := unchanged(ctx, env.Inputs); err != nil {
		return nil, false, err
	}
	rec = &cache.Record{Format: 1, Key: v.key, KeyText: v.text, Step: s.Name, Result: res.Value, Started: started.UTC(),
		Mlxbuild: r.o.Version, Machine: r.o.Machine}
	for _, f := range res.Files {
		r.lease.Add(f.Digest)
		if err := c.AddFile(stage.Path(f.Path), f.Digest); err != nil {
			return nil, false, err
		}
		rec.Outputs = append(rec.Outputs, cache.Output{Path: f.Path, Digest: f.Digest, Size: f.Size, Mode: 0o644})
	}
	sort.Slice(rec.Outputs, func(i, j int) bool { return rec.Outputs[i].Path < rec.Outputs[j].Path })
	if rec.Tree, err = resultTree(res); err != nil {
		return nil, false, err
	}
	rec.Seconds = time.Since(started).Seconds()
	if f := r.forecasts[w.id]; f != nil {
		rec.PeakMemoryBytes = f.PeakMemory
	}
	if res.Volatile {
		return rec, true, nil
	}
	return rec, false, c.AddRecord(rec)
}

// resultTree is the digest that later steps take as input: of the lines `0644 size sha256 path`, sorted by path, without the files that only describe the
// others; for a step without files, of its value.
func resultTree(res *step.Result) (cache.Digest, error) {
	if len(res.Files) == 0 {
		if !json.Valid(res.Value) {
			return cache.Digest{}, errors.New("BUG: a step returned neither files nor a value")
		}
		return cache.SumBytes(res.Value), nil
	}
	return TreeDigest(res.Files), nil
}

// TreeDigest of files.
func TreeDigest(files []step.File) cache.Digest {
	var lines []string
	for _, f := range files {
		if !f.Describe {
			lines = append(lines, fmt.Sprintf("0644 %d %s %s\n", f.Size, f.Digest, f.Path))
		}
	}
	sort.Strings(lines)
	return cache.Digest(sha256.Sum256([]byte(strings.Join(lines, ""))))
}

// place puts the outputs of a settled step in place, when they are not, and notes both for the next run's look.
func (w worker) place(ctx context.Context, v sight, state State) (out Outcome, err error) {
	w.seat.Leave() // it will not run
	s, c := w.run.graph.Steps[w.id], w.run.o.Cache
	out = Outcome{State: state, Key: v.key, Tree: v.tree}
	defer func() {
		if err == nil {
			c.SetMemo(treeMemo(v.key), v.tree)
			c.SetMemo(lastMemo(w.buildDir(), s.Name), v.key)
		}
	}()
	if v.placed {
		return out, nil
	}
	rec, ok := c.Record(v.key)
	if !ok {
		return out, fmt.Errorf("the record of %s has just gone: %w", s.Name, cache.ErrMissing)
	}
	put, err := w.putInPlace(ctx, rec)
	if err != nil {
		return out, err
	}
	out.WeightCopies = put.copies
	if state == UpToDate && !put.already {
		out.State, out.Reason = Restored, "taken from the cache"
	}
	return out, nil
}

// putInPlace puts a record's outputs into the step's folder and notes that they are there.
func (w worker) putInPlace(ctx context.Context, rec *cache.Record) (put, error) {
	r, folder := w.run, w.run.graph.Steps[w.id].Folder
	r.lease.Add(outputDigests(rec)...)
	put, err := w.link(ctx, rec)
	if err != nil {
		return put, unwritable(folder, err)
	}
	r.o.Cache.SetMemo(placeMemo(rec.Key, folder), put.print)
	r.o.Cache.AddRoot(w.buildDir(), []cache.Digest{rec.Key})
	return put, nil
}

func outputDigests(rec *cache.Record) []cache.Digest {
	var out []cache.Digest
	for _, o := range rec.Outputs {
		out = append(out, o.Digest)
	}
	return out
}

func (w worker) buildDir() string { return buildDir(w.run.graph, w.id) }

func (w worker) env(ctx context.Context, stage *cache.Stage, warn func(string)) (*step.Env, error) {
	r := w.run
	e := &step.Env{Cache: r.o.Cache, Stage: stage, Warn: warn, Seat: w.seat,
		Progress: func(n int64) { r.o.Events(Event{Kind: Progress, ID: w.id, Bytes: n}) },
		Message:  func(text string) { r.o.Events(Event{Kind: Message, ID: w.id, Message: text}) },
		Status:   func(text string) { r.o.Events(Event{Kind: Status, ID: w.id, Message: text}) },
		Hold:     func(blobs ...cache.Digest) { r.lease.Add(blobs...) }}
	for i := range r.graph.Steps[w.id].Ins {
		input, err := w.input(ctx, i)
		if err != nil {
			return nil, err
		}
		e.Inputs = append(e.Inputs, input)
	}
	return e, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
