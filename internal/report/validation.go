// Package report writes results for people and for other programs: rows of tables, Markdown, JUnit XML, JSON lines.
package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Validation is one judged validation of one target.
type Validation struct {
	Name    string
	Target  string
	Pos     spec.Pos
	Step    int // of the plan
	Key     string
	Report  *validate.Report
	Checks  []judge.Check
	Verdict judge.Verdict
	Seconds float64 // that it took when it was run
	Made    bool    // in this run
}

// Groups are the validations of one name and reference each, in order.
func Groups(all []Validation) (groups [][]Validation) {
	place := map[string]int{}
	for _, v := range all {
		key := v.Name + "\n" + about(v.Report)
		i, ok := place[key]
		if !ok {
			i = len(groups)
			place[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], v)
	}
	return groups
}

// About says what was compared with what, on how much.
func About(r *validate.Report) string {
	text := about(r)
	if r.Tokens.Context > 0 {
		return fmt.Sprintf("%s, on %d x %d tokens", text, r.Tokens.Sequences, r.Tokens.Context)
	}
	if r.Tokens.Sequences == 1 {
		return text + ", on 1 prompt"
	}
	return fmt.Sprintf("%s, on %d prompts", text, r.Tokens.Sequences)
}

func about(r *validate.Report) string {
	against := ""
	switch {
	case r.Kind == spec.Fidelity:
		against = r.Reference.Name + " in "
	case r.Reference.Weights == "source":
		against = "the source in "
	case r.Target.Name != r.Reference.Name:
		against = r.Reference.Name + " in "
	default:
		against = "the same weights in "
	}
	return fmt.Sprintf("%s, %s %s against %s%s %s", r.Kind, r.Target.Runtime, r.Target.Compute, against, r.Reference.Runtime, r.Reference.Compute)
}

// columns of a validation's table, by kind and by what there is.
func columns(group []Validation) (out []string) {
	names := []string{metric.LogitErrorRel, metric.LogitErrorAbs, metric.TokenMismatches}
	if group[0].Report.Kind == spec.Fidelity {
		names = []string{metric.KLDMean, metric.KLDP99, metric.Top1, metric.PerplexityRatio}
	}
	for _, n := range names {
		if _, ok := group[0].Report.Metrics[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

var titles = map[string]string{metric.LogitErrorRel: "LOGIT ERROR REL", metric.LogitErrorAbs: "ABS", metric.TokenMismatches: "MISMATCHES", metric.KLDMean: "KL MEAN [95 %]", metric.KLDP99: "P99",
	metric.Top1: "TOP-1", metric.PerplexityRatio: "PPL RATIO"}

// Header of a group's table.
func Header(group []Validation) []string {
	out := []string{"TARGET", "WEIGHTS"}
	for _, c := range columns(group) {
		out = append(out, titles[c])
	}
	return append(out, "VERDICT")
}

// Row of a validation in its group's table.
func Row(v Validation, group []Validation) []string {
	out := []string{v.Target, Weights(v.Report.Class)}
	for _, c := range columns(group) {
		out = append(out, cell(v, c))
	}
	return append(out, string(v.Verdict))
}

// Weights names a class as people do.
func Weights(c validate.Class) string {
	switch {
	case c.Bits == 0:
		return strings.ToLower(c.Type)
	case c.Mode == "affine":
		return fmt.Sprintf("%d bits", c.Bits)
	}
	return c.Mode
}

func cell(v Validation, name string) string {
	value, ok := v.Report.Metrics[name]
	if !ok {
		return "-"
	}
	for _, c := range v.Checks { // a judged figure is the one that counts: ties are out
		if c.Metric == name {
			value = c.Value
		}
	}
	m, _ := metric.Find(name)
	text := judge.Figure(m, float64(value.Value))
	switch {
	case name == metric.TokenMismatches:
		return fmt.Sprintf("%s of %d", text, value.N)
	case name == metric.KLDMean && value.Interval:
		return fmt.Sprintf("%s [%s, %s]", text, judge.Figure(m, float64(value.Low)), judge.Figure(m, float64(value.High)))
	}
	return text
}

// Sentence says in words how a check went.
func Sentence(c judge.Check) string {
	m, _ := metric.Find(c.Metric)
	if c.Rule == "always" {
		return c.Note
	}
	text := fmt.Sprintf("%s is %s", c.Metric, judge.Figure(m, float64(c.Value.Value)))
	if c.Value.Interval {
		text += fmt.Sprintf(" [%s, %s]", judge.Figure(m, float64(c.Value.Low)), judge.Figure(m, float64(c.Value.High)))
	}
	if c.Bound != "" {
		text += fmt.Sprintf(", %s (%s)", c.Bound, c.Rule)
	}
	if c.Note != "" {
		text += ": " + c.Note
	}
	if c.Verdict == judge.Undecided && c.Value.Interval && c.Note == "" {
		text += ": the bound lies inside the interval; more text makes it narrower"
	}
	return text
}

// LayerLimit is what a layer of the same weights may differ by. In float32 it differs by 1e-6 (measured on SmolLM2: builtin 2e-6, mlx 1.3e-5 at most); a wrong one by 1e-2 and more.
const LayerLimit = 1e-4

// layerJump is by how much the error of other weights has to grow in one layer to be named.
const layerJump = 4

// Parts is the layer at which a target parts from its reference: the first over LayerLimit for the same weights, the one where the error grows most for others. 0 is what enters the first block, i+1
// what leaves block i; -1 when there is none.
func Parts(r *validate.Report) int {
	best, jump := -1, float64(layerJump)
	for i, l := range r.Layers {
		e := float64(l.Error)
		switch {
		case r.Kind == spec.Parity && !(e <= LayerLimit), e != e:
			return i
		case r.Kind == spec.Fidelity && i > 0 && r.Layers[i-1].Error > 0 && e/float64(r.Layers[i-1].Error) > jump:
			best, jump = i, e/float64(r.Layers[i-1].Error)
		}
	}
	return best
}

// LayerName is what people call a layer.
func LayerName(i int) string {
	if i == 0 {
		return "embeddings"
	}
	return fmt.Sprintf("block %d", i-1)
}

// Whereabouts says in a phrase where a target parts from its reference, "" when nothing is known.
func Whereabouts(r *validate.Report) string {
	var parts []string
	if i := Parts(r); i >= 0 {
		parts = append(parts, fmt.Sprintf("%s is the first to differ (%.1e)", LayerName(i), float64(r.Layers[i].Error)))
	}
	if t := r.Tensors; t != nil && t.Odd > 0 {
		parts = append(parts, fmt.Sprintf("%s differs by %.2g", t.Worst[0].Name, float64(t.Worst[0].Error)))
	}
	for _, s := range r.Settings {
		parts = append(parts, "config.json differs in "+s)
	}
	return strings.Join(parts, "; ")
}

// Caveat says what a comparison does not show, "" when it is what was asked for.
func Caveat(r *validate.Report) string {
	if r.Kind == spec.Parity && r.Reference.Runtime == "builtin" && r.Target.Runtime == "builtin" {
		return "this shows that " + r.Target.Compute + " is computed right, not that mlxbuild understands the model as PyTorch does; with PyTorch (mlxbuild runtime install torch) it would"
	}
	return ""
}

// Markdown is a section for a README or a job's summary page.
func Markdown(all []Validation) string {
	var b strings.Builder
	for _, group := range Groups(all) {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", group[0].Name, About(group[0].Report))
		header := Header(group)
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
		for _, v := range group {
			fmt.Fprintf(&b, "| %s |\n", strings.ReplaceAll(strings.Join(Row(v, group), " \x00 "), "|", `\|`))
		}
		b.WriteByte('\n')
		for _, v := range group {
			for _, c := range v.Checks {
				if c.Verdict != judge.OK {
					fmt.Fprintf(&b, "- **%s** `%s`: %s\n", c.Verdict, v.Target, Sentence(c))
				}
			}
			if where := Whereabouts(v.Report); where != "" && v.Verdict == judge.Failed {
				fmt.Fprintf(&b, "- `%s`: %s\n", v.Target, where)
			}
		}
		b.WriteByte('\n')
	}
	return strings.ReplaceAll(b.String(), "\x00", "|")
}

// JSONLines has a line for each validation, with every figure and check.
func JSONLines(all []Validation) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, v := range all {
		if err := enc.Encode(Document(v)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// Document is a validation in JSON.
func Document(v Validation) map[string]any {
	return map[string]any{"schema": 1, "kind": "validate", "name": v.Name, "target": v.Target, "key": v.Key, "seconds": v.Seconds, "report": v.Report, "checks": v.Checks, "verdict": v.Verdict}
}

type suites struct {
	XMLName xml.Name `xml:"testsuites"`
	Suites  []suite  `xml:"testsuite"`
}

type suite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *message `xml:"failure,omitempty"`
	Skipped *message `xml:"skipped,omitempty"`
	Output  string   `xml:"system-out,omitempty"`
}

type message struct {
	Message string `xml:"message,attr"`
}

// JUnit is what CI systems show as tests: a suite for each validation and each cell of a benchmark, a case for each check. What is undecided or noisy counts as skipped.
func JUnit(all []Validation, cells []Bench) ([]byte, error) {
	out := suites{Suites: cellSuites(cells)}
	for _, v := range all {
		s := suite{Name: v.Name + " " + v.Target, Tests: len(v.Checks)}
		for _, c := range v.Checks {
			t := testcase{Class: v.Name + "." + v.Target, Name: c.Metric + " " + c.Bound, Time: fmt.Sprintf("%.3f", v.Seconds/float64(len(v.Checks))), Output: Sentence(c)}
			switch c.Verdict {
			case judge.Failed:
				t.Failure = &message{Sentence(c)}
				s.Failures++
			case judge.Undecided:
				t.Skipped = &message{Sentence(c)}
				s.Skipped++
			}
			s.Cases = append(s.Cases, t)
		}
		out.Suites = append(out.Suites, s)
	}
	b, err := xml.MarshalIndent(out, "", " ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}
