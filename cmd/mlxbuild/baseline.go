package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/git"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// withBaselines puts before each recipe what it was at the revisions that its gates compare with. Its models are those of today, by path: only what is made of them may differ. A revision that cannot be found is a
// problem of those commands that would measure, and of no other.
func (a *app) withBaselines(recipes []*spec.Recipe) (out []*spec.Recipe, problems spec.Diags) {
	for _, r := range recipes {
		seen := map[string]bool{}
		for _, b := range r.Benchmarks {
			if b.Gate == nil || b.Gate.Against == "accepted" || seen[b.Gate.Against] || a.quick {
				continue
			}
			seen[b.Gate.Against] = true
			old, problem := a.baseline(r, b.Gate)
			problems = append(problems, problem...)
			if old != nil {
				out = append(out, old)
			}
		}
		out = append(out, r)
	}
	return out, problems
}

// unmeasurable are the problems of baselines, where a benchmark is wanted.
func (p *project) unmeasurable() error {
	for _, id := range p.want {
		if p.graph.Steps[id].Kind == "benchmark" && len(p.problems) > 0 {
			return p.problems
		}
	}
	return nil
}

// baseline loads a recipe as it was at a revision; nil where it was not there yet, or was none.
func (a *app) baseline(r *spec.Recipe, g *spec.Gate) (*spec.Recipe, spec.Diags) {
	revision := strings.TrimPrefix(g.Against, "git:")
	commit, err := git.Commit(a.ctx, filepath.Dir(r.File), revision)
	if err != nil {
		d := spec.Diag{Pos: g.Pos, Msg: fmt.Sprintf("gate: %v", err)}
		d.Hints = hintsOf(err)
		return nil, spec.Diags{d}
	}
	old, diags := spec.Load(r.File, spec.Options{ReadFile: func(path string) ([]byte, error) { return git.Show(a.ctx, commit, path) }})
	if old == nil {
		if _, err := git.Show(a.ctx, commit, r.File); !errors.Is(err, git.ErrNoFile) && !a.quiet {
			a.term.Line("warning: %s at %s is no recipe of today: %s", r.File, revision, diags[0].Msg)
		}
		return nil, nil
	}
	old.File, old.Revision = r.File, g.Against
	old.Build = filepath.Join(planner.BuildDir(r), ".baseline", folderName(revision))
	old.Generate, old.Validations, old.Benchmarks, old.Report = nil, nil, nil, nil
	return old, nil
}

// folderName of a revision: refs have slashes and more.
func folderName(revision string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|~^@{} `, r) || r == os.PathSeparator {
			return '-'
		}
		return r
	}, revision)
}
