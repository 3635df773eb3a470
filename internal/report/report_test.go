package report

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
)

func some() []Validation {
	r := &validate.Report{Kind: "fidelity", Class: validate.Class{Mode: "affine", Bits: 4}, Target: validate.Side{Name: "m/a|b", Runtime: "builtin", Compute: "float32"},
		Reference: validate.Side{Name: "m/bf16", Runtime: "builtin", Compute: "float32"}, Tokens: validate.TokenInfo{Sequences: 4, Context: 512},
		Metrics: map[string]metric.Value{metric.KLDMean: {Value: 0.5, Low: 0.4, High: 0.6, Interval: true, N: 9}}}
	check := func(v judge.Verdict) judge.Check {
		return judge.Check{Metric: metric.KLDMean, Rule: "r.yaml:1:2", Bound: "max 0.2", Value: r.Metrics[metric.KLDMean], Verdict: v}
	}
	return []Validation{{Name: "cost <&>", Target: "m/a|b", Report: r, Verdict: judge.Failed, Checks: []judge.Check{check(judge.Failed), check(judge.Undecided), check(judge.OK)}}}
}

func TestMarkdown(t *testing.T) {
	got := Markdown(some())
	for _, want := range []string{"### cost <&>\n", "fidelity, builtin float32 against m/bf16 in builtin float32, on 4 x 512 tokens\n", "| TARGET | WEIGHTS | KL MEAN [95 %] | VERDICT |\n| --- | --- | --- | --- |\n",
		`| m/a\|b | 4 bits | 0.5000 [0.4000, 0.6000] | failed |`, "- **failed** `m/a|b`: kld_mean is 0.5000 [0.4000, 0.6000], max 0.2 (r.yaml:1:2)\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestJUnit(t *testing.T) {
	data, err := JUnit(some(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var back suites
	if err := xml.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	s := back.Suites[0]
	if s.Tests != 3 || s.Failures != 1 || s.Skipped != 1 || s.Name != "cost <&> m/a|b" || s.Cases[0].Failure == nil || s.Cases[2].Failure != nil || s.Cases[2].Skipped != nil {
		t.Errorf("%+v", s)
	}
}

func TestJSONLines(t *testing.T) {
	data, err := JSONLines(some())
	if err != nil || strings.Count(string(data), "\n") != 1 || !strings.Contains(string(data), `"verdict":"failed"`) {
		t.Errorf("%s %v", data, err)
	}
}
