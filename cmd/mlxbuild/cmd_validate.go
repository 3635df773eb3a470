package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// validateFlags are shared by validate and llama validate.
type validateFlags struct {
	Layers   bool   `help:"Show by how much each layer differs from the reference, the tensors that differ most, and settings that differ."`
	Strict   bool   `help:"Count what is undecided as missed (exit code 4)."`
	JUnit    string `name:"junit" placeholder:"FILE" help:"Write JUnit XML."`
	Markdown string `placeholder:"FILE" help:"Write Markdown tables."`
	JSONL    string `name:"jsonl" placeholder:"FILE" help:"Write a JSON line for each target."`
}

type validateCmd struct {
	Args      []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build; picks the validations of these targets."`
	KeepGoing bool     `short:"k" help:"After a failure go on with what does not need it."`
	Jobs      int      `short:"j" default:"2" placeholder:"N" help:"Steps that run together (default 2)."`
	validateFlags
}

func (validateCmd) Help() string {
	return `Makes what the validations of the recipe need, runs those that are out of date, and shows how every target stands. After a threshold is edited nothing runs again.

  mlxbuild validate                        all validations of mlxbuild.yaml
  mlxbuild validate 'smollm2/*'            those of some targets
  mlxbuild validate validation=cost        one validation
  mlxbuild validate --layers smollm2/q4    and where the target parts from its reference
  mlxbuild validate --junit validation.xml --markdown "$GITHUB_STEP_SUMMARY"

Verdicts: ok; warned; undecided (the bound lies inside the interval); failed.
Exit codes: ` + exitHelp()
}

func (c validateCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	p.onlyKind("validate")
	if len(p.want) == 0 {
		return &fault{code: exitUsage, msg: "the recipe has no validation of this", hints: []string{"add a validate section: docs/recipe.md"}}
	}
	return a.validate(p, executor.Options{Jobs: c.Jobs, KeepGoing: c.KeepGoing}, c.validateFlags, false)
}

// onlyKind leaves the steps of some kinds wanted.
func (p *project) onlyKind(kinds ...string) {
	var want []step.ID
	for _, id := range p.want {
		if slices.Contains(kinds, p.graph.Steps[id].Kind) {
			want = append(want, id)
		}
	}
	p.want = want
}

// validate runs and shows validations. texts: show each prompt.
func (a *app) validate(p *project, o executor.Options, flags validateFlags, texts bool) error {
	outcomes, built := a.buildWanted(p, o)
	if built != nil && !o.KeepGoing {
		return built
	}
	validations, err := p.validations(outcomes)
	if err != nil {
		return err
	}
	if err := flags.write(validations); err != nil {
		return err
	}
	switch {
	case a.json:
		if err := a.printValidationsJSON(validations, flags.Layers); err != nil {
			return err
		}
	case !a.quiet:
		a.printValidations(a.stdout, validations, texts)
		for _, v := range validations {
			if flags.Layers {
				a.printLayers(a.stdout, v)
			}
		}
	}
	if err := a.judgeAll(p, validations, flags.Strict); built == nil || err != nil && worst(exitCode(built), exitCode(err)) == exitCode(err) {
		return err
	}
	return built
}

// buildWanted makes what validations need, and is silent when there is nothing to do.
func (a *app) buildWanted(p *project, o executor.Options) ([]executor.Outcome, error) {
	silent := *a
	silent.json, silent.quiet, silent.calm = false, a.quiet || a.json, true
	return silent.build(p, o)
}

func (a *app) printValidationsJSON(validations []report.Validation, layers bool) error {
	documents := []map[string]any{}
	for _, v := range validations {
		d := report.Document(v)
		if layers {
			d["layers"] = detailOf(v.Report)
		}
		documents = append(documents, d)
	}
	return printJSON(a.stdout, map[string]any{"version": 1, "validations": documents})
}

// write the files that were asked for.
func (f validateFlags) write(validations []report.Validation) error {
	for _, out := range []struct {
		path  string
		write func([]report.Validation) ([]byte, error)
	}{{f.JUnit, func(v []report.Validation) ([]byte, error) { return report.JUnit(v, nil) }}, {f.JSONL, report.JSONLines}} {
		if out.path == "" {
			continue
		}
		if err := writeFile(out.path, func() ([]byte, error) { return out.write(validations) }); err != nil {
			return err
		}
	}
	if f.Markdown == "" {
		return nil
	}
	return appendFile(f.Markdown, report.Markdown(validations))
}

// appendFile adds to a file: GitHub's summary page is one that other steps write to as well.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return &fault{code: exitUsage, msg: fmt.Sprintf("%s cannot be written: %v", path, err), hints: hintsOf(err)}
	}
	return nil
}

type acceptCmd struct {
	Args  []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build; picks the targets."`
	Again bool     `help:"Time again what was timed on this machine before."`
}

func (acceptCmd) Help() string {
	return `Writes the measured kld_mean of targets, and the figures of benchmarks, to ` + judge.AcceptedName + ` beside the recipe: a file to commit. Rules with kld_vs_accepted, and gates with
against: accepted, compare with it:

  expect:
    - for: {}
      kld_vs_accepted: {max: +10%}

  gate: {against: accepted}

Timings are accepted beside those of earlier sessions on the same machine, the last 20 of them; a gate judges from the tenth on. What is out of date is run first.

  mlxbuild accept                            everything
  mlxbuild accept kind=benchmark --again     a new session of timings`
}

func (c acceptCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	p.onlyKind("validate", "benchmark")
	o := executor.Options{Jobs: 2}
	if c.Again {
		o.Again = p.measureAgain
	}
	outcomes, err := a.buildWanted(p, o)
	if err != nil {
		return err
	}
	validations, err := p.validations(outcomes)
	if err != nil {
		return err
	}
	n, err := a.acceptCells(p, outcomes)
	if err != nil {
		return err
	}
	for _, v := range validations {
		if v.Report.Kind != "fidelity" {
			continue
		}
		if len(v.Report.Broken) > 0 {
			return &fault{code: exitExpectation, msg: fmt.Sprintf("%s %s cannot be accepted: %s", v.Name, v.Target, v.Report.Broken[0])}
		}
		if err := a.accept(p, v); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return &fault{code: exitUsage, msg: "there is nothing to accept: validations of kind fidelity measure KL, and benchmarks time", hints: []string{"write one into the recipe: docs/recipe.md has both"}}
	}
	return nil
}

func (a *app) accept(p *project, v report.Validation) error {
	path := p.acceptedPath(p.graph.Steps[v.Step])
	f, err := judge.ReadAccepted(path)
	if err != nil {
		return err
	}
	before, known := f.Accept(v.Name, v.Report)
	if err := f.Write(); err != nil {
		return err
	}
	m, _ := metric.Find(metric.KLDMean)
	now := float64(v.Report.Metrics[metric.KLDMean].Value)
	change := "new"
	if known {
		change = fmt.Sprintf("was %s, %+.1f%%", judge.Figure(m, before), 100*(now/before-1))
	}
	if !a.quiet {
		a.term.Line("accepted  %s %s  kld_mean %s (%s) in %s", v.Name, v.Target, judge.Figure(m, now), change, shortPath(path))
	}
	return nil
}

// collectValidations shows and judges what a build validated: everything that was made in it, and what failed or is undecided.
func (a *app) collectValidations(p *project, outcomes []executor.Outcome) error {
	validations, err := p.validations(outcomes)
	if err != nil || len(validations) == 0 {
		return err
	}
	var shown []report.Validation
	for _, v := range validations {
		if v.Made || v.Verdict == judge.Failed || v.Verdict == judge.Undecided {
			shown = append(shown, v)
		}
	}
	a.onPage(report.Markdown(validations))
	if !a.json && !a.quiet && len(shown) > 0 {
		var table bytes.Buffer
		fmt.Fprintln(&table)
		a.printValidations(&table, shown, false)
		a.answer.Table = table.String()
		if n := len(validations) - len(shown); n > 0 {
			a.answer.Rest = planner.Count(n, "more validation is", "more validations are") + " as before"
		}
		a.sayRepeated()
	}
	return a.judgeAll(p, validations, false)
}
