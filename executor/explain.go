package executor

import (
	"fmt"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// buildDir is the folder that the step's recipe builds into.
func buildDir(g *planner.Graph, id step.ID) string {
	for _, r := range g.Recipes {
		if r.File == g.Steps[id].Recipe {
			return planner.BuildDir(r)
		}
	}
	return planner.BuildDir(g.Recipes[0])
}

// why says in a phrase why a step has to run: what changed since it last ran here, or that it never did.
func (l *looker) why(id step.ID, v sight) string {
	changes, ok := l.changes(id, v)
	switch {
	case !ok:
		return "new"
	case len(changes) == 0:
		return "its result is no longer in the cache"
	case len(changes) > 3:
		return strings.Join(changes[:3], ", ") + fmt.Sprintf(" and %d more", len(changes)-3)
	}
	return strings.Join(changes, ", ")
}

// changes lists the differences between a step's key and the key it last had here, each with the recipe line it comes from. The bool says whether an earlier
// key is known.
func (l *looker) changes(id step.ID, v sight) ([]string, bool) {
	last, ok := l.last(id)
	if !ok {
		return nil, false
	}
	old, ok := l.cache.Record(last)
	if !ok {
		return nil, false
	}
	var out []string
	for _, c := range cache.DiffKeys(old.KeyText, v.text) {
		out = append(out, l.phrase(id, c)...)
	}
	return out, true
}

// last is the key that the step's output had when it was last put in place here.
func (l *looker) last(id step.ID) (cache.Digest, bool) {
	s := l.graph.Steps[id]
	if key, ok := l.cache.Memo(lastMemo(buildDir(l.graph, id), s.Name)); ok {
		return key, true
	}
	if s.Folder == "" {
		return cache.Digest{}, false
	}
	if p := ReadProvenance(s.Folder); p != nil && p.Target == s.Target {
		return p.Key, true
	}
	return cache.Digest{}, false
}

func (l *looker) phrase(id step.ID, c cache.Change) []string {
	s := l.graph.Steps[id]
	switch c.What {
	case "input":
		if files := l.changedFiles(c); files != nil {
			return files
		}
		return []string{fmt.Sprintf("its %s changed", c.Name)}
	case "param":
		name := c.Name
		if c.Path != "" {
			name = c.Path
		}
		text := fmt.Sprintf("%s %s -> %s", name, orNone(c.Old), orNone(c.New))
		if w, ok := s.Action.(step.Where); ok {
			if pos, ok := w.Where(c.Name, c.Path); ok {
				text += " at " + pos.String()
			}
		}
		return []string{text}
	}
	return []string{fmt.Sprintf("%s %s %s -> %s", c.What, c.Name, orNone(c.Old), orNone(c.New))}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// changedFiles names the files that differ between two source trees, whose listings lie in the cache under their own digests.
func (l *looker) changedFiles(c cache.Change) []string {
	old, new := l.listing(c.Old), l.listing(c.New)
	if old == nil || new == nil {
		return nil
	}
	var out []string
	for path, line := range new {
		switch {
		case old[path] == "":
			out = append(out, path+" is new")
		case old[path] != line:
			out = append(out, path+" changed")
		}
	}
	for path := range old {
		if new[path] == "" {
			out = append(out, path+" is gone")
		}
	}
	sort.Strings(out)
	return out
}

// listing reads a tree's lines `0644 size sha256 path` into a map from path to line.
func (l *looker) listing(hex string) map[string]string {
	d, err := cache.ParseDigest(hex)
	if err != nil {
		return nil
	}
	data, err := l.cache.ReadBlob(d, 1<<20)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			out[parts[3]] = line
		}
	}
	return out
}
