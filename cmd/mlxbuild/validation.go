package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// validations are the judged results of the wanted steps that are validations, in plan order. Those that were not made are left out.
func (p *project) validations(outcomes []executor.Outcome) ([]report.Validation, error) {
	var out []report.Validation
	accepted := map[string]*judge.AcceptedFile{}
	for _, id := range p.want {
		s := p.graph.Steps[id]
		v, ok := p.validation(s)
		if !ok || outcomes[id].Key == (cache.Digest{}) || outcomes[id].State == executor.Failed {
			continue
		}
		rec, ok := p.cache.Record(outcomes[id].Key)
		if !ok && settled(outcomes[id].State) {
			return nil, unreadable(s)
		}
		if !ok {
			continue
		}
		r := &validate.Report{}
		if err := json.Unmarshal(rec.Result, r); err != nil {
			return nil, fmt.Errorf("the record of %s is not a validation: %w", s.Name, err)
		}
		path := p.acceptedPath(s)
		if accepted[path] == nil {
			f, err := judge.ReadAccepted(path)
			if err != nil {
				return nil, err
			}
			accepted[path] = f
		}
		r.Target.Name = s.Target // a record may have been made under another name
		checks, verdict := judge.Judge(r, v.Expect, s.Labels, accepted[path].Of(v.Name, r))
		out = append(out, report.Validation{Name: v.Name, Target: s.Target, Pos: s.Pos, Step: int(id), Key: outcomes[id].Key.String(), Report: r, Checks: checks, Verdict: verdict, Seconds: rec.Seconds,
			Made: changed(outcomes[id].State)})
	}
	return out, nil
}

// settled steps have a record.
func settled(s executor.State) bool { return s == executor.UpToDate || changed(s) }

// unreadable is a result that was there a moment ago. Who left it out would judge as if nobody had asked for it.
func unreadable(s step.Step) error {
	return &fault{code: exitFailed, msg: "the record of " + s.Name + " cannot be read", hints: []string{"run the same command again; mlxbuild cache verify says what is damaged"}}
}

// validation of the recipe that a step belongs to.
func (p *project) validation(s step.Step) (spec.Validation, bool) {
	if a, ok := s.Action.(interface{ Validation() spec.Validation }); ok {
		return a.Validation(), true
	}
	return spec.Validation{}, false
}

// acceptedPath is the file of accepted figures beside the recipe that a step comes from.
func (p *project) acceptedPath(s step.Step) string {
	for _, r := range p.graph.Recipes {
		if r.File == s.Recipe {
			return filepath.Join(r.Dir, judge.AcceptedName)
		}
	}
	return judge.AcceptedName
}

// judgeAll writes validations to the results file and says what missed its threshold.
func (a *app) judgeAll(p *project, validations []report.Validation, strict bool) error {
	files := map[string][]result.Line{}
	verdict := judge.OK
	missed := 0
	for _, v := range validations {
		line, err := resultOf(v)
		if err != nil {
			return err
		}
		path := p.resultsFile(p.graph.Steps[v.Step])
		files[path] = append(files[path], line)
		verdict = judge.Worst(verdict, v.Verdict)
		if v.Verdict == judge.Failed || strict && v.Verdict == judge.Undecided {
			missed++
		}
		a.annotate(v, strict)
	}
	for path, lines := range files {
		if p.graph.Recipes[0].File == memoryRecipe {
			break
		}
		if err := result.Update(path, lines); err != nil {
			return err
		}
	}
	if missed == 0 {
		return nil
	}
	return &fault{code: exitExpectation, msg: fmt.Sprintf("%s missed what was expected", planner.Count(missed, "validation", "validations")),
		hints: []string{"mlxbuild validate --layers TARGET shows where a target parts from its reference"}}
}

// annotate marks the line of the recipe whose validation is not ok, where GitHub shows it.
func (a *app) annotate(v report.Validation, strict bool) {
	for _, c := range v.Checks {
		text := fmt.Sprintf("%s %s: %s", v.Name, v.Target, report.Sentence(c))
		switch {
		case c.Verdict == judge.Failed, c.Verdict == judge.Undecided && strict:
			a.mark(markError, v.Pos, "", text)
		case c.Verdict == judge.Warned, c.Verdict == judge.Undecided:
			a.mark(markWarning, v.Pos, "", text)
		}
	}
}

func resultOf(v report.Validation) (result.Line, error) {
	l := result.Line{Schema: 1, Kind: "validate", Name: v.Name, Target: v.Target, Key: v.Key, Seconds: v.Seconds, Machine: machine(), Verdict: string(v.Verdict)}
	var err error
	if l.Value, err = json.Marshal(v.Report); err != nil {
		return l, err
	}
	l.Checks, err = json.Marshal(v.Checks)
	return l, err
}

// printValidations shows a table for each validation, and below it what missed.
func (a *app) printValidations(w io.Writer, validations []report.Validation, texts bool) {
	for i, group := range report.Groups(validations) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		first := group[0].Report
		fmt.Fprintf(w, "%s: %s\n", a.term.Paint(term.Bold, group[0].Name), report.About(first))
		rows := [][]string{report.Header(group)}
		for _, v := range group {
			row := report.Row(v, group)
			row[len(row)-1] = a.paintVerdict(v.Verdict)
			rows = append(rows, row)
		}
		right := make([]int, 0, len(rows[0]))
		for c := 2; c < len(rows[0])-1; c++ {
			right = append(right, c)
		}
		table(w, rows, right...)
		if caveat := report.Caveat(first); caveat != "" && texts {
			fmt.Fprintf(w, "  note: %s\n", caveat)
		}
		for _, v := range group {
			a.printChecks(w, v)
			if texts {
				a.printPrompts(w, v)
			}
		}
	}
}

func (a *app) paintVerdict(v judge.Verdict) string {
	style := map[judge.Verdict]string{judge.OK: term.Green, judge.Failed: term.Red, judge.Warned: term.Yellow, judge.Undecided: term.Yellow}[v]
	return a.term.Paint(style, string(v))
}

// printChecks says in sentences what was not ok.
func (a *app) printChecks(w io.Writer, v report.Validation) {
	for _, c := range v.Checks {
		if c.Verdict != judge.OK {
			fmt.Fprintf(w, "  %s %s: %s\n", a.paintVerdict(c.Verdict), v.Target, report.Sentence(c))
		}
	}
	if where := report.Whereabouts(v.Report); where != "" && v.Verdict == judge.Failed {
		fmt.Fprintf(w, "         %s: %s\n", v.Target, where)
	}
}

// printPrompts shows what came of each prompt: errors, mismatches, and both texts where they part.
func (a *app) printPrompts(w io.Writer, v report.Validation) {
	if len(v.Report.Prompts) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := [][]string{{"PROMPT", "TOKENS", "MAX ERROR", "RELATIVE", "KL", "MISMATCHES", "TEXT"}}
	for _, p := range v.Report.Prompts {
		text := "the same"
		if !p.SameText {
			text = fmt.Sprintf("parts after %s", planner.Count(p.PartsAt, "token", "tokens"))
		}
		rows = append(rows, []string{shorten(p.Prompt, 40), strconv.Itoa(p.Tokens), exponent(p.LogitErrorAbs), exponent(p.LogitErrorRel), exponent(p.KLD),
			fmt.Sprintf("%d of %d", len(p.Mismatches), p.Greedy), text})
	}
	table(w, rows, 1, 2, 3, 4)
	for _, p := range v.Report.Prompts {
		if p.SameText {
			continue
		}
		fmt.Fprintf(w, "\n  %s\n", term.Clean(shorten(p.Prompt, 100)))
		common := commonPrefix(p.ReferenceText, p.Text)
		fmt.Fprintf(w, "    both       %s\n", clip(common, 200))
		fmt.Fprintf(w, "    reference  ...%s\n", clip(strings.TrimPrefix(p.ReferenceText, common), 200))
		fmt.Fprintf(w, "    target     ...%s\n", clip(strings.TrimPrefix(p.Text, common), 200))
	}
}

func exponent(v metric.Number) string { return fmt.Sprintf("%.1e", float64(v)) }

func commonPrefix(a, b string) string {
	end := 0
	for i, r := range a {
		if !strings.HasPrefix(b[min(i, len(b)):], string(r)) {
			break
		}
		end = i + len(string(r))
	}
	return a[:end]
}

// clip keeps the end of nothing and the beginning of a text, on one line.
func clip(s string, n int) string { return term.Clean(shorten(strings.ReplaceAll(s, "\n", `\n`), n)) }

func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
