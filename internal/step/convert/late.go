package convert

import (
	"github.com/mlxbuild/mlxbuild/spec"
)

// lateRule is an override of targets whose headers were not there when everything was planned. A rule that matches in no model is a mistake; whether it does is known when the last of them is decided.
type lateRule struct {
	rule    spec.Rule
	waiting map[string]bool // targets
	matched bool
}

// undecided notes the rules of a target that is decided only when it runs.
func (k *Kind) undecided(a *action) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.late == nil {
		k.late = map[spec.Pos]*lateRule{}
	}
	for _, r := range a.options.Quantization.Overrides {
		if k.late[r.Pos] == nil {
			k.late[r.Pos] = &lateRule{rule: r, waiting: map[string]bool{}}
		}
		k.late[r.Pos].waiting[a.target.ID] = true
	}
}

// decided is called when a target runs. Its error are the rules that have now matched nothing anywhere.
func (k *Kind) decided(a *action) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var diags spec.Diags
	for i, r := range a.options.Quantization.Overrides {
		late := k.late[r.Pos]
		if late == nil || !late.waiting[a.target.ID] {
			continue
		}
		delete(late.waiting, a.target.ID)
		late.matched = late.matched || a.plan.Rules[i]
		if len(late.waiting) == 0 && !late.matched && !r.Optional {
			diags = append(diags, unmatched(r))
		}
	}
	if diags == nil {
		return nil
	}
	return diags
}

func unmatched(r spec.Rule) spec.Diag {
	return spec.Diag{Pos: r.Pos, Msg: "this rule matches nothing in any model: " + r.Text, Hints: []string{"`mlxbuild explain TARGET` lists the module names; `optional: true` allows no match"}}
}
