package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// benchmarkFlags are shared by benchmark and llama benchmark.
type benchmarkFlags struct {
	Quick     bool   `help:"Three runs in one process: a look, without gate or verdict."`
	Again     bool   `help:"Measure again what was measured on this machine before."`
	Strict    bool   `help:"Count noisy as exit code 6, and undecided as missed."`
	Markdown  string `placeholder:"FILE" help:"Append Markdown tables."`
	CSV       string `name:"csv" placeholder:"FILE" help:"Write a row for each metric of each cell."`
	JSONL     string `name:"jsonl" placeholder:"FILE" help:"Write a JSON line for each cell, raw samples included."`
	JUnit     string `name:"junit" placeholder:"FILE" help:"Write JUnit XML."`
	Benchstat string `placeholder:"FILE" help:"Write a line for each run, for Go's benchstat."`
}

type benchmarkCmd struct {
	Args      []string `arg:"" optional:"" sep:"none" name:"recipe-or-selector" help:"As for build; picks the cells of these targets."`
	KeepGoing bool     `short:"k" help:"After a failed conversion go on with what does not need it."`
	Commands  bool     `name:"allow-commands" help:"Run the programs that the recipe names in commands."`
	benchmarkFlags
}

func (benchmarkCmd) Help() string {
	return `Makes the targets that the benchmarks of the recipe need, times the cells that were not timed on this machine yet, one at a time, and shows all. Ctrl-C keeps what is measured; the next run goes on.

  mlxbuild benchmark                          all benchmarks of mlxbuild.yaml
  mlxbuild benchmark 'smollm2/*'              those of some targets
  mlxbuild benchmark runtime=torch,batch=8    some cells
  mlxbuild benchmark --quick                  three runs each, no verdict
  mlxbuild plan kind=benchmark                how long it will take

Verdicts, with a gate: ok; slower or larger (the whole interval is beyond the tolerance); noisy (too wide to tell); undecided (no baseline); error (no figures). docs/benchmarking.md says how to read them.
Exit codes: ` + exitHelp()
}

func (c benchmarkCmd) Run(a *app) error {
	a.quick, a.commands = c.Quick, c.Commands
	p, err := a.open(c.Args)
	if err != nil {
		return err
	}
	defer p.close()
	p.onlyKind("benchmark")
	if len(p.want) == 0 {
		return &fault{code: exitUsage, msg: "the recipe has no benchmark of this", hints: []string{"add a benchmark section: docs/benchmarking.md"}}
	}
	return a.benchmark(p, executor.Options{Jobs: 1, KeepGoing: c.KeepGoing}, c.benchmarkFlags)
}

// measureAgain makes every wanted cell run, whatever is known of it.
func (p *project) measureAgain(id step.ID) bool {
	return p.graph.Steps[id].Kind == "benchmark" && slices.Contains(p.want, id)
}

// benchmark runs and shows cells.
func (a *app) benchmark(p *project, o executor.Options, flags benchmarkFlags) error {
	if flags.Again {
		o.Again = p.measureAgain
	}
	outcomes, built := a.buildWanted(p, o)
	if built != nil && !errors.Is(built, errSaid) && exitCode(built) != exitInterrupted {
		return built
	}
	cells, err := p.benchmarks(outcomes)
	if err != nil {
		return err
	}
	if err := flags.write(cells); err != nil {
		return err
	}
	switch {
	case a.json:
		if err := printCellsJSON(a.stdout, cells); err != nil {
			return err
		}
	case !a.quiet && len(cells) > 0:
		if slices.ContainsFunc(cells, func(b report.Bench) bool { return b.Made }) {
			fmt.Fprintln(a.stdout)
		}
		a.printCells(a.stdout, cells)
	}
	judged := a.judgeCells(p, cells, flags.Strict)
	if p.graph.Recipes[0].File != memoryRecipe {
		if err := a.writeReports(p, outcomes); err != nil {
			return err
		}
	}
	if built != nil && worst(exitCode(built), exitCode(judged)) == exitCode(built) {
		return built
	}
	return judged
}

// benchmarks are the judged results of the wanted steps that are cells, in plan order. Those that were not measured are left out.
func (p *project) benchmarks(outcomes []executor.Outcome) ([]report.Bench, error) {
	if !slices.ContainsFunc(p.want, func(id step.ID) bool { return p.graph.Steps[id].Kind == "benchmark" }) {
		return nil, nil // without reading results
	}
	failed, err := p.failedTargets()
	if err != nil {
		return nil, err
	}
	var out []report.Bench
	for _, id := range p.want {
		s, o := p.graph.Steps[id], outcomes[id]
		action, ok := s.Action.(interface {
			Benchmark() spec.Benchmark
			Cell() benchmark.Cell
			NoBaseline() string
		})
		if !ok || o.Key == (cache.Digest{}) || o.State == executor.Failed || o.State == executor.Skipped {
			continue
		}
		rec := o.Record
		if rec == nil {
			if rec, ok = p.cache.Record(o.Key); !ok && settled(o.State) {
				return nil, unreadable(s)
			}
			if !ok {
				continue
			}
		}
		r := reportOf(rec)
		if r == nil {
			return nil, fmt.Errorf("the record of %s is not a benchmark", s.Name)
		}
		r.Cell, r.NoBaseline = action.Cell(), action.NoBaseline() // a record may have been made under another name, and without a gate
		b := report.Bench{Name: action.Benchmark().Name, Target: s.Target, Model: s.Labels["model"], Pos: s.Pos, Step: int(id), Key: o.Key.String(), Report: r, Seconds: rec.Seconds, Made: changed(o.State)}
		if err := p.judgeCell(&b, action.Benchmark().Gate); err != nil {
			return nil, err
		}
		b.Unranked = unranked(r, failed[s.Target])
		out = append(out, b)
	}
	return out, nil
}

func (p *project) judgeCell(b *report.Bench, g *spec.Gate) error {
	b.Gated = g != nil && !b.Report.Quick
	var history judge.History
	if b.Gated && g.Against == "accepted" {
		f, err := judge.ReadAccepted(p.acceptedPath(p.graph.Steps[b.Step]))
		if err != nil {
			return err
		}
		history = f.HistoryOf(b.Name, b.Report)
	}
	b.Checks, b.Verdict = judge.Gate(b.Report, g, history)
	return nil
}

func unranked(r *benchmark.Report, failed string) string {
	switch {
	case !r.OK():
		return "it has no figures"
	case failed != "":
		return "validation " + failed + " failed"
	}
	return ""
}

// failedTargets are the targets whose validation failed as they are now, with its name: what they compute is wrong, however fast.
func (p *project) failedTargets() (map[string]string, error) {
	var lines []result.Line
	for _, r := range p.graph.Recipes {
		if r.File == memoryRecipe {
			continue
		}
		all, err := result.Read(p.resultsFile(step.Step{Recipe: r.File}))
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			if l.Kind == "validate" && l.Verdict == string(judge.Failed) {
				lines = append(lines, l)
			}
		}
	}
	return p.stillFailed(lines), nil
}

// stillFailed leaves out the results of targets that have changed since: those whose step has another key now.
func (p *project) stillFailed(lines []result.Line) map[string]string {
	if len(lines) == 0 {
		return nil
	}
	place := map[string]step.ID{}
	var ids []step.ID
	for id, s := range p.graph.Steps {
		if s.Kind == "validate" {
			place[s.Name] = step.ID(id)
			ids = append(ids, step.ID(id))
		}
	}
	standings, failed := executor.Examine(p.graph, ids, p.cache), map[string]string{}
	for _, l := range lines {
		if id, ok := place[l.Step()]; ok && standings[id].Key == l.Key {
			failed[l.Target] = l.Name
		}
	}
	return failed
}

// printCells shows a table for each benchmark, what there is to remark, and the headline.
func (a *app) printCells(w io.Writer, cells []report.Bench) {
	for i, group := range report.Cells(cells) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		first := group[0].Report
		quick := ""
		if first.Quick {
			quick = ", a quick look"
		}
		fmt.Fprintf(w, "%s: %s%s\n", a.term.Paint(term.Bold, group[0].Name), first.Machine, quick)
		rows, right := report.CellTable(group)
		table(w, clean(rows), right...)
		for _, b := range group {
			for _, remark := range report.Remarks(b) {
				word, rest, _ := strings.Cut(remark, ": ")
				fmt.Fprintf(w, "%s %s\n", a.paintWord(word), cleanLines(rest))
			}
		}
		if gate := report.GateSummary(group); gate != "" {
			fmt.Fprintf(w, "gate: %s\n", gate)
		}
	}
	lines := report.Headlines(cells)
	if len(lines) > 0 {
		fmt.Fprintln(w)
	}
	for i, h := range lines {
		if i == 0 {
			h = a.term.Paint(term.Bold, h)
		}
		fmt.Fprintln(w, h)
	}
}

func (a *app) paintWord(word string) string {
	switch word {
	case "error", "slower", "larger":
		return a.term.Paint(term.Red, word+":")
	case "noisy", "undecided", "note":
		return a.term.Paint(term.Yellow, word+":")
	}
	return a.term.Paint(term.Green, word+":")
}

func clean(rows [][]string) [][]string {
	for _, row := range rows {
		for i := range row {
			row[i] = term.Clean(row[i])
		}
	}
	return rows
}

// cleanLines keeps line ends and takes other control characters out.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = term.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// cellDocument is a cell in JSON.
func cellDocument(b report.Bench) map[string]any {
	d := map[string]any{"schema": 1, "kind": "benchmark", "name": b.Name, "target": b.Target, "cell": b.Report.Cell.Label(), "key": b.Key, "seconds": b.Seconds, "report": b.Report, "verdict": b.Verdict}
	if b.Checks != nil {
		d["checks"] = b.Checks
	}
	if b.Unranked != "" {
		d["unranked"] = b.Unranked
	}
	return d
}

func printCellsJSON(w io.Writer, cells []report.Bench) error {
	documents := []map[string]any{}
	for _, b := range cells {
		documents = append(documents, cellDocument(b))
	}
	headlines := report.Headlines(cells)
	if headlines == nil {
		headlines = []string{}
	}
	return printJSON(w, map[string]any{"version": 1, "benchmarks": documents, "headlines": headlines})
}

// write the files that were asked for.
func (f benchmarkFlags) write(cells []report.Bench) error {
	for _, out := range []struct {
		path string
		data func() ([]byte, error)
	}{
		{f.CSV, func() ([]byte, error) { s, err := report.CSV(cells); return []byte(s), err }},
		{f.JSONL, func() ([]byte, error) { return cellLines(cells) }},
		{f.JUnit, func() ([]byte, error) { return report.JUnit(nil, cells) }},
		{f.Benchstat, func() ([]byte, error) { return []byte(report.Benchstat(cells)), nil }},
	} {
		if out.path == "" {
			continue
		}
		if err := writeFile(out.path, out.data); err != nil {
			return err
		}
	}
	if f.Markdown == "" {
		return nil
	}
	return appendFile(f.Markdown, report.BenchMarkdown(cells))
}

// cellLines are result lines, as in build/results.jsonl.
func cellLines(cells []report.Bench) ([]byte, error) {
	var out []byte
	for _, b := range cells {
		l, err := lineOf(b)
		if err != nil {
			return nil, err
		}
		line, err := l.Encode()
		if err != nil {
			return nil, err
		}
		out = append(out, line...)
	}
	return out, nil
}

func lineOf(b report.Bench) (result.Line, error) {
	l := result.Line{Schema: 1, Kind: "benchmark", Name: b.Name, Target: b.Target, Cell: b.Report.Cell.Label(), Key: b.Key, Seconds: b.Seconds, Machine: machine(), Verdict: string(b.Verdict)}
	var err error
	if l.Value, err = json.Marshal(b.Report); err != nil {
		return l, err
	}
	if b.Checks != nil {
		l.Checks, err = json.Marshal(b.Checks)
	}
	return l, err
}

// judgeCells writes cells to the results file and history, and says what missed.
func (a *app) judgeCells(p *project, cells []report.Bench, strict bool) error {
	files := map[string][]result.Line{}
	fresh := map[string][]result.Line{}
	var missed, noisy, errored, missing int
	for _, b := range cells {
		line, err := lineOf(b)
		if err != nil {
			return err
		}
		path := p.resultsFile(p.graph.Steps[b.Step])
		if !b.Report.Quick {
			files[path] = append(files[path], line)
		}
		if b.Made && b.Report.OK() && !b.Report.Quick {
			fresh[path] = append(fresh[path], line)
		}
		switch {
		case b.Verdict == judge.Error && b.Report.Class == "missing":
			missing++
		case b.Verdict == judge.Error:
			errored++
		case b.Verdict.Missed(), strict && b.Verdict == judge.Undecided:
			missed++
			a.annotateCell(b)
		case b.Verdict == judge.Noisy:
			noisy++
		}
	}
	if p.graph.Recipes[0].File != memoryRecipe {
		for path, lines := range files {
			if err := result.Update(path, lines); err != nil {
				return err
			}
		}
		for path, lines := range fresh {
			if err := a.remember(path, lines); err != nil {
				return err
			}
		}
	}
	return verdictOfRun(missed, noisy, errored, missing, strict)
}

// verdictOfRun is what the program ends with.
func verdictOfRun(missed, noisy, errored, missing int, strict bool) error {
	f := &fault{}
	add := func(n, code int, one, many, rest, hint string) {
		if n == 0 {
			return
		}
		if f.msg != "" {
			f.msg += "; "
		}
		f.msg += planner.Count(n, one, many) + rest
		if f.code == 0 || worst(f.code, code) == code {
			f.code = code
		}
		if hint != "" {
			f.hints = append(f.hints, hint)
		}
	}
	add(missed, exitExpectation, "cell missed its", "cells missed their", " gate", "")
	add(missing, exitMissing, "cell was", "cells were", " not measured because a runtime is missing", "mlxbuild runtime list says which are here; exclude: {runtime: ...} leaves cells out")
	add(errored, exitFailed, "cell has", "cells have", " no figures", "exclude: leaves out what cannot be measured here")
	if strict {
		add(noisy, exitNoisy, "cell is", "cells are", " too noisy to judge", "more runs (runs: {max: 40}), a cooldown, or a quieter machine")
	}
	if f.msg == "" {
		return nil
	}
	return f
}

// annotateCell marks the line of the recipe whose cell missed, where GitHub shows it.
func (a *app) annotateCell(b report.Bench) {
	for _, c := range b.Checks {
		if c.Verdict.Missed() {
			a.mark(markError, b.Pos, "", fmt.Sprintf("%s %s %s: %s", b.Name, b.Target, b.Report.Cell.Label(), report.GateSentence(c)))
		}
	}
}

// collectBenchmarks shows and judges what a build timed: what was measured in it, and what missed.
func (a *app) collectBenchmarks(p *project, outcomes []executor.Outcome) error {
	cells, err := p.benchmarks(outcomes)
	if err != nil || len(cells) == 0 {
		return err
	}
	var shown []report.Bench
	for _, b := range cells {
		if b.Made || b.Verdict.Missed() || b.Verdict == judge.Error {
			shown = append(shown, b)
		}
	}
	a.onPage(report.BenchMarkdown(cells))
	if !a.json && !a.quiet && len(shown) > 0 {
		fmt.Fprintln(a.stdout)
		a.printCells(a.stdout, shown)
	}
	return a.judgeCells(p, cells, false)
}

// acceptCells takes the figures of cells as what later ones are held against.
func (a *app) acceptCells(p *project, outcomes []executor.Outcome) (n int, err error) {
	cells, err := p.benchmarks(outcomes)
	if err != nil || len(cells) == 0 {
		return 0, err
	}
	_ = a.judgeCells(p, cells, false) // what was measured now is a result too; accepting it is the answer to a missed gate
	for _, b := range cells {
		if !b.Report.OK() || b.Report.Quick {
			continue
		}
		path := p.acceptedPath(p.graph.Steps[b.Step])
		f, err := judge.ReadAccepted(path)
		if err != nil {
			return n, err
		}
		count := f.AcceptCell(b.Name, b.Report)
		if err := f.Write(); err != nil {
			return n, err
		}
		n++
		if !a.quiet {
			a.term.Line("accepted  %s %s %s  %s in %s", b.Name, b.Target, b.Report.Cell.Label(), planner.Count(count, "figure", "figures"), shortPath(path))
		}
	}
	return n, nil
}
