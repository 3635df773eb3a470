package executor

import (
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// What `plan` and `explain` call a step's standing.
const (
	StandsUpToDate = "up to date"
	StandsCached   = "cached"
	StandsRun      = "run"
	StandsUnneeded = "not needed"
)

// Examine says where each step of a plan stands, by the same looking and the same demand as Run, and changes nothing.
func Examine(g *planner.Graph, want []step.ID, c *cache.Cache) []planner.Standing {
	r := newRun(g, want, Options{Cache: c})
	r.lookAll()
	r.demand(want)
	out := make([]planner.Standing, len(g.Steps))
	for _, id := range r.closure {
		out[id] = r.standing(id)
	}
	return out
}

func (r *run) standing(id step.ID) planner.Standing {
	st := planner.Standing{}
	if key := r.steps[id].Key; key != (cache.Digest{}) {
		st.Key = key.String()
	}
	source := r.graph.Steps[id].Source != nil
	switch {
	case r.steps[id].State == UpToDate:
		st.State = StandsUpToDate
	case !r.needs[id]:
		st.State = StandsUnneeded
	case source && r.graph.Steps[id].Source.After() == "": // it has to be laid out, which is no work
		st.State = StandsUpToDate
	case source:
		st.State, st.Reason = StandsRun, r.graph.Steps[id].Source.After()
	case r.known(id):
		st.State, st.Reason = StandsCached, r.whyPlace(id)
	case r.waits[id] > 0:
		st.State, st.Reason = StandsRun, r.waitsFor(id)
	default:
		st.State, st.Reason = StandsRun, r.look.why(id, r.look.look(id, r.inputs[id]))
	}
	return st
}

// waitsFor says why a key is not known yet.
func (r *run) waitsFor(id step.ID) string {
	var names []string
	for _, n := range r.graph.Needs(id) {
		if r.known(n) {
			continue
		}
		if r.graph.Steps[n].Source != nil {
			return "key: after " + r.graph.Steps[n].Source.After()
		}
		names = append(names, r.graph.Steps[n].Name)
	}
	return "after " + strings.Join(names, ", ")
}

func (r *run) whyPlace(id step.ID) string {
	s := r.graph.Steps[id]
	if s.Folder == "" {
		return ""
	}
	if _, err := Fingerprint(s.Folder); err != nil {
		return "its folder is missing"
	}
	return "its folder is not as it was made"
}

// Why lists what changed in a step's key since its output was last put in place; ok is false when there is nothing to compare with.
func Why(g *planner.Graph, id step.ID, c *cache.Cache) (changes []string, ok bool) {
	r := newRun(g, []step.ID{id}, Options{Cache: c})
	r.lookAll()
	if r.waits[id] > 0 {
		return nil, false
	}
	return r.look.changes(id, r.look.look(id, r.inputs[id]))
}

// KeyText is the text of a step's key, when the digests of its inputs are known.
func KeyText(g *planner.Graph, id step.ID, c *cache.Cache) (text string, ok bool) {
	r := newRun(g, []step.ID{id}, Options{Cache: c})
	r.lookAll()
	if r.waits[id] > 0 || g.Steps[id].Source != nil {
		return "", false
	}
	text, _ = g.Key(id, r.inputs[id])
	return text, true
}
