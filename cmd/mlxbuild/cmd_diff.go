package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/stat"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/internal/term"
)

type diffCmd struct {
	Old string `arg:"" name:"old" help:"Results: a results.jsonl, or a folder that has one."`
	New string `arg:"" name:"new" help:"Results to compare with them."`
}

func (diffCmd) Help() string {
	return `Compares what two builds found out, from their build/results.jsonl alone; no model is needed. Timings of different machines are not compared, and those of different sessions are no verdict: a machine is a
few per cent faster or slower from one hour to the next. A gate that measures both in turn is (docs/benchmarking.md).

  mlxbuild diff before.jsonl build/results.jsonl`
}

// difference is one metric of one result, in both files.
type difference struct {
	Result string  `json:"result"` // "benchmark chat smollm2/q4 builtin float32 b1 512+128"
	Metric string  `json:"metric"`
	Old    float64 `json:"old"`
	New    float64 `json:"new"`
	// Ratio is new / old with its 95 % interval; low and high equal it where there is no noise.
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`

	oldText, newText string
}

// refused is a result that cannot be compared.
type refused struct {
	Result string `json:"result"`
	Why    string `json:"why"`
}

func (c diffCmd) Run(a *app) error {
	before, err := a.results(c.Old)
	if err != nil {
		return err
	}
	after, err := a.results(c.New)
	if err != nil {
		return err
	}
	found, not := differences(before, after)
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "differences": found, "not_compared": not})
	}
	rows := [][]string{{"RESULT", "METRIC", "OLD", "NEW", "NEW/OLD"}}
	for _, d := range found {
		ratio := fmt.Sprintf("%.3fx", d.Ratio)
		if d.High > d.Low {
			ratio += fmt.Sprintf(" [%.3f, %.3f]", d.Low, d.High)
		}
		rows = append(rows, []string{d.Result, d.Metric, d.oldText, d.newText, ratio})
	}
	if len(found) > 0 {
		table(a.stdout, clean(rows), 2, 3)
	}
	for _, r := range not {
		fmt.Fprintf(a.stdout, "not compared: %s: %s\n", term.Clean(r.Result), cleanLines(r.Why))
	}
	if len(found)+len(not) == 0 {
		fmt.Fprintln(a.stdout, "nothing differs that both measured")
	}
	return nil
}

// results reads a file that a person named, or the one of a folder.
func (a *app) results(path string) ([]result.Line, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		for _, name := range []string{"results.jsonl", filepath.Join("build", "results.jsonl")} {
			if _, err := os.Stat(filepath.Join(path, name)); err == nil {
				path = filepath.Join(path, name)
				break
			}
		}
	}
	lines, left, err := result.ReadAll(path)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return nil, &fault{code: exitUsage, msg: fmt.Sprintf("%s cannot be read: %v", path, pe.Err), hints: []string{"name a results.jsonl; builds write one into build/"}}
	}
	if err != nil {
		return nil, &fault{code: exitBadInput, msg: err.Error(), hints: hintsOf(err)}
	}
	for i, what := range left {
		if i == 3 && len(left) > 4 {
			a.term.Line("warning: and %d more lines of it", len(left)-3)
			break
		}
		a.term.Line("warning: %s", what)
	}
	if len(lines) == 0 {
		return nil, &fault{code: exitBadInput, msg: path + " has no results that can be read"}
	}
	return lines, nil
}

// differences of the results that both have, in the order of the second.
func differences(before, after []result.Line) (found []difference, not []refused) {
	found, not = []difference{}, []refused{}
	old := map[string]result.Line{}
	for _, l := range before {
		old[l.Step()] = l
	}
	for _, l := range after {
		o, ok := old[l.Step()]
		delete(old, l.Step())
		switch {
		case !ok:
			not = append(not, refused{l.Step(), "the old results do not have it"})
		case l.Kind == "benchmark":
			d, why := timingDifferences(o, l)
			found = append(found, d...)
			if why != "" {
				not = append(not, refused{l.Step(), why})
			}
		case l.Kind == "validate":
			found = append(found, validationDifferences(o, l)...)
		}
	}
	for _, l := range before {
		if _, left := old[l.Step()]; left {
			not = append(not, refused{l.Step(), "the new results do not have it"})
		}
	}
	return found, not
}

// compared are the metrics of timings that a diff shows.
var compared = []string{benchmark.DecodeTokS, benchmark.BatchDecodeTokS, benchmark.PrefillTokS, benchmark.TTFT, benchmark.PeakMemory, benchmark.WeightsBytes}

func timingDifferences(o, n result.Line) (out []difference, why string) {
	var a, b benchmark.Report
	if json.Unmarshal(o.Value, &a) != nil || json.Unmarshal(n.Value, &b) != nil || a.Format != benchmark.Format || b.Format != benchmark.Format {
		return nil, "a record is of another version"
	}
	switch {
	case !a.OK() || !b.OK():
		return nil, "one of them has no figures"
	case a.Machine != b.Machine:
		return nil, fmt.Sprintf("measured on different machines: %s; %s", a.Machine, b.Machine)
	case a.Tokens != b.Tokens:
		return nil, "they read different kinds of tokens"
	}
	for _, name := range compared {
		x, y := a.Side.Samples[name], b.Side.Samples[name]
		if len(x) == 0 || len(y) == 0 {
			continue
		}
		r := stat.Ratio(y, x)
		d := difference{Result: n.Step(), Metric: name, Old: a.Side.Metrics[name].Value, New: b.Side.Metrics[name].Value, Ratio: r.Value, Low: r.Low, High: r.High}
		d.oldText, d.newText = report.Amount(name, d.Old), report.Amount(name, d.New)
		out = append(out, d)
	}
	return out, ""
}

func validationDifferences(o, n result.Line) (out []difference) {
	var a, b validate.Report
	if json.Unmarshal(o.Value, &a) != nil || json.Unmarshal(n.Value, &b) != nil {
		return nil
	}
	for _, m := range metric.Table {
		x, okX := a.Metrics[m.Name]
		y, okY := b.Metrics[m.Name]
		if !okX || !okY || x.Value == y.Value || !slices.Contains([]string{metric.KLDMean, metric.KLDP99, metric.Top1, metric.PerplexityRatio, metric.LogitErrorRel, metric.TokenMismatches}, m.Name) {
			continue
		}
		ratio := float64(y.Value) / float64(x.Value)
		d := difference{Result: n.Step(), Metric: m.Name, Old: float64(x.Value), New: float64(y.Value), oldText: judge.Figure(m, float64(x.Value)), newText: judge.Figure(m, float64(y.Value))}
		if x.Value != 0 && y.Value == y.Value && x.Value == x.Value {
			d.Ratio, d.Low, d.High = ratio, ratio, ratio
		}
		out = append(out, d)
	}
	return out
}
