// Package planner turns recipes into a graph of steps: everything decided, nothing run.
//
// The graph has two kinds of node, steps and artifacts, because a step's key is made of the content of artifacts while a step is only the work that makes one.
// It holds no state of a run. It prints itself as text, JSON and DOT; that print is the golden file of its tests.
package planner

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// NoStep is the maker of an artifact that nothing makes.
const NoStep step.ID = -1

// Artifact is a node that holds content.
type Artifact struct {
	Name  string
	Maker step.ID
	Users []step.ID
}

// Graph is a plan. Steps stand in topological order: a step comes after the makers of its inputs.
type Graph struct {
	Steps     []step.Step
	Artifacts []Artifact
	Targets   []step.Target
	Recipes   []*spec.Recipe
}

// Maker returns the step that makes an artifact.
func (g *Graph) Maker(a step.ArtifactID) step.ID { return g.Artifacts[a].Maker }

// Needs returns the steps that s takes its inputs from.
func (g *Graph) Needs(s step.ID) []step.ID {
	ins := g.Steps[s].Ins
	needs := make([]step.ID, len(ins))
	for i, in := range ins {
		needs[i] = g.Maker(in.Artifact)
	}
	return needs
}

// Select returns the steps that any of the selectors picks; without selectors, every step but the sources. A selector that picks nothing is an error.
func (g *Graph) Select(selectors []string) ([]step.ID, error) {
	picked := make([]bool, len(g.Steps))
	for id, s := range g.Steps {
		picked[id] = len(selectors) == 0 && s.Source == nil && !s.Auxiliary
	}
	for _, sel := range selectors {
		if wrong := step.CheckSelector(sel); wrong != "" {
			return nil, &SelectorError{Selector: sel, What: wrong}
		}
		found := false
		for id, s := range g.Steps {
			if s.Source == nil && (s.Target != "" && step.Match(sel, s.Target, s.Labels) || step.Match(sel, s.Name, s.Labels)) && (!s.Auxiliary || sel == s.Name) {
				picked[id], found = true, true
			}
		}
		if !found {
			return nil, &SelectorError{Selector: sel, What: fmt.Sprintf("%q picks no target", sel), Known: g.targetIDs()}
		}
	}
	var ids []step.ID
	for id, ok := range picked {
		if ok {
			ids = append(ids, step.ID(id))
		}
	}
	return ids, nil
}

// SelectorError is a selector that is wrong or picks nothing.
type SelectorError struct {
	Selector, What string
	Known          []string
}

func (e *SelectorError) Error() string { return e.What }

// Hint names what could have been meant.
func (e *SelectorError) Hint() string {
	if near := spec.Closest(e.Selector, e.Known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if len(e.Known) == 0 {
		return "put quotes around a selector with a *: mlxbuild build 'smollm2/*'"
	}
	return "targets: " + strings.Join(first(e.Known, 12), ", ")
}

func first(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(append([]string{}, list[:n]...), fmt.Sprintf("and %d more", len(list)-n))
}

func (g *Graph) targetIDs() []string {
	var ids []string
	for _, t := range g.Targets {
		ids = append(ids, t.ID)
	}
	return ids
}

// builder is a Graph under construction; it is the step.Builder that kinds see.
type builder struct {
	graph    *Graph
	recipe   *spec.Recipe
	buildDir string // of the recipe
	targets  []step.Target
	names    map[string]step.ArtifactID
	steps    map[string]step.ID // by name
	folders  map[string]step.ID // by output folder
	others   map[string]other   // recipes at other revisions, by file and revision
	diags    spec.Diags
}

// other is what a recipe at another revision builds, or why it builds nothing.
type other struct {
	buildDir string
	targets  []step.Target
}

func (b *builder) Recipe() *spec.Recipe   { return b.recipe }
func (b *builder) Targets() []step.Target { return b.targets }

func (b *builder) BuildDir() string { return b.buildDir }

func (b *builder) At(revision string) (buildDir string, targets []step.Target, why string) {
	o, ok := b.others[b.recipe.File+"\n"+revision]
	if !ok {
		return "", nil, revision + " has no " + filepath.Base(b.recipe.File)
	}
	return o.buildDir, o.targets, ""
}

// BuildDir is the folder that a recipe's outputs go to.
func BuildDir(r *spec.Recipe) string {
	if r.Build != "" {
		return r.Build
	}
	dir, err := filepath.Abs(filepath.Join(r.Dir, "build"))
	if err != nil { // the working directory is gone; paths stay relative
		return filepath.Join(r.Dir, "build")
	}
	return dir
}

func (b *builder) Artifact(name string) step.ArtifactID {
	if id, ok := b.names[name]; ok {
		return id
	}
	id := step.ArtifactID(len(b.graph.Artifacts))
	b.graph.Artifacts = append(b.graph.Artifacts, Artifact{Name: name, Maker: NoStep})
	b.names[name] = id
	return id
}

func (b *builder) Add(s step.Step) {
	s.Recipe = b.recipe.File
	if b.recipe.Revision != "" && s.Source == nil {
		s.Name, s.Target, s.Labels, s.Auxiliary = s.Name+" at "+b.recipe.Revision, "", nil, true
	}
	if made := b.graph.Artifacts[s.Out].Maker; made != NoStep && b.sameWork(made, s) {
		return // another recipe asked for the same
	}
	if other, ok := b.folders[s.Folder]; ok && s.Folder != "" {
		o := b.graph.Steps[other]
		b.diags = append(b.diags, spec.Diag{Pos: s.Pos,
			Msg:   fmt.Sprintf("%s and %s (%s) would write the same folder %s in different ways", s.Name, o.Name, o.Pos, s.Folder),
			Hints: []string{"give one of the targets another name, or put the recipes in different folders"}})
		return
	}
	id := step.ID(len(b.graph.Steps))
	b.graph.Steps = append(b.graph.Steps, s)
	b.graph.Artifacts[s.Out].Maker = id
	for _, in := range s.Ins {
		users := &b.graph.Artifacts[in.Artifact].Users
		*users = append(*users, id)
	}
	if s.Folder != "" {
		b.folders[s.Folder] = id
	}
}

// sameWork reports whether step id does exactly what s would do, so that two recipes may share it.
func (b *builder) sameWork(id step.ID, s step.Step) bool {
	have := b.graph.Steps[id]
	if have.Kind != s.Kind || len(have.Ins) != len(s.Ins) {
		return false
	}
	for i := range s.Ins {
		if have.Ins[i] != s.Ins[i] {
			return false
		}
	}
	return s.Source != nil || parameters(have) == parameters(s)
}

// targets expands a recipe's matrix: the product of its axes without the excluded cells, then the rows that include adds.
func targets(r *spec.Recipe) ([]step.Target, spec.Diags) {
	var out []step.Target
	var diags spec.Diags
	seen := map[string]spec.Pos{}
	add := func(t step.Target) {
		if at, dup := seen[strings.ToLower(t.ID)]; dup {
			diags = append(diags, spec.Diag{Pos: t.Pos, Msg: fmt.Sprintf("target %s is there twice (also at %s)", t.ID, at),
				Hints: []string{"give the include row a name of its own"}})
			return
		}
		seen[strings.ToLower(t.ID)] = t.Pos
		out = append(out, t)
	}
	m := r.Convert.Matrix
	dtypes, suffix := m.DTypes, true
	if dtypes == nil {
		dtypes, suffix = []string{r.Convert.DType}, false
	}
	for _, model := range m.Models {
		for _, quantization := range m.Quantizations {
			for _, dtype := range dtypes {
				if excluded(m.Exclude, model, quantization, dtype) {
					continue
				}
				id := model + "/" + quantization
				if suffix {
					id += "@" + dtype
				}
				mo, q := lookup(r, model, quantization)
				add(step.Target{ID: id, Model: mo, Quantization: q, DType: dtype, Pos: q.Pos})
			}
		}
	}
	for _, row := range m.Include {
		mo, q := lookup(r, row.Model, row.Quantization)
		dtype, id := row.DType, row.Name
		if dtype == "" {
			dtype = r.Convert.DType
		}
		if id == "" {
			id = row.Model + "/" + row.Quantization
			if row.DType != "" {
				id += "@" + row.DType
			}
		}
		add(step.Target{ID: id, Model: mo, Quantization: q, DType: dtype, Pos: row.Pos})
	}
	return out, diags
}

// lookup finds what a matrix names. The loader has checked that the names exist.
func lookup(r *spec.Recipe, model, quantization string) (m spec.Model, q spec.Quantization) {
	for i := range r.Models { // without copying each: it is done for every cell
		if r.Models[i].Name == model {
			m = r.Models[i]
		}
	}
	for i := range r.Quantizations {
		if r.Quantizations[i].Name == quantization {
			q = r.Quantizations[i]
		}
	}
	return m, q
}

func excluded(filters []spec.Filter, model, quantization, dtype string) bool {
	any := func(list []string, v string) bool {
		if len(list) == 0 {
			return true
		}
		for _, e := range list {
			if e == v {
				return true
			}
		}
		return false
	}
	for _, f := range filters {
		if any(f.Models, model) && any(f.Quantizations, quantization) && any(f.DTypes, dtype) {
			return true
		}
	}
	return false
}

// sortDiags orders what several recipes said.
func sortDiags(d spec.Diags) spec.Diags {
	sort.SliceStable(d, func(i, j int) bool {
		a, b := d[i].Pos, d[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	return d
}
