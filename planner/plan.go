package planner

import (
	"fmt"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hint"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Plan makes the graph of one or more recipes: it calls each kind for the section it owns, in list order. It opens no model. A recipe at another revision stands before the one that it belongs to; what it makes
// is auxiliary.
func Plan(recipes []*spec.Recipe, kinds []step.Kind) (*Graph, spec.Diags) {
	b := &builder{graph: &Graph{}, names: map[string]step.ArtifactID{}, folders: map[string]step.ID{}, others: map[string]other{}}
	for _, r := range recipes {
		b.recipe, b.buildDir = r, BuildDir(r)
		var diags spec.Diags
		b.targets, diags = targets(r)
		b.diags = append(b.diags, diags...)
		if r.Revision != "" {
			b.others[r.File+"\n"+r.Revision] = other{b.buildDir, b.targets}
		} else {
			b.graph.Recipes = append(b.graph.Recipes, r)
			b.graph.Targets = append(b.graph.Targets, b.targets...)
		}
		for _, k := range kinds {
			b.diags = append(b.diags, k.Plan(b)...)
		}
	}
	b.checkMakers()
	if len(b.diags) > 0 {
		return b.graph, sortDiags(b.diags)
	}
	return b.graph, nil
}

// checkMakers finds artifacts that are needed and that no step makes. Kinds run in pipeline order and a step is added after the makers of its inputs, so
// there can be no cycle; a missing maker is a kind's bug, not the user's.
func (b *builder) checkMakers() {
	for id, s := range b.graph.Steps {
		for _, in := range s.Ins {
			if maker := b.graph.Maker(in.Artifact); maker == NoStep || maker >= step.ID(id) {
				panic(fmt.Sprintf("BUG: %s needs %s, which no earlier step makes", s.Name, b.graph.Artifacts[in.Artifact].Name))
			}
		}
	}
}

// parameters is the part of a step's key that does not depend on inputs.
func parameters(s step.Step) string {
	k := cache.NewKey(s.Kind)
	s.Action.Key(k)
	return k.Text()
}

// Key is the key of a step whose inputs have these digests, in the order of Ins.
func (g *Graph) Key(id step.ID, inputs []cache.Digest) (text string, key cache.Digest) {
	s := g.Steps[id]
	k := cache.NewKey(s.Kind)
	s.Action.Key(k)
	for i, in := range s.Ins {
		k.Input(in.Role, inputs[i])
	}
	text = k.Text()
	return text, cache.SumBytes([]byte(text))
}

// Forecasts asks every given step what it will do. The result has an entry for each step of the graph, nil where nothing was asked. Problems of all steps are
// reported together.
func (g *Graph) Forecasts(ids []step.ID) ([]*step.Forecast, error) {
	out := make([]*step.Forecast, len(g.Steps))
	var diags spec.Diags
	for _, id := range ids {
		s := g.Steps[id]
		if s.Action == nil {
			continue
		}
		f, err := s.Action.Prepare()
		if err == nil {
			out[id] = f
			continue
		}
		if d, ok := err.(spec.Diags); ok {
			diags = append(diags, d...)
			continue
		}
		diags = append(diags, spec.Diag{Pos: s.Pos, Msg: fmt.Sprintf("%s: %v", s.Target, err), Hints: hints(err)})
	}
	g.addHeld(out)
	if diags = unique(diags); len(diags) > 0 {
		return out, sortDiags(diags)
	}
	return out, nil
}

// addHeld adds the inputs that steps hold in memory to what they take of it.
func (g *Graph) addHeld(forecasts []*step.Forecast) {
	for id, f := range forecasts {
		for _, in := range g.Steps[id].Ins {
			if made := forecasts[g.Maker(in.Artifact)]; f != nil && in.Held && made != nil {
				f.PeakMemory += made.WriteBytes
			}
		}
	}
}

// UnmatchedRules are override rules that match in no model of the recipes: a typing mistake, unless the rule says optional. Nothing is said of a rule while some
// model that uses it has no headers yet.
func UnmatchedRules(g *Graph, forecasts []*step.Forecast) spec.Diags {
	type use struct {
		rule spec.Rule
		hit  bool
	}
	uses := map[spec.Pos]*use{}
	for _, f := range forecasts {
		if f == nil {
			continue
		}
		for _, r := range f.Rules {
			if uses[r.Rule.Pos] == nil {
				uses[r.Rule.Pos] = &use{rule: r.Rule}
			}
			uses[r.Rule.Pos].hit = uses[r.Rule.Pos].hit || r.Matched || f.After != ""
		}
	}
	var diags spec.Diags
	for pos, u := range uses {
		if !u.hit && !u.rule.Optional {
			diags = append(diags, spec.Diag{Pos: pos, Msg: fmt.Sprintf("this rule matches nothing in any model: %s", u.rule.Text),
				Hints: []string{"`mlxbuild explain TARGET` lists the module names; a bare name matches one whole part of a path, re: a full regular expression; `optional: true` allows no match"}})
		}
	}
	return sortDiags(diags)
}

func hints(err error) []string {
	if h := hint.Of(err); h != "" {
		return []string{h}
	}
	return nil
}

// unique drops repetitions: four targets of one broken model are one problem.
func unique(diags spec.Diags) spec.Diags {
	seen := map[string]bool{}
	var out spec.Diags
	for _, d := range diags {
		key := d.Pos.String() + d.Msg
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return out
}
