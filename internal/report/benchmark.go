package report

import (
	"encoding/csv"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/stat"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Bench is one judged cell of a benchmark.
type Bench struct {
	Name     string
	Target   string
	Model    string
	Pos      spec.Pos
	Step     int // of the plan
	Key      string
	Report   *benchmark.Report
	Gated    bool
	Checks   []judge.Check
	Verdict  judge.Verdict
	Unranked string // why it is not ranked: a validation of its target failed, or it was a quick look
	Seconds  float64
	Made     bool // in this run
}

// Cells of one benchmark each, in order.
func Cells(all []Bench) (groups [][]Bench) {
	place := map[string]int{}
	for _, b := range all {
		i, ok := place[b.Name]
		if !ok {
			i = len(groups)
			place[b.Name] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], b)
	}
	return groups
}

// cellColumn is a column of a table of cells.
type cellColumn struct {
	title string
	right bool
	text  func(b Bench) string
}

// cellColumns are those that say something in this group.
func cellColumns(group []Bench) (out []cellColumn) {
	varies := func(text func(Bench) string) bool {
		for _, b := range group {
			if text(b) != text(group[0]) {
				return true
			}
		}
		return false
	}
	metricColumn := func(title, name string) {
		for _, b := range group {
			if _, ok := b.Report.Side.Metrics[name]; ok {
				out = append(out, cellColumn{title, true, func(b Bench) string { return figureWith(b.Report, name, title) }})
				return
			}
		}
	}
	batch := func(b Bench) string { return strconv.Itoa(b.Report.Cell.Batch) }
	threads := func(b Bench) string { return Threads(b.Report.Cell.Threads) }
	out = append(out, cellColumn{"TARGET", false, func(b Bench) string { return b.Target }},
		cellColumn{"RUNTIME", false, func(b Bench) string { return b.Report.Cell.Runtime + " " + b.Report.Cell.Compute }},
		cellColumn{"BATCH", true, batch}, cellColumn{"SHAPE", false, func(b Bench) string { return b.Report.Cell.Shape() }})
	if varies(threads) {
		out = append(out, cellColumn{"THREADS", true, threads})
	}
	metricColumn("TOK/S [95 %]", benchmark.DecodeTokS)
	metricColumn("BATCH TOK/S", benchmark.BatchDecodeTokS)
	metricColumn("PREFILL TOK/S", benchmark.PrefillTokS)
	metricColumn("FIRST TOKEN", benchmark.TTFT)
	metricColumn("MEMORY", benchmark.PeakMemory)
	return append(out, cellColumn{"VERDICT", false, verdictOf})
}

// Threads of a cell, for people.
func Threads(n int) string {
	if n == 0 {
		return "all"
	}
	return strconv.Itoa(n)
}

func figureWith(r *benchmark.Report, name, title string) string {
	f, ok := r.Side.Metrics[name]
	if !ok {
		return "-"
	}
	text := Amount(name, f.Value)
	if strings.Contains(title, "95") {
		text = bare(f.Value)
		if f.High > f.Low {
			text += fmt.Sprintf(" [%s, %s]", bare(f.Low), bare(f.High))
		}
	} else if m, _ := benchmark.Find(name); m.Unit == "tok/s" {
		text = bare(f.Value)
	}
	return text
}

func verdictOf(b Bench) string {
	text := string(b.Verdict)
	if !b.Gated && b.Verdict == judge.OK {
		text = ""
	}
	if b.Unranked != "" && b.Verdict != judge.Error {
		text = strings.TrimSpace(text + " not ranked: " + b.Unranked)
	}
	return text
}

// bare writes a number with four digits that count.
func bare(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Amount writes a figure of a benchmark with its unit.
func Amount(name string, v float64) string {
	m, _ := benchmark.Find(name)
	switch m.Unit {
	case "bytes":
		return bytesText(v)
	case "ms":
		if math.Abs(v) >= 10_000 {
			return bare(v/1000) + " s"
		}
	}
	return strings.TrimSpace(bare(v) + " " + m.Unit)
}

// bytesText writes a size in powers of ten, as disks and models are sold.
func bytesText(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if v >= u.size {
			return strconv.FormatFloat(v/u.size, 'f', 1, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", v)
}

// withBaselines puts what each cell was measured in turn with below it.
func withBaselines(group []Bench) (out []Bench) {
	for _, b := range group {
		out = append(out, b)
		other := b.Report.Baseline
		if other == nil || !b.Report.OK() {
			continue
		}
		r := *b.Report
		r.Side, r.Baseline, r.Ratios, r.Flags = *other, nil, nil, nil
		r.Cell.Target, r.Cell.Runtime, r.Cell.Compute = other.Name, other.Runtime, other.Compute
		out = append(out, Bench{Name: b.Name, Target: other.Name, Report: &r, Verdict: baseline})
	}
	return out
}

// baseline is the verdict column of what a cell is compared with.
const baseline judge.Verdict = "baseline"

// CellTable is a group as rows, the header first, and which of its columns are aligned to the right.
func CellTable(group []Bench) (rows [][]string, right []int) {
	group = withBaselines(group)
	columns := cellColumns(group)
	var header []string
	for i, c := range columns {
		header = append(header, c.title)
		if c.right {
			right = append(right, i)
		}
	}
	rows = append(rows, header)
	for _, b := range group {
		var row []string
		for _, c := range columns {
			row = append(row, c.text(b))
		}
		rows = append(rows, row)
	}
	return rows, right
}

// Remarks are what a table of cells does not say: errors, gates, and what to think of before believing, a sentence each.
func Remarks(b Bench) (out []string) {
	r := b.Report
	where := b.Target + " " + r.Cell.Label()
	if !r.OK() {
		text := where + ": " + r.Error
		if r.Hint != "" {
			text += "; " + r.Hint
		}
		out = append(out, "error: "+text)
	}
	for _, c := range b.Checks {
		if c.Verdict != judge.OK || c.Note != "" || b.Made {
			out = append(out, fmt.Sprintf("%s: %s %s", c.Verdict, where, GateSentence(c)))
		}
	}
	if against := Against(b); against != "" {
		out = append(out, "ratio: "+where+" "+against)
	}
	for _, f := range r.Flags {
		if f != "quick" {
			out = append(out, "note: "+where+": "+f)
		}
	}
	return out
}

// GateSummary says how many figures were held against a baseline and how that went: the more are compared, the likelier it is that one of them is off by chance. "" without a gate.
func GateSummary(group []Bench) string {
	counts := map[judge.Verdict]int{}
	figures, cells := 0, 0
	for _, b := range group {
		if len(b.Checks) > 0 {
			cells++
		}
		for _, c := range b.Checks {
			figures++
			counts[c.Verdict]++
		}
	}
	if figures == 0 {
		return ""
	}
	var parts []string
	for _, v := range []judge.Verdict{judge.OK, judge.Slower, judge.Larger, judge.Noisy, judge.Undecided} {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	return fmt.Sprintf("%s of %s compared: %s", countOf(figures, "figure"), countOf(cells, "cell"), strings.Join(parts, ", "))
}

func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Against says how a cell stands against another runtime that it was measured in turn with.
func Against(b Bench) string {
	r := b.Report
	if r.Baseline == nil || b.Gated || !r.OK() {
		return ""
	}
	var parts []string
	for _, m := range benchmark.Table {
		f, ok := r.Ratios[m.Name]
		switch {
		case !ok || m.Name == benchmark.DecodeTokS && r.Cell.Batch > 1:
			continue
		case m.Name == benchmark.PeakMemory && (r.Cell.Runtime == "mlx") == (r.Baseline.Runtime == "mlx"): // MLX counts what it allocates, the others all of their process
			parts = append(parts, fmt.Sprintf("memory %.2gx", f.Value))
		case m.Name == r.Cell.Main() || m.Name == benchmark.PrefillTokS || m.Name == benchmark.TTFT:
			parts = append(parts, m.Name+" "+times(f.Interval()))
		}
	}
	return "against " + r.Baseline.Runtime + " " + r.Baseline.Compute + ": " + strings.Join(parts, ", ")
}

// GateSentence says how one metric stands against its baseline.
func GateSentence(c judge.Check) string {
	text := c.Metric
	if c.Value.N > 0 {
		text += " is " + Worse(c)
	}
	text += fmt.Sprintf(" (%s, %s)", c.Bound, c.Rule)
	if c.Note != "" {
		text += ": " + c.Note
	}
	return text
}

// Worse says by how much a cell is worse than its baseline: "1.05x [1.04, 1.06] of the baseline's time or size".
func Worse(c judge.Check) string {
	v := c.Value
	word := "worse"
	if v.Value < 1 {
		word = "better"
	}
	change := 100 * math.Abs(float64(v.Value)-1)
	if !v.Interval {
		return fmt.Sprintf("%.1f%% %s than the baseline", change, word)
	}
	return fmt.Sprintf("%.1f%% %s than the baseline [%+.1f%%, %+.1f%%]", change, word, 100*(float64(v.Low)-1), 100*(float64(v.High)-1))
}

// Headlines compare the fastest cell that may be ranked with PyTorch's, for each model, batch and shape that both have; the largest ratio first.
func Headlines(all []Bench) (out []string) {
	type line struct {
		text  string
		ratio float64
		batch int
	}
	var lines []line
	for _, b := range all {
		if paired := versus(b); paired != "" {
			ratio := b.Report.Ratios[b.Report.Cell.Main()].Value
			lines = append(lines, line{paired, ratio, b.Report.Cell.Batch})
		}
	}
	for _, pair := range rivals(all) {
		ours, torch := pair[0], pair[1]
		name := ours.Report.Cell.Main()
		ratio := stat.Ratio(ours.Report.Side.Samples[name], torch.Report.Side.Samples[name])
		if !(ratio.Value > 0) || math.IsInf(ratio.Value, 0) {
			continue
		}
		text := fmt.Sprintf("%s %s generates %s as fast as PyTorch %s (%s, batch %d, %s)", ours.Report.Cell.Runtime, short(ours.Target), times(ratio), torch.Report.Cell.Compute, torch.Target, ours.Report.Cell.Batch, ours.Report.Cell.Shape())
		lines = append(lines, line{text, ratio.Value, ours.Report.Cell.Batch})
	}
	sort.SliceStable(lines, func(i, j int) bool {
		if (lines[i].batch == 1) != (lines[j].batch == 1) {
			return lines[i].batch == 1 // what a person at a keyboard sees comes first
		}
		return lines[i].ratio > lines[j].ratio
	})
	for _, l := range lines {
		out = append(out, l.text)
	}
	return out
}

// versus is the headline of a cell that was measured in turn with PyTorch.
func versus(b Bench) string {
	r := b.Report
	f, ok := r.Ratios[r.Cell.Main()]
	if r.Baseline == nil || r.Baseline.Runtime != "torch" || r.Cell.Runtime == "torch" || !ok || !r.OK() || b.Unranked != "" {
		return ""
	}
	return fmt.Sprintf("%s %s generates %s as fast as PyTorch %s (batch %d, %s)", r.Cell.Runtime, short(b.Target), times(f.Interval()), r.Baseline.Compute, r.Cell.Batch, r.Cell.Shape())
}

// short is a target without its model: q4.
func short(target string) string { return target[strings.LastIndexByte(target, '/')+1:] }

func times(i stat.Interval) string {
	if i.High > i.Low {
		return fmt.Sprintf("%.3gx [%.3g, %.3g]", i.Value, i.Low, i.High)
	}
	return fmt.Sprintf("%.3gx", i.Value)
}

// rivals are the fastest cell that may be ranked and PyTorch's fastest, of one model, benchmark, batch, shape and number of threads.
func rivals(all []Bench) (out [][2]Bench) {
	type place struct {
		name, model, shape string
		batch, threads     int
	}
	best := map[place][2]*Bench{}
	var places []place
	for i, b := range all {
		c := b.Report.Cell
		f, ok := b.Report.Side.Metrics[c.Main()]
		if !ok || !b.Report.OK() || b.Unranked != "" || versus(b) != "" {
			continue
		}
		p := place{b.Name, b.Model, c.Shape(), c.Batch, c.Threads}
		side := 0
		if c.Runtime == "torch" {
			side = 1
		}
		pair, seen := best[p]
		if !seen {
			places = append(places, p)
		}
		if pair[side] == nil || f.Value > pair[side].Report.Side.Metrics[c.Main()].Value {
			pair[side] = &all[i]
		}
		best[p] = pair
	}
	for _, p := range places {
		if pair := best[p]; pair[0] != nil && pair[1] != nil {
			out = append(out, [2]Bench{*pair[0], *pair[1]})
		}
	}
	return out
}

// BenchMarkdown is a table for each benchmark, for GitHub's pages.
func BenchMarkdown(all []Bench) string {
	var b strings.Builder
	for i, h := range Headlines(all) {
		if i == 0 {
			fmt.Fprintf(&b, "**%s**\n\n", escapeMarkdown(h))
		}
	}
	for _, group := range Cells(all) {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", escapeMarkdown(group[0].Name), escapeMarkdown(group[0].Report.Machine.String()))
		rows, right := CellTable(group)
		all := withBaselines(group)
		writeMarkdown(&b, rows, right, func(i int) bool { return all[i].Unranked != "" })
		for _, cell := range group {
			for _, r := range Remarks(cell) {
				fmt.Fprintf(&b, "- %s\n", escapeMarkdown(r))
			}
		}
		if gate := GateSummary(group); gate != "" {
			fmt.Fprintf(&b, "- gate: %s\n", gate)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// writeMarkdown writes a table; struck rows are crossed out.
func writeMarkdown(b *strings.Builder, rows [][]string, right []int, struck func(i int) bool) {
	for i, row := range rows {
		for _, text := range row {
			if text = escapeMarkdown(text); i > 0 && struck(i-1) && text != "" {
				text = "~~" + text + "~~"
			}
			fmt.Fprintf(b, "| %s ", text)
		}
		b.WriteString("|\n")
		if i > 0 {
			continue
		}
		for k := range row {
			line := "---"
			for _, r := range right {
				if r == k {
					line = "---:"
				}
			}
			fmt.Fprintf(b, "| %s ", line)
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n")
}

func escapeMarkdown(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", "*", "\\*", "_", "\\_", "`", "\\`").Replace(s)
}

// CSV has a row for each metric of each cell.
func CSV(all []Bench) (string, error) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	rows := [][]string{{"benchmark", "target", "runtime", "compute", "batch", "shape", "threads", "metric", "unit", "value", "low", "high", "n", "verdict", "not_ranked", "error", "machine", "started"}}
	for _, c := range all {
		r := c.Report
		head := []string{c.Name, c.Target, r.Cell.Runtime, r.Cell.Compute, strconv.Itoa(r.Cell.Batch), r.Cell.Shape(), Threads(r.Cell.Threads)}
		tail := []string{string(c.Verdict), c.Unranked, r.Error, r.Machine.String(), r.Started.Format("2006-01-02T15:04:05Z")}
		n := len(rows)
		for _, m := range benchmark.Table {
			if f, ok := r.Side.Metrics[m.Name]; ok {
				rows = append(rows, concat(head, []string{m.Name, m.Unit, exactly(f.Value), exactly(f.Low), exactly(f.High), strconv.Itoa(f.N)}, tail))
			}
		}
		if len(rows) == n {
			rows = append(rows, concat(head, []string{"", "", "", "", "", "0"}, tail))
		}
	}
	err := w.WriteAll(rows)
	return b.String(), err
}

func concat(lists ...[]string) (out []string) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func exactly(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Benchstat has a line for each run, in the format of Go's benchmarks, for benchstat.
func Benchstat(all []Bench) string {
	var b strings.Builder
	last := ""
	for _, c := range all {
		r := c.Report
		if m := r.Machine.String(); m != last {
			fmt.Fprintf(&b, "cpu: %s\n", r.Machine.Chip)
			last = m
		}
		name := fmt.Sprintf("Benchmark%s/target=%s/runtime=%s/compute=%s/batch=%d/shape=%s", strings.ReplaceAll(c.Name, " ", "_"), strings.ReplaceAll(c.Target, "/", ":"), r.Cell.Runtime, r.Cell.Compute, r.Cell.Batch, r.Cell.Shape())
		for i := range r.Side.Samples[benchmark.TTFT] {
			fmt.Fprintf(&b, "%s 1", name)
			for _, m := range benchmark.Table {
				if s := r.Side.Samples[m.Name]; i < len(s) && !m.Exact && m.Name != benchmark.LoadMS {
					fmt.Fprintf(&b, " %s %s", exactly(s[i]), m.Name)
				}
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// ModelCard is the table that a model's page shows: what each target costs and gives.
func ModelCard(targets []TargetFacts) string {
	var b strings.Builder
	rows := [][]string{{"variant", "size", "bits per weight", "KL to the original", "perplexity", "tokens/s"}}
	for _, t := range targets {
		rows = append(rows, []string{short(t.ID), bytesText(float64(t.Bytes)), fmt.Sprintf("%.2f", t.BitsPerWeight), orDash(t.Loss), orDash(t.Perplexity), orDash(t.Speed)})
	}
	writeMarkdown(&b, rows, []int{1, 2, 3, 4, 5}, func(i int) bool { return targets[i].Failed })
	return b.String()
}

// TargetFacts are what is known of a built target.
type TargetFacts struct {
	ID                      string
	Bytes                   int64
	BitsPerWeight           float64
	Loss, Perplexity, Speed string
	Failed                  bool
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cellSuites are cells as suites of tests.
func cellSuites(cells []Bench) (out []suite) {
	for _, b := range cells {
		name := b.Name + " " + b.Target + " " + b.Report.Cell.Label()
		measured := testcase{Class: b.Name + "." + b.Target, Name: b.Report.Cell.Label(), Time: fmt.Sprintf("%.3f", b.Seconds)}
		s := suite{Name: name, Tests: 1 + len(b.Checks)}
		if !b.Report.OK() {
			measured.Failure = &message{b.Report.Error}
			s.Failures++
		}
		s.Cases = append(s.Cases, measured)
		for _, c := range b.Checks {
			t := testcase{Class: b.Name + "." + b.Target, Name: b.Report.Cell.Label() + " " + c.Metric + " " + c.Bound, Time: "0.000", Output: GateSentence(c)}
			switch {
			case c.Verdict.Missed():
				t.Failure = &message{GateSentence(c)}
				s.Failures++
			case c.Verdict != judge.OK:
				t.Skipped = &message{GateSentence(c)}
				s.Skipped++
			}
			s.Cases = append(s.Cases, t)
		}
		out = append(out, s)
	}
	return out
}

// Past is one measurement of a cell, a line of history.
type Past struct {
	Step    string                      `json:"step"`
	Key     string                      `json:"key"`
	Commit  string                      `json:"commit,omitempty"`
	Machine string                      `json:"machine"`
	When    time.Time                   `json:"when"`
	Metrics map[string]benchmark.Figure `json:"metrics"`
}
