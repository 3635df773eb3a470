package executor

import (
	"fmt"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// State is what a run knows of one step.
type State int

const (
	// Unneeded: nothing that was asked for takes this step's output.
	Unneeded State = iota
	// Want: needed; an input is not settled yet.
	Want
	// Ready: every input is settled, so its key is known; it waits to be looked at or for room in its pool.
	Ready
	// Running: a worker has it.
	Running
	// UpToDate: its record is there and its outputs are in place. Nothing was done.
	UpToDate
	// Restored: its record was there; its outputs were put in place from the cache.
	Restored
	// Done: it ran, and its outputs and record are in the cache and in place.
	Done
	// Failed: it ran or was looked at, and an error came out.
	Failed
	// Skipped: something it needs failed, or the run stopped before its turn.
	Skipped
)

var stateNames = [...]string{"unneeded", "want", "ready", "running", "up to date", "restored", "done", "failed", "skipped"}

func (s State) String() string { return stateNames[s] }

// settled states have an output whose digest is known.
func (s State) settled() bool { return s == UpToDate || s == Restored || s == Done }

// allowed says from which states each state may be entered; anything else is a bug in the executor.
var allowed = map[State][]State{
	Want:     {Unneeded},
	Ready:    {Want},
	Running:  {Ready},
	UpToDate: {Unneeded, Running},
	Restored: {Running},
	Done:     {Running},
	Failed:   {Running},
	Skipped:  {Want, Ready, Running},
}

// set makes every transition of a run.
func (r *run) set(id step.ID, to State) {
	from := r.steps[id].State
	for _, ok := range allowed[to] {
		if ok == from {
			r.steps[id].State = to
			if to == Ready {
				r.ready = append(r.ready, id)
			}
			return
		}
	}
	panic(fmt.Sprintf("BUG: %s goes from %s to %s", r.graph.Steps[id].Name, from, to))
}

// Outcome is how one step ended.
type Outcome struct {
	State    State
	Reason   string // why it ran, or why it did not
	Key      cache.Digest
	Tree     cache.Digest // digest of what it made
	Err      error
	Seconds  float64
	Warnings []string
	// WeightCopies counts weight files that were put in place as copies, because neither a reflink nor a hard link could be made.
	WeightCopies int
	// Record of a step whose result is told and not kept; nil for all others, whose record is in the cache under Key.
	Record *cache.Record

	outputs []cache.Output // of a step without a folder that was found up to date
}
