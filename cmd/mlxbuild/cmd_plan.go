package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

type planCmd struct {
	Args  []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build."`
	Check bool     `help:"Exit with 10 when there is work to do."`
	DOT   bool     `name:"dot" help:"Print the graph for Graphviz."`
}

func (planCmd) Help() string {
	return `Reads recipes and headers, never weights, and changes nothing. A step is up to date, cached (its result only has to be put in place), or run,
with the reason.

  mlxbuild plan recipes/quickstart.yaml
  mlxbuild plan --check || mlxbuild build
  mlxbuild plan --dot | dot -Tsvg > plan.svg`
}

func (c planCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	view, err := p.view()
	if err != nil {
		return err
	}
	switch {
	case c.DOT:
		view.DOT(a.stdout)
	case a.json:
		if err := view.JSON(a.stdout); err != nil {
			return err
		}
	default:
		view.Text(a.stdout)
	}
	if t := view.Totals(); c.Check && t.Work > 0 {
		return &fault{code: exitWork, msg: planner.Count(t.Work, "step is", "steps are") + " not up to date"}
	}
	return nil
}

// view looks at every chosen step and forecasts those that may run.
func (p *project) view() (planner.View, error) {
	if err := p.unmeasurable(); err != nil {
		return planner.View{}, err
	}
	all := make([]step.ID, len(p.graph.Steps))
	for id := range p.graph.Steps {
		all[id] = step.ID(id)
	}
	forecasts, err := p.graph.Forecasts(all)
	if err != nil {
		return planner.View{}, err
	}
	if d := planner.UnmatchedRules(p.graph, forecasts); d != nil {
		return planner.View{}, d
	}
	v := planner.View{Graph: p.graph, Steps: p.graph.Closure(p.want), Forecasts: forecasts, Standings: executor.Examine(p.graph, p.want, p.cache)}
	h := readHistory(p.cache)
	for id := range v.Standings {
		v.Standings[id].Seconds, _ = h.predict(p.graph.Steps[id], forecasts[id])
	}
	v.Recorded = h.runs
	return v, nil
}

// history predicts durations from recorded runs: bytes a second for each kind of step on this machine.
type history struct {
	seconds, bytes map[string]float64
	cells          map[string]float64   // seconds of the last time a cell of a benchmark was measured, by the name of its step
	measured       map[string]time.Time // when that was
	runs           int
}

func readHistory(c *cache.Cache) history {
	h := history{seconds: map[string]float64{}, bytes: map[string]float64{}, cells: map[string]float64{}, measured: map[string]time.Time{}}
	_ = c.Records(func(r *cache.Record) bool { // a cache that cannot be read predicts nothing
		if r.Machine != machine() || r.Seconds <= 0 {
			return true
		}
		kind, _, _ := strings.Cut(r.Step, " ")
		h.runs++
		if kind == "benchmark" {
			if !bytes.Contains(r.Result, []byte(`"quick":true`)) && r.Started.After(h.measured[r.Step]) {
				h.cells[r.Step], h.measured[r.Step] = r.Seconds, r.Started
			}
			return true
		}
		h.seconds[kind] += r.Seconds
		for _, o := range r.Outputs {
			h.bytes[kind] += float64(o.Size)
		}
		h.bytes[kind]++ // a step without files counts as one
		return true
	})
	return h
}

func (h history) predict(s step.Step, f *step.Forecast) (float64, bool) {
	switch {
	case f == nil:
		return 0, false
	case h.cells[s.Name] > 0:
		return h.cells[s.Name], true
	case f.Seconds > 0:
		return f.Seconds, true
	case h.bytes[s.Kind] == 0:
		return 0, false
	}
	return h.seconds[s.Kind] / h.bytes[s.Kind] * float64(f.WriteBytes+1), true
}

type checkCmd struct {
	Args []string `arg:"" optional:"" sep:"none" name:"recipe" help:"Recipe files (default mlxbuild.yaml)."`
}

func (checkCmd) Help() string {
	return `Loads recipes, plans them, and reads the headers of every local model: all mistakes at once, each with file:line:col.`
}

func (c checkCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return a.checked(nil, err)
	}
	defer p.close()
	_, err = p.view()
	return a.checked(p, err)
}

// checked answers with what was found.
func (a *app) checked(p *project, err error) error {
	if a.json {
		return a.checkedJSON(err)
	}
	if err == nil && !a.quiet {
		fmt.Fprintf(a.stdout, "ok: %s in %s\n", planner.Count(len(p.graph.Targets), "target", "targets"), planner.Count(len(p.graph.Recipes), "recipe", "recipes"))
	}
	return err
}

func (a *app) checkedJSON(err error) error {
	type problem struct {
		File    string   `json:"file"`
		Line    int      `json:"line"`
		Col     int      `json:"col"`
		Message string   `json:"message"`
		Hints   []string `json:"hints,omitempty"`
		Warning bool     `json:"warning,omitempty"`
	}
	found := []problem{}
	diags := problemsOf(err)
	if err != nil && diags == nil {
		diags = spec.Diags{{Msg: err.Error(), Hints: hintsOf(err)}}
	}
	for _, d := range diags {
		found = append(found, problem{d.Pos.File, d.Pos.Line, d.Pos.Col, d.Msg, d.Hints, d.Warning})
	}
	if err2 := printJSON(a.stdout, map[string]any{"version": 1, "ok": err == nil, "problems": found}); err2 != nil {
		return err2
	}
	if err != nil {
		return &said{err}
	}
	return nil
}

// said wraps an error whose text has been printed; its exit code stays.
type said struct{ err error }

func (s *said) Error() string   { return s.err.Error() }
func (s *said) Unwrap() []error { return []error{s.err, errSaid} }
