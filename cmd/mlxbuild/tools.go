package main

import (
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Tools are the programs that runtimes are made of: mlx, mlx-lm, torch. Where a recipe has a lock, the versions that its results are made with stand in it.

// tools are the versions that wanted steps of a recipe run on, by name. A runtime that is missing is told of when a step needs it, not here.
func (a *app) tools(p *project, r *spec.Recipe) map[string]string {
	used := map[string]bool{}
	for _, id := range p.graph.Closure(p.want) {
		if s := p.graph.Steps[id]; s.Recipe == r.File {
			for _, name := range s.Runtimes() {
				used[name] = true
			}
		}
	}
	out := map[string]string{}
	for name := range used {
		w, ok := a.runtimes.Find(name).(*worker.Runtime)
		if !ok {
			continue
		}
		versions, err := w.Versions(a.ctx)
		if err != nil {
			continue
		}
		for tool, v := range versions {
			if tool != "python" { // its patch level is the machine's, as is what stands behind a + in a version: cpu, cu132
				out[tool], _, _ = strings.Cut(v, "+")
			}
		}
	}
	return out
}

// lockTools adds tools that a lock does not have, and tells of those that are others here. It moves no pin.
func (a *app) lockTools(p *project) error {
	for _, r := range p.recipes {
		file := lockFile(r)
		if _, err := os.Stat(file); err != nil && !onHub(r) || r.File == memoryRecipe || r.Revision != "" {
			continue
		}
		have := a.tools(p, r)
		if len(have) == 0 {
			continue
		}
		l, err := readLock(file)
		if err != nil {
			return err
		}
		missing, moved := compareTools(l, have)
		if a.locked && len(missing)+len(moved) > 0 {
			return a.toolsOutOfDate(file, l, have, append(missing, moved...))
		}
		for _, name := range moved {
			a.note(fmt.Sprintf("warning: %s is %s here, and %s says %s; results of different versions are kept apart (mlxbuild lock --update %s takes this one)", name, have[name], shortPath(file), l.Tools[name], name))
		}
		if len(missing) == 0 {
			continue
		}
		if err := a.writeLock(p.cache, file, func(l *lock.Lock) { setTools(l, have, missing) }); err != nil {
			return err
		}
	}
	return nil
}

func setTools(l *lock.Lock, have map[string]string, names []string) {
	for _, n := range names {
		l.Tools[n] = have[n]
	}
}

// compareTools lists tools that a lock does not have, and those that it has in another version.
func compareTools(l *lock.Lock, have map[string]string) (missing, moved []string) {
	for name, v := range have {
		switch locked, ok := l.Tools[name]; {
		case !ok:
			missing = append(missing, name)
		case locked != v:
			moved = append(moved, name)
		}
	}
	sort.Strings(missing)
	sort.Strings(moved)
	return missing, moved
}

// toolsOutOfDate is the end of a --locked run on tools that are not those of the lock.
func (a *app) toolsOutOfDate(file string, l *lock.Lock, have map[string]string, names []string) error {
	for _, n := range names {
		if old, ok := l.Tools[n]; ok {
			a.term.Line("-%s: tool %s %s", shortPath(file), n, old)
		}
		a.term.Line("+%s: tool %s %s", shortPath(file), n, have[n])
	}
	return &fault{code: exitLock, msg: "the lock is out of date: " + planner.Count(len(names), "tool is", "tools are") + " not as it says",
		hints: []string{"install the versions of the lock (mlxbuild runtime install), or run `mlxbuild lock --update TOOL` and commit " + lock.Name}}
}

// updateTools is lock for tools: what is missing is added, and what a pattern names is moved. It returns the patterns that named one.
func (a *app) updateTools(p *project, patterns []string) (hit map[string]bool, err error) {
	hit = map[string]bool{}
	done := map[string]bool{}
	for _, r := range p.recipes {
		file := lockFile(r)
		if r.Revision != "" || done[file] {
			continue
		}
		done[file] = true
		have := a.tools(p, r)
		err := a.writeLock(p.cache, file, func(l *lock.Lock) {
			missing, moved := compareTools(l, have)
			setTools(l, have, missing)
			for _, n := range moved {
				if matchesAny(patterns, n, hit) {
					setTools(l, have, []string{n})
				}
			}
			for n := range l.Tools {
				matchesAny(patterns, n, hit)
			}
		})
		if err != nil {
			return hit, err
		}
	}
	return hit, nil
}

func matchesAny(patterns []string, name string, hit map[string]bool) (any bool) {
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			any, hit[pattern] = true, true
		}
	}
	return any
}
