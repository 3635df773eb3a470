package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// fuzzCommand makes this program a child of itself that fuzzes one target: a parser that ends the process, or that takes all memory, ends the child.
const fuzzCommand = "fuzz-one"

// Limits of one run, beyond which it is a finding.
const (
	maxRun    = time.Second
	maxMemory = 64 << 20 // and four times the input
	batch     = 64       // runs between two looks at the clock and at memory; a batch that was over is run again one by one
)

// fuzzReport is what a child says at its end.
type fuzzReport struct {
	Runs  int64
	Wrong []string
}

// fuzz gives the targets inputs made of seeds, each in a child of its own, in proportion to their shares.
func (s *soak) fuzz() (*findings, error) {
	minutes := s.minutes
	if minutes == 0 {
		minutes = 40
	}
	shares := 0
	for _, t := range targets {
		shares += t.share
	}
	f := s.newFindings("runs", "targets")
	whole := *s
	whole.ends = time.Time{} // every target has its share
	err := whole.each(len(targets), func(i int, dir string) error {
		t := targets[i]
		f.add("targets", 1)
		seconds := minutes * 60 * float64(max(1, s.workers)) * float64(t.share) / float64(shares)
		r, err := s.fuzzOne(t, dir, seconds)
		if err != nil {
			return err
		}
		f.add("runs", r.Runs)
		s.say("fuzz: %s: %s runs in %.0f s", t.name, thousands(r.Runs), seconds)
		for _, w := range r.Wrong {
			f.bad("%s: %s", t.name, w)
		}
		return nil
	})
	return f, err
}

func (s *soak) fuzzOne(t target, dir string, seconds float64) (r fuzzReport, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(s.ctx, self, fuzzCommand, t.name, s.root, dir, fmt.Sprint(s.seed), fmt.Sprint(seconds))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if s.ctx.Err() != nil && out.Len() == 0 {
		return r, nil // interrupted before it began
	}
	if err != nil && s.ctx.Err() == nil {
		at, _ := os.ReadFile(filepath.Join(dir, "at"))
		text := said.String()
		r.Wrong = []string{fmt.Sprintf("its process ended at run %s of seed %d: %v\n%s", at, s.seed, err, text[:min(len(text), 3000)])}
		return r, nil
	}
	return r, json.Unmarshal(out.Bytes(), &r)
}

// fuzzChild is the child's main.
func fuzzChild(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return errors.New("not to be called by hand")
	}
	i := slices.IndexFunc(targets, func(t target) bool { return t.name == args[0] })
	seed, err1 := strconv.ParseUint(args[3], 10, 64)
	seconds, err2 := strconv.ParseFloat(args[4], 64)
	if i < 0 || err1 != nil || err2 != nil {
		return fmt.Errorf("arguments %q", args)
	}
	c, err := newFuzzer(targets[i], args[1], args[2], seed)
	if err != nil {
		return err
	}
	r := c.run(ctx, time.Duration(seconds*float64(time.Second)))
	return json.NewEncoder(os.Stdout).Encode(r)
}

// fuzzer runs one target.
type fuzzer struct {
	target target
	seeds  [][]byte
	parse  func([]byte) string
	seed   uint64
	at     *os.File     // tells the parent where a child was that died
	runs   atomic.Int64 // so far, for the watch
	found  map[string]bool
	report fuzzReport
	sample []metrics.Sample
}

func newFuzzer(t target, root, dir string, seed uint64) (*fuzzer, error) {
	f := &fuzzer{target: t, seed: seed, found: map[string]bool{}, sample: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}}
	var err error
	if f.seeds, err = t.seeds(root); err != nil {
		return nil, err
	}
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if f.parse, err = t.open(work); err != nil {
		return nil, err
	}
	f.at, err = os.Create(filepath.Join(dir, "at"))
	return f, err
}

func (f *fuzzer) run(ctx context.Context, long time.Duration) fuzzReport {
	debug.SetGCPercent(400)
	debug.SetMaxStack(64 << 20)   // deep recursion is a finding
	debug.SetMemoryLimit(1 << 30) // collect before that
	done := make(chan struct{})
	go f.watch(done)
	m := newMutator(rand.New(rand.NewPCG(0, 0)), f.seeds)
	for end := time.Now().Add(long); time.Now().Before(end) && ctx.Err() == nil; {
		f.batch(m)
	}
	close(done)
	return f.report
}

// watch ends a child that hangs.
func (f *fuzzer) watch(done chan struct{}) {
	for last := int64(-1); ; {
		select {
		case <-done:
			return
		case <-time.After(20 * time.Second):
		}
		now := f.runs.Load()
		if now == last {
			panic("a run takes longer than 20 s")
		}
		last = now
	}
}

// batch does some runs. What a run gets follows from the seed and its number, so that a batch can be done again.
func (f *fuzzer) batch(m *mutator) {
	first := f.runs.Load()
	_, _ = f.at.WriteAt([]byte(fmt.Sprintf("%-20d", first)), 0) // only for the report of a child that dies
	before, started := f.allocated(), time.Now()
	longest := 0
	for i := range int64(batch) {
		data := f.input(m, first+i)
		longest = max(longest, len(data))
		if wrong := f.safely(data); wrong != "" {
			f.note(wrong, data)
		}
		f.runs.Add(1)
	}
	f.report.Runs += batch
	if time.Since(started) < maxRun && f.allocated()-before < maxMemory {
		return
	}
	for i := range int64(batch) { // one by one, to see which it was
		data := f.input(m, first+i)
		took := time.Duration(1 << 62)
		for range 3 { // the machine may be busy with something else
			started := time.Now()
			f.safely(data)
			if took = min(took, time.Since(started)); took < maxRun {
				break
			}
		}
		if took > maxRun {
			f.note(fmt.Sprintf("it takes %.1f s", took.Seconds()), data)
		}
		if peak := f.peak(data); peak > maxMemory+4*uint64(len(data)) {
			f.note(fmt.Sprintf("it takes %d MB of memory for %d bytes", peak>>20, len(data)), data)
		}
		f.runs.Store(first + batch) // not hanging
	}
}

func (f *fuzzer) input(m *mutator, run int64) []byte {
	m.rng = rand.New(rand.NewPCG(f.seed, uint64(run)))
	data := m.next()
	if f.target.fix != nil && run%8 != 0 {
		data = f.target.fix(bytes.Clone(data))
	}
	return data
}

func (f *fuzzer) safely(data []byte) (wrong string) {
	defer func() {
		if p := recover(); p != nil {
			wrong = fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f.parse(data)
}

func (f *fuzzer) allocated() uint64 {
	metrics.Read(f.sample)
	return f.sample[0].Value.Uint64()
}

// peak is what a run has in memory at most. What it allocates in all is more than that and quickly known; only where that is too much is the heap watched while it runs.
func (f *fuzzer) peak(data []byte) uint64 {
	before := f.allocated()
	f.safely(data)
	all := f.allocated() - before
	if all <= maxMemory+4*uint64(len(data)) {
		return all
	}
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	debug.FreeOSMemory()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	base := heap[0].Value.Uint64()
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		own := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(own)
			most.Store(max(most.Load(), own[0].Value.Uint64()))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	}()
	f.safely(data)
	close(done)
	<-ended
	return max(most.Load(), base) - base
}

// note a finding; the same place in the program counts once.
func (f *fuzzer) note(what string, data []byte) {
	where := what
	if i := strings.Index(what, "panic("); i > 0 { // the stack behind the panic
		where = what[i:min(len(what), i+600)]
	} else if strings.HasPrefix(what, "it takes") {
		where = what[:12]
	}
	if f.found[where] || len(f.found) > 20 {
		return
	}
	f.found[where] = true
	text := fmt.Sprintf("%q", data)
	if len(text) > 2000 {
		text = text[:2000] + "…"
	}
	f.report.Wrong = append(f.report.Wrong, what[:min(len(what), 2500)]+"\n  of "+text)
}
