package report

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report/page"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Findings are everything that was found out about the targets of some recipes.
type Findings struct {
	Title       string
	Program     string
	Made        time.Time
	Targets     []Built
	Validations []Validation
	Cells       []Bench
	Texts       []Written
	Past        []Past
	Maps        []page.Map
	Facts       []page.Fact
	Recipes     []page.Recipe
}

// Built is a target that stands in its folder.
type Built struct {
	ID            string
	Bytes         int64
	BitsPerWeight float64
	Float         bool // it is not quantized
}

// Written is what a target wrote for the prompts of one entry.
type Written struct {
	Set    string
	Target string
	Texts  []generate.Text
}

// Page arranges findings.
func Page(f Findings) *page.Page {
	p := &page.Page{Title: f.Title, Program: f.Program, Made: f.Made, Maps: f.Maps, Recipes: f.Recipes, Headline: Headlines(f.Cells)}
	at := commonPlace(f.Cells)
	for _, t := range f.Targets {
		p.Targets = append(p.Targets, pageTarget(f, t, at))
	}
	if len(p.Headline) == 0 {
		p.Headline = smallest(p.Targets)
	}
	if len(p.Headline) > 4 {
		p.Headline = p.Headline[:4]
	}
	best := fastest(f.Cells)
	for i, b := range f.Cells {
		p.Cells = append(p.Cells, pageCell(b, best[i]))
	}
	p.Series = series(f)
	p.Prompts = prompts(f)
	p.Facts = append(facts(f), f.Facts...)
	p.Terms = terms(f)
	return p
}

// commonPlace is the benchmark, shape and number of threads in which most targets were timed one text at a time, the first of equals: only there their speeds compare.
func commonPlace(cells []Bench) (best string) {
	targets := map[string]map[string]bool{}
	for _, b := range cells {
		at := placeOf(b)
		if at == "" {
			continue
		}
		if targets[at] == nil {
			targets[at] = map[string]bool{}
		}
		targets[at][b.Target] = true
		if len(targets[at]) > len(targets[best]) {
			best = at
		}
	}
	return best
}

// placeOf is where a cell's speed stands for its target's; "" for batches, for PyTorch, which is what others are compared with, and for what is not ranked.
func placeOf(b Bench) string {
	c := b.Report.Cell
	if _, ok := b.Report.Side.Metrics[benchmark.DecodeTokS]; !ok || c.Batch != 1 || b.Unranked != "" || c.Runtime == "torch" {
		return ""
	}
	return b.Name + "\n" + c.Shape() + "\n" + Threads(c.Threads)
}

func pageTarget(f Findings, t Built, at string) page.Target {
	out := page.Target{ID: t.ID, Bytes: t.Bytes, Size: bytesText(float64(t.Bytes)), BitsPerWeight: t.BitsPerWeight}
	verdict := judge.Verdict("")
	for _, v := range f.Validations {
		if v.Report.Kind == spec.Fidelity && v.Report.Reference.Name == t.ID {
			out.Reference = true
		}
		if v.Target != t.ID {
			continue
		}
		verdict = judge.Worst(verdict, v.Verdict)
		if verdict == "" {
			verdict = v.Verdict
		}
		if loss, ok := v.Report.Metrics[metric.KLDMean]; ok && v.Report.Kind == spec.Fidelity && (out.Loss == nil || v.Report.Tokens.Context > 0) {
			m, _ := metric.Find(metric.KLDMean)
			fig := page.Figure{Value: float64(loss.Value), Low: float64(loss.Low), High: float64(loss.High), N: loss.N, Text: judge.Figure(m, float64(loss.Value)) + " nats"}
			if loss.Interval {
				fig.Interval = fmt.Sprintf("[%s, %s]", judge.Figure(m, float64(loss.Low)), judge.Figure(m, float64(loss.High)))
			}
			out.Loss = &fig
		}
		for _, c := range v.Checks {
			m, _ := metric.Find(c.Metric)
			out.Checks = append(out.Checks, page.Check{Name: v.Name, Metric: c.Metric, Value: judge.Figure(m, float64(c.Value.Value)), Bound: c.Bound, Verdict: string(c.Verdict), Rule: c.Rule, Note: c.Note})
		}
	}
	out.Verdict = string(verdict)
	if out.Reference && out.Loss == nil {
		out.Loss = &page.Figure{Text: "0, by definition"}
	}
	for _, b := range f.Cells {
		speed := b.Report.Side.Metrics[benchmark.DecodeTokS]
		if b.Target != t.ID || at == "" || placeOf(b) != at || out.Speed != nil && speed.Value <= out.Speed.Value {
			continue
		}
		fig := pageFigure(benchmark.DecodeTokS, speed)
		out.Speed, out.SpeedOf = &fig, b.Report.Cell.Runtime+" "+b.Report.Cell.Compute+", "+b.Report.Cell.Shape()
	}
	return out
}

// smallest is a headline where there is no PyTorch to compare with: what the smallest target that passed saves and costs.
func smallest(targets []page.Target) []string {
	var reference, best *page.Target
	for i, t := range targets {
		switch {
		case t.Reference:
			reference = &targets[i]
		case t.Loss != nil && t.Verdict != string(judge.Failed) && (best == nil || t.Bytes < best.Bytes):
			best = &targets[i]
		}
	}
	if reference == nil || best == nil || reference.Bytes == 0 {
		return nil
	}
	text := fmt.Sprintf("%s has %.0f%% of the size of %s and differs from it by %s", best.ID, 100*float64(best.Bytes)/float64(reference.Bytes), reference.ID, best.Loss.Text)
	if best.Speed != nil {
		text += "; it generates " + best.Speed.Text + " with " + best.SpeedOf
	}
	return []string{text}
}

func pageFigure(name string, f benchmark.Figure) page.Figure {
	out := page.Figure{Value: f.Value, Low: f.Low, High: f.High, N: f.N, Text: Amount(name, f.Value)}
	if f.High > f.Low {
		out.Interval = fmt.Sprintf("[%s, %s]", bare(f.Low), bare(f.High))
		if m, _ := benchmark.Find(name); m.Unit == "bytes" {
			out.Interval = fmt.Sprintf("[%s, %s]", bytesText(f.Low), bytesText(f.High))
		}
	}
	return out
}

// fastest marks the fastest ranked cell of each benchmark, model, batch and shape.
func fastest(cells []Bench) map[int]bool {
	best := map[string]int{}
	for i, b := range cells {
		f, ok := b.Report.Side.Metrics[b.Report.Cell.Main()]
		if !ok || b.Unranked != "" || !b.Report.OK() {
			continue
		}
		key := fmt.Sprint(b.Name, "\n", b.Model, "\n", b.Report.Cell.Batch, "\n", b.Report.Cell.Shape())
		if j, seen := best[key]; !seen || f.Value > cells[j].Report.Side.Metrics[b.Report.Cell.Main()].Value {
			best[key] = i
		}
	}
	out := map[int]bool{}
	for _, i := range best {
		out[i] = true
	}
	return out
}

func pageCell(b Bench, best bool) page.Cell {
	r := b.Report
	out := page.Cell{Benchmark: b.Name, Target: b.Target, Runtime: r.Cell.Runtime, Compute: r.Cell.Compute, Batch: r.Cell.Batch, Shape: r.Cell.Shape(), Threads: Threads(r.Cell.Threads), Error: r.Error, Best: best,
		Flags: r.Flags, Key: b.Key, When: r.Started}
	if b.Gated || b.Verdict != judge.OK {
		out.Verdict = string(b.Verdict)
	}
	if r.OK() {
		out.Unranked = b.Unranked
	}
	for _, m := range benchmark.Table {
		if f, ok := r.Side.Metrics[m.Name]; ok {
			out.Metrics = append(out.Metrics, page.Metric{Name: m.Name, Higher: m.Higher, Figure: pageFigure(m.Name, f), Samples: r.Side.Samples[m.Name]})
		}
	}
	for _, c := range b.Checks {
		change := page.Change{Metric: c.Metric, Bound: c.Bound, Verdict: string(c.Verdict), Note: c.Note}
		if r.Baseline != nil {
			change.Baseline = r.Baseline.Name
		} else {
			change.Baseline = "accepted figures"
		}
		if c.Value.N > 0 {
			change.Ratio = Worse(c)
		}
		out.Against = append(out.Against, change)
	}
	if len(b.Checks) == 0 && r.Baseline != nil {
		if f, ok := r.Ratios[r.Cell.Main()]; ok {
			out.Against = append(out.Against, page.Change{Metric: r.Cell.Main(), Baseline: r.Baseline.Name + " in " + r.Baseline.Runtime + " " + r.Baseline.Compute, Ratio: times(f.Interval())})
		}
	}
	return out
}

// series are the main metrics of cells that were measured more than once on this machine.
func series(f Findings) (out []page.Series) {
	for _, b := range f.Cells {
		name := b.Report.Cell.Main()
		m, _ := benchmark.Find(name)
		s := page.Series{Cell: b.Name + " " + b.Target + " " + b.Report.Cell.Label(), Metric: name, Unit: m.Unit, Higher: m.Higher}
		for _, p := range f.Past {
			figure, ok := p.Metrics[name]
			if ok && p.Step == "benchmark "+s.Cell && p.Machine == b.Report.Machine.String() {
				s.Points = append(s.Points, page.Point{When: p.When, Commit: p.Commit, Value: figure.Value, Low: figure.Low, High: figure.High})
			}
		}
		sort.SliceStable(s.Points, func(i, j int) bool { return s.Points[i].When.Before(s.Points[j].When) })
		if len(s.Points) > 1 {
			out = append(out, s)
		}
	}
	return out
}

// prompts puts what targets wrote for the same prompt side by side, and what validations found to differ.
func prompts(f Findings) (out []page.Prompt) {
	place := map[string]int{}
	add := func(set, prompt string, t page.Text) {
		key := set + "\n" + prompt
		i, ok := place[key]
		if !ok {
			i = len(out)
			place[key] = i
			out = append(out, page.Prompt{Set: set, Prompt: prompt})
		}
		if first := out[i].Texts; len(first) > 0 {
			t.Same = first[0].Text == t.Text
			t.PartsAt = common(first[0].Text, t.Text)
		} else {
			t.Same, t.PartsAt = true, len(t.Text)
		}
		out[i].Texts = append(out[i].Texts, t)
	}
	for _, w := range f.Texts {
		for _, t := range w.Texts {
			add(w.Set, t.Prompt, page.Text{Target: w.Target, Text: t.Text})
		}
	}
	for _, v := range f.Validations {
		for _, p := range v.Report.Prompts {
			set := v.Name + ", " + v.Target
			add(set, p.Prompt, page.Text{Target: v.Report.Reference.Name + " (" + v.Report.Reference.Runtime + " " + v.Report.Reference.Compute + ")", Text: p.ReferenceText})
			add(set, p.Prompt, page.Text{Target: v.Target + " (" + v.Report.Target.Runtime + " " + v.Report.Target.Compute + ")", Text: p.Text})
		}
	}
	return out
}

// common is how many bytes two texts begin with alike.
func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// facts of the environment: where figures come from.
func facts(f Findings) (out []page.Fact) {
	seen := map[string]bool{}
	add := func(name, value string) {
		if value != "" && !seen[name+value] {
			seen[name+value] = true
			out = append(out, page.Fact{Name: name, Value: value})
		}
	}
	for _, b := range f.Cells {
		r := b.Report
		add("timed on", r.Machine.String())
		for _, s := range []*benchmark.Side{&r.Side, r.Baseline} {
			if s != nil {
				add("runtime "+s.Runtime, s.RuntimeID)
			}
		}
		if r.Before.Power != "unknown" {
			add("power", r.Before.Power)
		}
	}
	for _, v := range f.Validations {
		for _, s := range []string{v.Report.Target.RuntimeID, v.Report.Reference.RuntimeID} {
			name, _, _ := strings.Cut(s, "/")
			add("runtime "+name, s)
		}
	}
	return out
}

// terms explain the metrics that the page shows.
func terms(f Findings) (out []page.Term) {
	if len(f.Cells) > 0 {
		measured := map[string]bool{}
		for _, b := range f.Cells {
			for name := range b.Report.Side.Metrics {
				measured[name] = true
			}
		}
		for _, m := range benchmark.Table {
			if measured[m.Name] {
				out = append(out, page.Term{Name: m.Name, Meaning: m.Meaning})
			}
		}
		out = append(out, page.Term{Name: "interval", Meaning: "95 % percentile bootstrap of the median (10,000 resamples) of the runs; a cell is run until it is narrow. A ratio to a baseline is Hodges and Lehmann's estimate of paired log ratios with Wilcoxon's interval: both sides are measured in turn, A B B A."},
			page.Term{Name: "slower", Meaning: "the whole interval of the ratio is beyond the tolerance. An interval too wide to tell is noisy, which fails nothing by itself."},
			page.Term{Name: "tokens", Meaning: "every runtime gets the same ids, makes the same number of tokens, greedily, past the ends of texts; prompts differ from run to run."})
	}
	used := map[string]bool{}
	for _, v := range f.Validations {
		for name := range v.Report.Metrics {
			used[name] = true
		}
	}
	for _, m := range metric.Table {
		if used[m.Name] {
			out = append(out, page.Term{Name: m.Name, Meaning: m.Doc})
		}
	}
	return out
}
