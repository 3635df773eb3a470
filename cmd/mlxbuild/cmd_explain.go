package main

import (
	"fmt"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/planner"
)

type explainCmd struct {
	Args []string `arg:"" sep:"none" name:"recipe-or-target" help:"A target, such as smollm2/q4, and recipes as for build."`
	Key  bool     `help:"Print the text of the step's key instead."`
	All  bool     `help:"List every tensor; without it, equal layers are folded into one line."`
}

func (explainCmd) Help() string {
	return `For each step of a target: where it stands and what changed since it was last made; for a conversion every tensor with the rule and the recipe line that
decided, its bits and its bytes.

  mlxbuild explain smollm2/q4
  mlxbuild explain recipes/quickstart.yaml tiny/q4 --all
  mlxbuild explain smollm2/q4 --key`
}

// explained is one step of the answer.
type explained struct {
	Step      string           `json:"step"`
	State     string           `json:"state"`
	Reason    string           `json:"reason,omitempty"`
	Changes   []string         `json:"changes,omitempty"`
	Pos       string           `json:"pos"`
	Folder    string           `json:"folder,omitempty"`
	KeyText   string           `json:"key_text,omitempty"`
	Summary   string           `json:"summary,omitempty"`
	Notes     []string         `json:"notes,omitempty"`
	Tensors   []convert.Tensor `json:"tensors,omitempty"`
	forecasts *step.Forecast
}

func (c explainCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	view, err := p.view()
	if err != nil {
		return err
	}
	var answer []explained
	for _, id := range p.want {
		answer = append(answer, p.explain(view, id))
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "steps": answer})
	}
	for i, e := range answer {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if c.Key {
			fmt.Fprint(a.stdout, e.keyText())
			continue
		}
		c.print(a, e)
	}
	return nil
}

func (p *project) explain(view planner.View, id step.ID) explained {
	s := p.graph.Steps[id]
	e := explained{Step: s.Name, State: view.Standings[id].State, Reason: view.Standings[id].Reason, Pos: s.Pos.String(), Folder: s.Folder}
	if f := view.Forecasts[id]; f != nil {
		e.Summary, e.Notes = f.Summary, f.Notes
		if f.After != "" {
			e.Summary = strings.TrimSpace(f.Summary + " rules: " + f.After)
		}
	}
	e.KeyText, _ = executor.KeyText(p.graph, id, p.cache)
	e.Changes, _ = executor.Why(p.graph, id, p.cache)
	if t, ok := s.Action.(interface{ Tensors() []convert.Tensor }); ok {
		e.Tensors = t.Tensors()
	}
	return e
}

func (e explained) keyText() string {
	if e.KeyText == "" {
		return "# " + e.Step + ": the key is known after hashing its source (mlxbuild build does)\n"
	}
	return "# " + e.Step + "\n" + e.KeyText
}

func (c explainCmd) print(a *app, e explained) {
	state := e.State
	if e.Reason != "" {
		state += ": " + e.Reason
	}
	fmt.Fprintf(a.stdout, "%s (%s)\n  %s\n", e.Step, e.Pos, state)
	for _, change := range e.Changes {
		fmt.Fprintf(a.stdout, "  rebuilt because %s\n", change)
	}
	if e.Summary != "" {
		fmt.Fprintf(a.stdout, "  %s\n", e.Summary)
	}
	for _, n := range e.Notes {
		fmt.Fprintf(a.stdout, "  - %s\n", n)
	}
	if len(e.Tensors) == 0 {
		return
	}
	rows := [][]string{{"TENSOR", "MADE", "BITS", "BYTES", "DECIDED BY"}}
	for _, t := range c.fold(e.Tensors) {
		decided := t.Rule
		if t.RulePos.File != "" && t.RulePos.File != memoryRecipe {
			decided += "  (" + t.RulePos.String() + ")"
		}
		rows = append(rows, []string{t.Param, t.Made(), fmt.Sprintf("%.4g", t.Bits), planner.Bytes(t.Bytes), decided})
	}
	fmt.Fprintln(a.stdout)
	table(a.stdout, rows, 2, 3)
}

// fold puts layers that are made in the same way on one line: model.layers.{0-3}.mlp.down_proj.weight, bytes added up.
func (c explainCmd) fold(tensors []convert.Tensor) []convert.Tensor {
	if c.All {
		return tensors
	}
	return convert.Fold(tensors)
}
