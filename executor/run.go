package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// Options of a run.
type Options struct {
	Cache     *cache.Cache
	Jobs      int                                   // steps of the cpu pool that run together, at least 1; each uses every core by itself
	Memory    int64                                 // bytes that running steps may want together, by forecast; 0 = no limit
	KeepGoing bool                                  // after a failure go on with what does not need it
	Force     bool                                  // replace output folders that mlxbuild did not make
	Again     func(step.ID) bool                    // steps that are made even when their result is known; nil = none
	Taken     func(step.ID) *Taken                  // steps that are not made, whose output is somewhere else; nil = none
	Events    func(Event)                           // told of everything, from several goroutines; nil = nobody listens
	Prepared  func([]*step.Forecast) error          // called when something has to run, with the forecasts, before the first step starts
	Version   string                                // of mlxbuild, for records
	Machine   string                                // for records
	Seconds   func(step.ID, *step.Forecast) float64 // predicted duration, for the critical path; nil = by bytes
}

// ErrInterrupted says that the run was cancelled; what was finished is kept.
var ErrInterrupted = errors.New("interrupted")

// run is the state of one run. Only the goroutine in loop touches it, but for what has a lock.
type run struct {
	graph     *planner.Graph
	o         Options
	look      *looker
	closure   []step.ID // what was asked for and everything it needs
	steps     []Outcome
	inputs    [][]cache.Digest // digests of inputs settled so far, by step
	waits     []int            // inputs that are not settled yet
	needs     []bool
	forecasts []*step.Forecast
	rank      []float64 // seconds of work from a step to the end of the plan: the critical path
	lease     *cache.Lease
	results   chan result
	running   map[step.ID]step.ID // with the first step of the pass that it runs in
	ready     []step.ID           // in state Ready
	memory    int64
	stopped   bool // start nothing more

	leftLock sync.Mutex
	left     map[string][]string // see leftIn
}

// result is what a worker hands back.
type result struct {
	id  step.ID
	out Outcome
}

// Run makes the wanted steps of a plan. The outcomes have one entry for each step of the graph, also when an error comes with them; a step's own failure is
// in its outcome and not in the error.
func Run(ctx context.Context, g *planner.Graph, want []step.ID, o Options) ([]Outcome, error) {
	r := newRun(g, want, o)
	if r.untouched(want) {
		return r.steps, nil
	}
	r.lookAll()
	r.demand(want)
	if !r.anyNeeded() {
		return r.steps, nil
	}
	var ids []step.ID
	for id := range g.Steps {
		ids = append(ids, step.ID(id))
	}
	var err error
	if r.forecasts, err = g.Forecasts(ids); err != nil {
		return r.steps, err
	}
	if err := r.missing(); err != nil {
		return r.steps, err
	}
	if o.Prepared != nil {
		if err := o.Prepared(r.forecasts); err != nil {
			return r.steps, err
		}
	}
	if r.lease, err = o.Cache.Lease(r.settledTrees()); err != nil {
		return r.steps, err
	}
	defer r.lease.Release()
	r.rankSteps()
	r.start()
	r.loop(ctx)
	if ctx.Err() != nil {
		return r.steps, ErrInterrupted
	}
	return r.steps, nil
}

// missing finds runtimes and tools that this run would need, before it starts anything.
func (r *run) missing() error {
	var errs []error
	said := map[string]bool{}
	for id, f := range r.forecasts {
		if f == nil || f.Missing == nil || !r.needs[id] || r.known(step.ID(id)) || said[f.Missing.Error()] {
			continue
		}
		said[f.Missing.Error()] = true
		errs = append(errs, &MissingError{Step: r.graph.Steps[id].Name, Where: r.graph.Steps[id].Pos.String(), Err: f.Missing})
	}
	return errors.Join(errs...)
}

// MissingError says which step needs what is not here.
type MissingError struct {
	Step  string
	Where string // line of the recipe
	Err   error
}

func (e *MissingError) Error() string {
	if strings.HasPrefix(e.Where, "<") { // a recipe made in memory has no lines that a person could open
		return e.Step + ": " + e.Err.Error()
	}
	return e.Where + ": " + e.Step + ": " + e.Err.Error()
}

// Unwrap gives the runtime's own error.
func (e *MissingError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *MissingError) Hint() string {
	var h interface{ Hint() string }
	if errors.As(e.Err, &h) {
		return h.Hint()
	}
	return ""
}

func newRun(g *planner.Graph, want []step.ID, o Options) *run {
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	o.Jobs = max(o.Jobs, 1)
	closure := g.Closure(want)
	return &run{graph: g, o: o, closure: closure, look: newLooker(g, o, closure), steps: make([]Outcome, len(g.Steps)), results: make(chan result),
		running: map[step.ID]step.ID{}, left: map[string][]string{}}
}

// untouched is the first pass of a build with nothing to do: keys from what is remembered, while the output folders are looked at beside it. When anything is not as remembered it leaves no trace.
func (r *run) untouched(want []step.ID) bool {
	for _, id := range want {
		if s := r.graph.Steps[id].Source; s != nil && !s.Ready(r.o.Cache) {
			return false
		}
	}
	var inputs []cache.Digest
	for _, id := range r.closure {
		inputs = inputs[:0]
		for _, in := range r.graph.Steps[id].Ins {
			inputs = append(inputs, r.steps[r.graph.Maker(in.Artifact)].Tree)
		}
		v, ok := r.look.remembered(id, inputs)
		if !ok {
			return r.forget()
		}
		r.steps[id] = Outcome{State: UpToDate, Key: v.key, Tree: v.tree, outputs: v.outputs}
	}
	for _, id := range r.closure {
		if r.graph.Steps[id].Folder != "" && !r.look.inPlace(id, r.steps[id].Key) {
			return r.forget()
		}
	}
	return true
}

// forget what untouched guessed.
func (r *run) forget() bool {
	clear(r.steps)
	return false
}

// lookAll is the first pass. It leaves settled steps with their tree and the sight's verdict in state UpToDate, provisionally: demand undoes it for steps whose
// outputs are wanted and not in place.
func (r *run) lookAll() {
	n := len(r.graph.Steps)
	r.inputs, r.waits, r.needs, r.rank = make([][]cache.Digest, n), make([]int, n), make([]bool, n), make([]float64, n)
	for _, id := range r.closure {
		r.inputs[id] = make([]cache.Digest, len(r.graph.Steps[id].Ins))
		if r.countWaits(id); r.waits[id] > 0 && r.look.taken(id) == nil {
			continue
		}
		v := r.look.look(id, r.inputs[id])
		r.steps[id].Key = v.key
		if v.settled {
			r.steps[id].Tree = v.tree
			r.steps[id].State = UpToDate
			if !v.placed {
				r.steps[id].State = Unneeded // settled, yet not in place: demand decides
			}
		}
	}
}

// countWaits notes the digests of a step's inputs as far as they are known, and how many are not. Plan order makes it right.
func (r *run) countWaits(id step.ID) {
	r.waits[id] = 0
	for i, in := range r.graph.Steps[id].Ins {
		maker := r.graph.Maker(in.Artifact)
		if r.known(maker) {
			r.inputs[id][i] = r.steps[maker].Tree
		} else {
			r.waits[id]++
		}
	}
}

// known reports whether a step's output digest is known.
func (r *run) known(id step.ID) bool { return r.steps[id].Tree != cache.Digest{} }

// demand is the second pass: from the end of the plan to its start.
func (r *run) demand(want []step.ID) {
	for _, id := range want {
		r.needs[id] = r.steps[id].State != UpToDate
	}
	for id := len(r.graph.Steps) - 1; id >= 0; id-- {
		if !r.needs[id] {
			continue
		}
		if r.known(step.ID(id)) { // only to be put in place from the cache
			continue
		}
		for _, n := range r.graph.Needs(step.ID(id)) {
			r.needs[n] = r.needs[n] || r.steps[n].State != UpToDate
		}
	}
}

func (r *run) anyNeeded() bool {
	for _, n := range r.needs {
		if n {
			return true
		}
	}
	return false
}

func (r *run) settledTrees() []cache.Digest {
	var out []cache.Digest
	for _, s := range r.steps {
		if s.Tree != (cache.Digest{}) {
			out = append(out, s.Key)
		}
	}
	return out
}

// rankSteps gives every needed step the length of the longest path of work that hangs on it.
func (r *run) rankSteps() {
	for id := len(r.graph.Steps) - 1; id >= 0; id-- {
		longest := 0.0
		for _, user := range r.graph.Artifacts[r.graph.Steps[id].Out].Users {
			longest = max(longest, r.rank[user])
		}
		r.rank[id] = longest + r.seconds(step.ID(id))
	}
}

func (r *run) seconds(id step.ID) float64 {
	if !r.needs[id] {
		return 0
	}
	f := r.forecasts[id]
	if r.o.Seconds != nil {
		if s := r.o.Seconds(id, f); s > 0 {
			return s
		}
	}
	if f == nil {
		return 0.001
	}
	return 0.01 + float64(f.ReadBytes+f.WriteBytes)/1e9
}

// start announces the needed steps. Every announced step ends.
func (r *run) start() {
	var needed []step.ID
	for id, need := range r.needs {
		if !need {
			continue
		}
		needed = append(needed, step.ID(id))
		r.steps[id].State = Unneeded
		r.set(step.ID(id), Want)
		if r.waits[id] = r.unsettled(step.ID(id)); r.waits[id] == 0 {
			r.set(step.ID(id), Ready)
		}
	}
	r.o.Events(Event{Kind: RunStart, Needed: needed})
}

// unsettled counts the inputs of a step that this run makes or puts in place first.
func (r *run) unsettled(id step.ID) int {
	n := 0
	for _, maker := range r.graph.Needs(id) {
		if r.needs[maker] {
			n++
		}
	}
	return n
}

// loop starts what is ready, else waits for a worker, until nothing is left.
func (r *run) loop(ctx context.Context) {
	done := ctx.Done()
	for {
		if !r.stopped {
			r.startReady(ctx)
		}
		if len(r.running) == 0 {
			break
		}
		select {
		case res := <-r.results:
			r.finish(res)
		case <-done:
			r.stopped, done = true, nil
		}
	}
	for id := range r.steps {
		if s := r.steps[id].State; s == Want || s == Ready {
			r.end(step.ID(id), Outcome{State: Skipped, Reason: "the run stopped before its turn"})
		}
	}
}

// startReady starts ready steps, the longest path first, as far as their pools have room.
func (r *run) startReady(ctx context.Context) {
	if len(r.ready) == 0 {
		return
	}
	slices.SortFunc(r.ready, func(a, b step.ID) int { // equal ones in the plan's order, whichever was ready first
		return cmp.Or(cmp.Compare(r.rank[b], r.rank[a]), cmp.Compare(a, b))
	})
	var waiting []step.ID
	for ready := r.ready; len(ready) > 0; {
		if !r.room(ready[0]) {
			waiting = append(waiting, ready[0])
			ready = ready[1:]
			continue
		}
		var pass []step.ID
		pass, ready = r.pass(ready)
		for i, seat := range step.NewMeeting(len(pass)) {
			r.startStep(ctx, pass[i], pass[0], seat)
		}
	}
	r.ready = waiting
}

// mostInPass bounds the files that are written at the same time.
const mostInPass = 16

// pass takes from steps that are ready the first one and those that can share its pass, as far as memory goes.
func (r *run) pass(ready []step.ID) (pass, rest []step.ID) {
	name, memory := r.graph.Steps[ready[0]].Pass, r.memory
	for i, id := range ready {
		shares := name != "" && r.graph.Steps[id].Pass == name && len(pass) < mostInPass && r.fits(memory, id)
		if i > 0 && !shares {
			rest = append(rest, id)
			continue
		}
		pass = append(pass, id)
		memory += r.wants(id)
	}
	return pass, rest
}

func (r *run) startStep(ctx context.Context, id, first step.ID, seat *step.Seat) {
	r.set(id, Running)
	r.running[id] = first
	r.memory += r.wants(id)
	r.o.Events(Event{Kind: StepEvent, ID: id, State: Running})
	w := worker{run: r, id: id, inputs: append([]cache.Digest{}, r.inputs[id]...), seat: seat}
	for _, maker := range r.graph.Needs(id) {
		w.keys = append(w.keys, r.steps[maker].Key)
	}
	go func() { r.results <- result{id, w.work(ctx)} }()
}

func (r *run) fits(memory int64, id step.ID) bool {
	return r.o.Memory == 0 || memory+r.wants(id) <= r.o.Memory
}

func (r *run) wants(id step.ID) int64 {
	if f := r.forecasts[id]; f != nil {
		return f.PeakMemory
	}
	return 0
}

// netJobs are steps of the net pool that run together; what they share is the connections, which the client counts.
const netJobs = 4

// room reports whether a step's pool has room: jobs in the cpu pool, where a pass is one, a few fetches beside them, nothing else beside the device, memory by forecast. One step always may run.
func (r *run) room(id step.ID) bool {
	if len(r.running) == 0 {
		return true
	}
	pool := r.graph.Steps[id].Pool
	if pool == step.PoolDevice {
		return false
	}
	fetching, passes := 0, map[step.ID]bool{}
	for other, first := range r.running {
		switch r.graph.Steps[other].Pool {
		case step.PoolDevice:
			return false
		case step.PoolNet:
			fetching++
		default:
			passes[first] = true
		}
	}
	switch {
	case pool == step.PoolNet:
		return fetching < netJobs
	case len(passes) >= r.o.Jobs:
		return false
	}
	return r.fits(r.memory, id)
}

// finish takes a worker's result and moves those that waited for it.
func (r *run) finish(res result) {
	delete(r.running, res.id)
	r.memory -= r.wants(res.id)
	r.end(res.id, res.out)
	if res.out.State == Failed {
		r.stopped = r.stopped || !r.o.KeepGoing
		return
	}
	if !res.out.State.settled() {
		return
	}
	for _, user := range r.graph.Artifacts[r.graph.Steps[res.id].Out].Users {
		if r.steps[user].State != Want {
			continue
		}
		for i, in := range r.graph.Steps[user].Ins {
			if r.graph.Maker(in.Artifact) == res.id {
				r.inputs[user][i] = res.out.Tree
			}
		}
		if r.waits[user]--; r.waits[user] == 0 {
			r.set(user, Ready)
		}
	}
}

// end gives a step its final state, tells the listeners, and skips what needed a step that failed.
func (r *run) end(id step.ID, out Outcome) {
	r.set(id, out.State)
	if out.Key == (cache.Digest{}) {
		out.Key = r.steps[id].Key
	}
	r.steps[id] = out
	r.o.Events(Event{Kind: StepEvent, ID: id, State: out.State, Reason: out.Reason, Err: out.Err, Seconds: out.Seconds, Warnings: out.Warnings, Key: out.Key, Record: out.Record})
	if out.State != Failed && out.State != Skipped {
		return
	}
	for _, user := range r.graph.Artifacts[r.graph.Steps[id].Out].Users {
		if r.steps[user].State == Want {
			r.end(user, Outcome{State: Skipped, Reason: fmt.Sprintf("%s %s", r.graph.Steps[id].Name, out.State)})
		}
	}
}

// Event is something that happened in a run.
type Event struct {
	Kind     EventKind
	Needed   []step.ID // RunStart: the steps that are to be made
	ID       step.ID   // the others
	State    State
	Reason   string
	Err      error
	Seconds  float64
	Bytes    int64 // Progress: bytes done since the last event of the step
	Message  string
	Warnings []string
	Time     time.Time
	Key      cache.Digest  // StepEvent of a step that ended
	Record   *cache.Record // of a result that is told and not kept
}

// EventKind of an Event.
type EventKind int

const (
	RunStart EventKind = iota
	StepEvent
	Progress
	Status // what a step is at
	Message
)
