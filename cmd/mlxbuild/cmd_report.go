package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/git"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/report/page"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

type reportCmd struct {
	Args      []string `arg:"" optional:"" sep:"none" name:"recipe" help:"Recipe files (default mlxbuild.yaml)."`
	HTML      string   `name:"html" placeholder:"FILE" help:"Where the page goes (default build/report.html beside the recipe)."`
	Markdown  string   `placeholder:"FILE" help:"Append Markdown tables."`
	CSV       string   `name:"csv" placeholder:"FILE" help:"Write a row for each metric of each cell."`
	JSONL     string   `name:"jsonl" placeholder:"FILE" help:"Write a JSON line for each cell."`
	JUnit     string   `name:"junit" placeholder:"FILE" help:"Write JUnit XML."`
	ModelCard string   `placeholder:"FILE" help:"Write the table of a model's page."`
}

func (reportCmd) Help() string {
	return `Writes one HTML file of what was built, validated and timed last: everything is inside it, and it fetches nothing. It makes and runs nothing; mlxbuild build does.

  mlxbuild report recipes/smollm2.yaml
  mlxbuild report --html out/report.html --markdown "$GITHUB_STEP_SUMMARY"

A recipe with report: [html] has it written by every build.`
}

func (c reportCmd) Run(a *app) error {
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	wantsPage := c.HTML != "" || c.Markdown == "" && c.CSV == "" && c.JSONL == "" && c.JUnit == "" && c.ModelCard == ""
	for i, r := range p.graph.Recipes {
		f, err := a.findings(p, r)
		if err != nil {
			return err
		}
		if len(f.Targets)+len(f.Validations)+len(f.Cells)+len(f.Texts) == 0 {
			return &fault{code: exitFailed, msg: "nothing of " + r.File + " has been built yet", hints: []string{"mlxbuild build makes it"}}
		}
		if wantsPage {
			path := c.HTML
			if path == "" {
				path = filepath.Join(planner.BuildDir(r), "report.html")
			} else if i > 0 {
				return &fault{code: exitUsage, msg: "--html names one file, and there are several recipes"}
			}
			if err := writeFile(path, htmlOf(f)); err != nil {
				return err
			}
			if !a.quiet {
				a.term.Line("wrote %s", shortPath(path))
			}
		}
		if err := c.write(f); err != nil {
			return err
		}
	}
	return nil
}

// write the other files that were asked for.
func (c reportCmd) write(f report.Findings) error {
	flags := benchmarkFlags{CSV: c.CSV, JSONL: c.JSONL}
	if err := flags.write(f.Cells); err != nil {
		return err
	}
	if c.JUnit != "" {
		if err := writeFile(c.JUnit, func() ([]byte, error) { return report.JUnit(f.Validations, f.Cells) }); err != nil {
			return err
		}
	}
	if c.ModelCard != "" {
		if err := writeFile(c.ModelCard, func() ([]byte, error) { return []byte(modelCard(f)), nil }); err != nil {
			return err
		}
	}
	if c.Markdown == "" {
		return nil
	}
	return appendFile(c.Markdown, markdownOf(f))
}

func markdownOf(f report.Findings) string {
	return report.BenchMarkdown(f.Cells) + report.Markdown(f.Validations)
}

func htmlOf(f report.Findings) func() ([]byte, error) {
	return func() ([]byte, error) {
		var b bytes.Buffer
		err := report.Page(f).Write(&b)
		return b.Bytes(), err
	}
}

// writeFile makes a file at once, with its folder.
func writeFile(path string, data func() ([]byte, error)) error {
	b, err := data()
	if err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
		err = atomicfile.Write(path, b, 0o644)
	}
	if err != nil {
		return &fault{code: exitUsage, msg: fmt.Sprintf("%s cannot be written: %v", path, err), hints: hintsOf(err)}
	}
	return nil
}

// reportFiles are what each word of report: writes into build/. Result lines are always there, as results.jsonl.
var reportFiles = map[string]string{"html": "report.html", "md": "report.md", "csv": "report.csv", "junit": "report.xml"}

// writeReports writes what the recipes ask for in report:, where something has changed since.
func (a *app) writeReports(p *project, outcomes []executor.Outcome) error {
	for _, r := range p.graph.Recipes {
		var stale []string
		for _, word := range r.Report {
			if name := reportFiles[word]; name != "" && !fresher(filepath.Join(planner.BuildDir(r), name), r) {
				stale = append(stale, word)
			}
		}
		if len(stale) == 0 {
			continue
		}
		f, err := a.findings(p, r)
		if err != nil {
			return err
		}
		for _, word := range stale {
			path := filepath.Join(planner.BuildDir(r), reportFiles[word])
			write := map[string]func() ([]byte, error){
				"html":  htmlOf(f),
				"md":    func() ([]byte, error) { return []byte(markdownOf(f)), nil },
				"csv":   func() ([]byte, error) { s, err := report.CSV(f.Cells); return []byte(s), err },
				"junit": func() ([]byte, error) { return report.JUnit(f.Validations, f.Cells) },
			}[word]
			if err := writeFile(path, write); err != nil {
				return err
			}
			if !a.json && !a.quiet {
				a.term.Line("wrote     %s", shortPath(path))
			}
		}
	}
	return nil
}

// fresher reports whether a file is younger than everything that a report is made of.
func fresher(path string, r *spec.Recipe) bool {
	made, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, source := range append([]string{filepath.Join(planner.BuildDir(r), resultsName), filepath.Join(r.Dir, judge.AcceptedName)}, r.Files...) {
		if info, err := os.Stat(source); err == nil && info.ModTime().After(made.ModTime()) {
			return false
		}
	}
	return true
}

// findings reads what is known of a recipe's targets: folders, and results as they were judged when they were written.
func (a *app) findings(p *project, r *spec.Recipe) (report.Findings, error) {
	f := report.Findings{Title: filepath.ToSlash(r.File), Program: "mlxbuild " + version(), Made: time.Now()}
	file := filepath.Join(planner.BuildDir(r), resultsName)
	lines, err := result.Read(file)
	if err != nil {
		return f, err
	}
	byStep := map[string]result.Line{}
	for _, l := range lines {
		byStep[l.Step()] = l
	}
	var own []result.Line
	for _, s := range p.graph.Steps {
		if s.Recipe != r.File || s.Auxiliary {
			continue
		}
		if s.Folder != "" {
			if t, ok := showTarget(s); ok {
				f.Targets = append(f.Targets, report.Built{ID: t.Target, Bytes: t.Bytes, BitsPerWeight: t.BitsPerWeight, Float: s.Labels["quantize"] == "false"})
			}
		} else if l, ok := byStep[s.Name]; ok {
			own = append(own, l)
		}
	}
	var failed []result.Line
	for _, l := range own {
		if l.Kind == "validate" && l.Verdict == string(judge.Failed) {
			failed = append(failed, l)
		}
	}
	f.Validations, f.Cells, f.Texts = shownValidations(own), shownCells(own, p.stillFailed(failed)), writtenTexts(own)
	for i := range f.Cells {
		f.Cells[i].Model, _, _ = strings.Cut(f.Cells[i].Target, "/")
	}
	f.Past = readPast(filepath.Join(filepath.Dir(file), historyName))
	for _, t := range f.Targets {
		if m, ok := quantizationMap(filepath.Join(planner.BuildDir(r), filepath.FromSlash(t.ID)), t.ID, errorsOf(f.Validations, t.ID)); ok {
			f.Maps = append(f.Maps, m)
		}
	}
	f.Facts = []page.Fact{{Name: "mlxbuild", Value: version() + ", " + runtime.Version() + ", " + machine()}, {Name: "arithmetic of quantization", Value: rounding()}}
	if head := git.Head(a.ctx, r.Dir); head != "" {
		f.Facts = append(f.Facts, page.Fact{Name: "commit of the recipe", Value: head})
	}
	for _, name := range r.Files {
		if data, err := os.ReadFile(name); err == nil {
			f.Recipes = append(f.Recipes, page.Recipe{Name: filepath.ToSlash(name), Text: string(data)})
		}
	}
	return f, nil
}

// errorsOf a target's matrices, from the first validation that compared them.
func errorsOf(validations []report.Validation, target string) map[string]metric.Number {
	for _, v := range validations {
		if v.Target == target && v.Report.Tensors != nil && v.Report.Tensors.Errors != nil {
			return v.Report.Tensors.Errors
		}
	}
	return nil
}

// failedIn are the targets that failed a validation among results.
func failedIn(lines []result.Line) map[string]string {
	failed := map[string]string{}
	for _, l := range lines {
		if l.Kind == "validate" && l.Verdict == string(judge.Failed) {
			failed[l.Target] = l.Name
		}
	}
	return failed
}

// shownCells are the cells among results, as they were judged when they were written. failed are targets that are not ranked.
func shownCells(lines []result.Line, failed map[string]string) (out []report.Bench) {
	for _, l := range lines {
		b := report.Bench{Name: l.Name, Target: l.Target, Key: l.Key, Report: &benchmark.Report{}, Verdict: judge.Verdict(l.Verdict), Seconds: l.Seconds}
		if l.Kind != "benchmark" || json.Unmarshal(l.Value, b.Report) != nil || b.Report.Format != benchmark.Format {
			continue
		}
		if l.Checks != nil && json.Unmarshal(l.Checks, &b.Checks) != nil {
			continue
		}
		b.Gated = len(b.Checks) > 0
		b.Unranked = unranked(b.Report, failed[l.Target])
		b.Model, _, _ = strings.Cut(l.Target, "/")
		out = append(out, b)
	}
	return out
}

func writtenTexts(lines []result.Line) (out []report.Written) {
	for _, l := range lines {
		var t generate.Texts
		if l.Kind == "generate" && json.Unmarshal(l.Value, &t) == nil {
			out = append(out, report.Written{Set: l.Name, Target: l.Target, Texts: t.Texts})
		}
	}
	return out
}

func modelCard(f report.Findings) string {
	var rows []report.TargetFacts
	shown := report.Page(f)
	for i, t := range f.Targets {
		row := report.TargetFacts{ID: t.ID, Bytes: t.Bytes, BitsPerWeight: t.BitsPerWeight, Failed: shown.Targets[i].Verdict == string(judge.Failed)}
		if loss := shown.Targets[i].Loss; loss != nil {
			row.Loss = strings.TrimSuffix(loss.Text, " nats")
		}
		if speed := shown.Targets[i].Speed; speed != nil {
			row.Speed = speed.Text + " (" + shown.Targets[i].SpeedOf + ")"
		}
		if k := slices.IndexFunc(f.Validations, func(v report.Validation) bool { return v.Target == t.ID && v.Report.Perplexity > 0 }); k >= 0 {
			row.Perplexity = fmt.Sprintf("%.2f", float64(f.Validations[k].Report.Perplexity))
		}
		rows = append(rows, row)
	}
	return report.ModelCard(rows)
}
