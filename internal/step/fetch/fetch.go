// Package fetch plans where a model's files come from: a local folder is read in place and known by its content's digests; a model on the Hub is pinned by the lock, so that it is known before anything
// is fetched, and is fetched only when a step that runs takes it.
package fetch

import (
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Kind plans one source step for each model that a target uses.
type Kind struct {
	Hub *Hub // nil: what is on the Hub can be planned and not fetched
}

// Name of the kind.
func (Kind) Name() string { return "source" }

// Plan adds the sources of all targets, and of folders that are validated or timed as they are.
func (k Kind) Plan(b step.Builder) spec.Diags {
	seen := map[string]bool{}
	for _, t := range b.Targets() {
		k.add(b, t.Model, seen)
	}
	for _, v := range b.Recipe().Validations {
		for _, m := range b.Recipe().Models {
			if m.Name == v.Folder || m.Name == v.Reference.Folder {
				k.add(b, m, seen)
			}
		}
	}
	for _, timed := range b.Recipe().Benchmarks {
		for _, m := range b.Recipe().Models {
			if timed.Folders { // such a recipe has no other models
				k.add(b, m, seen)
			}
		}
	}
	return nil
}

func (k Kind) add(b step.Builder, m spec.Model, seen map[string]bool) {
	if seen[m.Name] {
		return
	}
	seen[m.Name] = true
	s := step.Step{Kind: "source", Name: "source " + m.Name, Pos: m.Source.Pos, Pool: step.PoolCPU, Labels: step.Labels{"kind": "source", "model": m.Name}, Out: b.Artifact(step.ModelArtifact(m))}
	if m.Source.Kind == "path" {
		dir, _ := k.Dir(m)
		s.Source = local{dir}
	} else {
		s.Source, s.Pool = &remote{hub: k.Hub, model: m}, step.PoolNet
	}
	b.Add(s)
}

// Dir is the folder where a model's headers can be read, and whether there is one.
func (k Kind) Dir(m spec.Model) (dir string, ok bool) {
	if m.Source.Kind == "path" {
		if abs, err := filepath.Abs(m.Source.Path); err == nil {
			return abs, true
		}
		return m.Source.Path, true
	}
	return k.Hub.plannable(m)
}
