package executor

import (
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// Watch names everything that a run looked at to find that all is up to date: sources, output folders, records and their blobs. It is false when the run found something else, or when a step's key has more in it
// than the recipe, the lock, the sources and this program say, such as the machine or another program's version.
func Watch(g *planner.Graph, want []step.ID, outcomes []Outcome, c *cache.Cache, t *snapshot.Taker) bool {
	for _, id := range g.Closure(want) {
		s, o := g.Steps[id], outcomes[id]
		if o.State != UpToDate || s.Class() != step.Exact {
			return false
		}
		switch {
		case s.Source != nil:
			if w, ok := s.Source.(step.Watched); !ok || !w.Watch(t) {
				return false
			}
		case s.Folder != "":
			t.Folder(s.Folder)
		default:
			for _, path := range c.Paths(o.Key, o.outputs) {
				t.Entry(path)
			}
		}
	}
	return true
}
