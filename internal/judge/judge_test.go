package judge

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

func value(v, low, high float64) metric.Value {
	return metric.Value{Value: metric.Number(v), Low: metric.Number(low), High: metric.Number(high), Interval: low != high, N: 100}
}

func fidelity(bits int, mode string, kl, top1 metric.Value) *validate.Report {
	return &validate.Report{Kind: spec.Fidelity, Class: validate.Class{Mode: mode, Bits: bits, Type: "BF16"}, Metrics: map[string]metric.Value{metric.KLDMean: kl, metric.Top1: top1},
		Target: validate.Side{Name: "m/q", Runtime: "builtin", Compute: "float32"}, Tokens: validate.TokenInfo{Digest: "t"}}
}

func nothing(string) (float64, string) { return 0, "nothing was accepted" }

func bound(m string, warn, limit float64) spec.Bound {
	b := spec.Bound{Metric: m, Margin: 4}
	if warn != 0 {
		b.Warn = &warn
	}
	if limit != 0 {
		b.Limit = &limit
	}
	return b
}

// TestVerdicts: the interval has to be beyond a bound to fail and on its right side to pass, from both sides.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		bound spec.Bound
		value metric.Value
		want  Verdict
	}{
		{bound(metric.KLDMean, 0.1, 0.2), value(0.05, 0.04, 0.06), OK},
		{bound(metric.KLDMean, 0.1, 0.2), value(0.15, 0.14, 0.16), Warned},
		{bound(metric.KLDMean, 0.1, 0.2), value(0.19, 0.18, 0.21), Undecided},
		{bound(metric.KLDMean, 0.1, 0.2), value(0.21, 0.19, 0.23), Undecided},
		{bound(metric.KLDMean, 0.1, 0.2), value(0.3, 0.25, 0.35), Failed},
		{bound(metric.KLDMean, 0.1, 0), value(9, 9, 9), Warned},
		{bound(metric.KLDMean, 0, 0.2), value(math.NaN(), math.NaN(), math.NaN()), Failed},
		{bound(metric.Top1, 0.9, 0.8), value(0.95, 0.94, 0.96), OK},
		{bound(metric.Top1, 0.9, 0.8), value(0.85, 0.84, 0.86), Warned},
		{bound(metric.Top1, 0.9, 0.8), value(0.81, 0.79, 0.83), Undecided},
		{bound(metric.Top1, 0.9, 0.8), value(0.7, 0.6, 0.75), Failed},
	} {
		m, _ := metric.Find(c.bound.Metric)
		if got := judge(m, c.bound, c.value); got != c.want {
			t.Errorf("%s %+v: %s, want %s", c.bound.Metric, c.value, got, c.want)
		}
	}
}

func TestFirstRuleDecidesAndDefaultsFillIn(t *testing.T) {
	r := fidelity(4, "affine", value(0.5, 0.5, 0.5), value(0.4, 0.4, 0.4))
	labels := map[string]string{"target": "m/q4", "bits": "4", "model": "m"}
	loose, strict := bound(metric.KLDMean, 0, 10), bound(metric.KLDMean, 0, 0.01)
	checks, verdict := Judge(r, []spec.Expectation{
		{For: map[string][]string{"bits": {"8"}}, Bounds: []spec.Bound{strict}},
		{For: map[string][]string{"bits": {"3", "4"}, "target": {"m/*"}}, Bounds: []spec.Bound{loose}},
		{For: map[string][]string{}, Bounds: []spec.Bound{strict}},
	}, labels, nothing)
	if len(checks) != 2 || checks[0].Verdict != OK || checks[1].Metric != metric.Top1 || checks[1].Verdict != Failed || !strings.Contains(checks[1].Rule, "4 bits") || verdict != Failed {
		t.Errorf("%+v %s", checks, verdict)
	}
	checks, verdict = Judge(fidelity(2, "affine", value(5, 5, 5), value(0, 0, 0)), nil, labels, nothing)
	if verdict != Undecided || !strings.Contains(checks[0].Note, "no default for 2 bits") {
		t.Errorf("2 bits without a rule: %+v", checks)
	}
	checks, verdict = Judge(r, []spec.Expectation{{For: map[string][]string{}, Bounds: []spec.Bound{bound(metric.PerplexityRatio, 0, 2), bound(metric.Top1, 0, 0.1), loose}}}, labels, nothing)
	if verdict != Failed || checks[0].Note != "it was not measured" {
		t.Errorf("a metric that is not there: %+v", checks)
	}
	r.Broken = []string{"a logit is NaN"}
	if _, verdict := Judge(r, []spec.Expectation{{Bounds: []spec.Bound{loose, bound(metric.Top1, 0, 0.1)}}}, labels, nothing); verdict != Failed {
		t.Error("what is broken passes")
	}
}

func TestTiesAreNoMismatches(t *testing.T) {
	r := &validate.Report{Kind: spec.Parity, Target: validate.Side{Compute: "float32"}, Reference: validate.Side{Compute: "float64"}, Noise: validate.Noise{Logit: 1e-5, Floor: 2e-5},
		Metrics: map[string]metric.Value{metric.TokenMismatches: value(3, 3, 3), metric.LogitErrorRel: value(1e-6, 1e-6, 1e-6)},
		Prompts: []validate.PromptReport{{Mismatches: []validate.Mismatch{{Gap: 7e-5}, {Gap: 9e-5}}}, {Mismatches: []validate.Mismatch{{Gap: 3}}}}}
	checks, verdict := Judge(r, nil, nil, nothing)
	for _, c := range checks {
		if c.Metric == metric.TokenMismatches && (c.Value.Value != 2 || c.Verdict != Failed || !strings.Contains(c.Note, "1 more")) {
			t.Errorf("%+v", c)
		}
	}
	if verdict != Failed {
		t.Error(verdict)
	}
}

func TestAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), AcceptedName)
	f, err := ReadAccepted(path)
	if err != nil {
		t.Fatal(err)
	}
	r := fidelity(4, "affine", value(0.2, 0.1, 0.3), value(0.9, 0.9, 0.9))
	rule := []spec.Expectation{{Bounds: []spec.Bound{bound(metric.KLDVsAccepted, 0, 0.1)}}}
	judged := func(name string, r *validate.Report) (Verdict, string) {
		f, err := ReadAccepted(path)
		if err != nil {
			t.Fatal(err)
		}
		checks, _ := Judge(r, rule, nil, f.Of(name, r))
		return checks[0].Verdict, checks[0].Note
	}
	if v, note := judged("v", r); v != Undecided || !strings.Contains(note, "nothing was accepted yet") {
		t.Error(v, note)
	}
	if _, known := f.Accept("v", r); known {
		t.Error("something was accepted before")
	}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	if v, _ := judged("v", r); v != OK { // exact, whatever the interval
		t.Error(v)
	}
	worse := fidelity(4, "affine", value(0.23, 0.1, 0.3), value(0.9, 0.9, 0.9))
	if v, _ := judged("v", worse); v != Failed {
		t.Error(v)
	}
	if v, note := judged("other", r); v != Undecided || !strings.Contains(note, "nothing was accepted yet") {
		t.Error(v, note)
	}
	moved := fidelity(4, "affine", value(0.2, 0.1, 0.3), value(0.9, 0.9, 0.9))
	moved.Tokens.Digest = "u"
	if v, note := judged("v", moved); v != Undecided || !strings.Contains(note, "on other tokens") {
		t.Error(v, note)
	}
	onMLX := fidelity(4, "affine", value(0.2, 0.1, 0.3), value(0.9, 0.9, 0.9))
	onMLX.Target.Runtime = "mlx"
	if v, note := judged("v", onMLX); v != Undecided || !strings.Contains(note, "with builtin in float32") {
		t.Error(v, note)
	}
	before, known := f.Accept("v", worse)
	if !known || before != 0.2 {
		t.Error(before, known)
	}
	f.Accept("v", moved) // in place of the figure of other tokens
	if len(f.lines) != 1 {
		t.Errorf("%d lines: %+v", len(f.lines), f.lines)
	}
	for _, bad := range []string{"<<<<<<< HEAD\n", "{\"target\":\"a\"}\n", "{\"target\":\"a\",\"metric\":\"b\",\"other\":1}\n"} {
		if err := os.WriteFile(path, []byte("\n"+bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadAccepted(path); err == nil || !strings.Contains(err.Error(), ":2: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzAccepted(f *testing.F) {
	f.Add([]byte(`{"target":"m/q4","validation":"v","metric":"kld_mean","value":0.2,"machine":"any","tokens":"t","runtime":"builtin","compute":"float32"}` + "\n"))
	f.Add([]byte("{\"value\":\"NaN\"}\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := ReadAccepted(path)
		if err != nil {
			return
		}
		if err := file.Write(); err != nil {
			t.Fatal(err)
		}
		again, err := ReadAccepted(path)
		if err != nil || len(again.lines) != len(file.lines) {
			t.Errorf("%d lines, then %v", len(file.lines), err)
		}
	})
}

// TestDocumentedDefaults: the table of docs/validation.md has the bounds that are judged by.
func TestDocumentedDefaults(t *testing.T) {
	doc, err := os.ReadFile("../../docs/validation.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, line := range strings.Split(string(doc), "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 4 {
			rows[strings.TrimSpace(cells[1])] = strings.Join(cells[2:4], "|")
		}
	}
	parity := func(compute string) *validate.Report {
		return &validate.Report{Kind: spec.Parity, Target: validate.Side{Compute: compute}, Reference: validate.Side{Compute: "float32"}}
	}
	zero := metric.Value{}
	for class, r := range map[string]*validate.Report{"parity, float32": parity("float32"), "parity, float16": parity("float16"), "parity, bfloat16": parity("bfloat16"),
		"cast (bfloat16, float16)": fidelity(0, "", zero, zero), "8 bits": fidelity(8, "affine", zero, zero), "6 bits": fidelity(6, "affine", zero, zero), "5 bits": fidelity(5, "affine", zero, zero),
		"4 bits": fidelity(4, "affine", zero, zero), "3 bits": fidelity(3, "affine", zero, zero), "mxfp8": fidelity(8, "mxfp8", zero, zero), "mxfp4, nvfp4": fidelity(4, "nvfp4", zero, zero)} {
		row, ok := rows[class]
		_, bounds := Defaults(r)
		if !ok || len(bounds) == 0 {
			t.Errorf("%s: row %q, %d bounds", class, row, len(bounds))
		}
		for _, b := range bounds {
			for _, v := range []*float64{b.Warn, b.Limit} {
				if v == nil {
					continue
				}
				plain, percent := strconv.FormatFloat(*v, 'g', -1, 64), strconv.FormatFloat(100**v, 'g', 6, 64)+" %"
				if short := strings.Replace(plain, "e-0", "e-", 1); !strings.Contains(row, plain) && !strings.Contains(row, percent) && !strings.Contains(row, short) && !strings.Contains(row, exponent(*v)) {
					t.Errorf("%s: %s %v is not in the row %s", class, b.Metric, *v, row)
				}
			}
		}
	}
}

// exponent writes 0.0001 as 1e-4.
func exponent(v float64) string {
	return strings.Replace(strconv.FormatFloat(v, 'e', -1, 64), "e-0", "e-", 1)
}
