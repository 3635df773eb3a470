package report

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
)

// measured is a cell that made so many tokens a second, plus and minus one.
func measured(target, runtime, compute string, batch int, tokens float64) Bench {
	side := benchmark.Side{Name: target, Runtime: runtime, RuntimeID: runtime + "/1", Compute: compute, Metrics: map[string]benchmark.Figure{}, Samples: map[string][]float64{}}
	add := func(name string, v, spread float64) {
		side.Metrics[name] = benchmark.Figure{Value: v, Low: v - spread, High: v + spread, N: 3}
		side.Samples[name] = []float64{v - spread, v, v + spread}
	}
	add(benchmark.DecodeTokS, tokens, 1)
	add(benchmark.TTFT, 40, 2)
	add(benchmark.PeakMemory, 300e6, 0)
	if batch > 1 {
		add(benchmark.BatchDecodeTokS, tokens*float64(batch), 1)
	}
	r := &benchmark.Report{Format: 1, Cell: benchmark.Cell{Target: target, Runtime: runtime, Compute: compute, Batch: batch, Prompt: 128, Generated: 64}, Side: side, Machine: machine.Fingerprint{Chip: "a|chip", Cores: 2, OS: "linux 6.1", Arch: "amd64"},
		Started: time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)}
	model, _, _ := strings.Cut(target, "/")
	return Bench{Name: "cpu", Target: target, Model: model, Key: "k", Report: r, Verdict: judge.OK}
}

func cells() []Bench {
	wrong := measured("m/q2", "builtin", "float32", 1, 900)
	wrong.Unranked = "validation cost failed"
	dead := measured("m/q4", "mlx", "bfloat16", 1, 0)
	dead.Report.Error, dead.Report.Hint, dead.Verdict = "over its time of 5m0s after 2 runs", "raise timeout", judge.Error
	dead.Report.Side.Metrics, dead.Report.Side.Samples = map[string]benchmark.Figure{}, map[string][]float64{}
	gated := measured("m/q8", "builtin", "float32", 1, 50)
	gated.Gated, gated.Verdict = true, judge.Slower
	gated.Report.Baseline = &benchmark.Side{Name: "m/q8 at git:main", Runtime: "builtin", Compute: "float32", Metrics: gated.Report.Side.Metrics}
	gated.Checks = []judge.Check{{Metric: benchmark.DecodeTokS, Rule: "r.yaml:9:1", Bound: "at most 3% slower", Verdict: judge.Slower, Value: metric.Value{Value: 1.08, Low: 1.06, High: 1.1, Interval: true, N: 12}}}
	return []Bench{measured("m/bf16", "torch", "float32", 1, 30), measured("m/bf16", "torch", "bfloat16", 1, 36), measured("m/q4", "builtin", "float32", 1, 90), measured("m/q4", "builtin", "float32", 8, 45), measured("m/bf16", "torch", "float32", 8, 15), wrong, dead, gated}
}

func TestHeadlines(t *testing.T) {
	got := Headlines(cells())
	if len(got) != 2 || !strings.HasPrefix(got[0], "builtin q4 generates 2.5x [") || !strings.HasSuffix(got[0], " as fast as PyTorch bfloat16 (m/bf16, batch 1, 128+64)") || !strings.Contains(got[1], "batch 8") {
		t.Errorf("the headlines are %q", got)
	}
	if got := Headlines(cells()[2:4]); got != nil {
		t.Errorf("without PyTorch: %q", got)
	}
}

func TestHeadlineOfPairs(t *testing.T) {
	b := measured("mlx", "builtin", "float32", 1, 90)
	b.Report.Baseline = &benchmark.Side{Name: "hf", Runtime: "torch", Compute: "float32", Metrics: b.Report.Side.Metrics}
	b.Report.Ratios = map[string]benchmark.Figure{benchmark.DecodeTokS: {Value: 12.4, Low: 12.1, High: 12.7, N: 12}, benchmark.PeakMemory: {Value: 0.25, Low: 0.25, High: 0.25, N: 2}}
	if got := Headlines([]Bench{b}); len(got) != 1 || got[0] != "builtin mlx generates 12.4x [12.1, 12.7] as fast as PyTorch float32 (batch 1, 128+64)" {
		t.Errorf("%q", got)
	}
	if got := Against(b); got != "against torch float32: decode_tok_s 12.4x [12.1, 12.7], memory 0.25x" {
		t.Errorf("%q", got)
	}
	rows, _ := CellTable([]Bench{b})
	if len(rows) != 3 || rows[2][0] != "hf" || rows[2][len(rows[2])-1] != "baseline" {
		t.Errorf("%q", rows)
	}
}

func TestBenchMarkdown(t *testing.T) {
	got := BenchMarkdown(cells())
	for _, want := range []string{"**builtin q4 generates 2.5x", "### cpu\n\na\\|chip, 2 cores, linux 6.1 amd64\n", "| TARGET | RUNTIME | BATCH | SHAPE | TOK/S [95 %] | BATCH TOK/S | FIRST TOKEN | MEMORY | VERDICT |\n| --- | --- | ---: |",
		"| m/q4 | builtin float32 | 1 | 128+64 | 90.00 [89.00, 91.00] | - | 40.00 ms | 300.0 MB |  |\n", "| ~~m/q2~~ |", "- error: m/q4 mlx bfloat16 b1 128+64: over its time of 5m0s after 2 runs; raise timeout\n",
		"- slower: m/q8 builtin float32 b1 128+64 decode\\_tok\\_s is 8.0% worse than the baseline [+6.0%, +10.0%] (at most 3% slower, r.yaml:9:1)\n", "| m/q8 at git:main | builtin float32 | 1 |"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestCSVAndBenchstat(t *testing.T) {
	got, err := CSV(cells())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"benchmark,target,runtime,", "cpu,m/q4,builtin,float32,1,128+64,all,decode_tok_s,tok/s,90,89,91,3,ok,,,", "cpu,m/q4,mlx,bfloat16,1,128+64,all,,,,,,0,error,,over its time of 5m0s after 2 runs,"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := Benchstat(cells()[2:3]); strings.Count(got, "\nBenchmarkcpu/target=m:q4/runtime=builtin/compute=float32/batch=1/shape=128+64 1 ") != 3 || !strings.Contains(got, " 90 decode_tok_s") {
		t.Errorf("benchstat:\n%s", got)
	}
}

func TestCellJUnit(t *testing.T) {
	data, err := JUnit(nil, cells())
	if err != nil {
		t.Fatal(err)
	}
	var back suites
	if err := xml.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	failures := 0
	for _, s := range back.Suites {
		failures += s.Failures
	}
	if len(back.Suites) != len(cells()) || failures != 2 {
		t.Errorf("%d suites with %d failures: %s", len(back.Suites), failures, data)
	}
}

func TestPage(t *testing.T) {
	f := Findings{Title: "r.yaml", Program: "mlxbuild test", Made: time.Now(), Cells: cells(), Targets: []Built{{ID: "m/bf16", Bytes: 100e6, BitsPerWeight: 16, Float: true}, {ID: "m/q4", Bytes: 30e6, BitsPerWeight: 4.5}},
		Validations: []Validation{{Name: "cost", Target: "m/q4", Verdict: judge.OK, Report: &validate.Report{Kind: "fidelity", Reference: validate.Side{Name: "m/bf16"}, Target: validate.Side{Name: "m/q4"},
			Metrics: map[string]metric.Value{metric.KLDMean: {Value: 0.02, Low: 0.01, High: 0.03, Interval: true, N: 10}}}}},
		Texts: []Written{{Set: "s", Target: "m/bf16", Texts: []generate.Text{{Prompt: "p", Text: "one two"}}}, {Set: "s", Target: "m/q4", Texts: []generate.Text{{Prompt: "p", Text: "one three"}}}}}
	for i := range 3 {
		f.Past = append(f.Past, Past{Step: "benchmark cpu m/q4 builtin float32 b1 128+64", Machine: "a|chip, 2 cores, linux 6.1 amd64", When: time.Unix(int64(i), 0), Commit: "abc", Metrics: map[string]benchmark.Figure{benchmark.DecodeTokS: {Value: 80}}})
	}
	p := Page(f)
	if !p.Targets[0].Reference || p.Targets[1].Loss == nil || p.Targets[1].Speed == nil || p.Targets[1].Speed.Value != 90 || p.Targets[0].Speed != nil {
		t.Errorf("targets: %+v", p.Targets)
	}
	if len(p.Series) != 1 || len(p.Series[0].Points) != 3 {
		t.Errorf("history: %+v", p.Series)
	}
	if len(p.Prompts) != 1 || p.Prompts[0].Texts[1].PartsAt != len("one t") || p.Prompts[0].Texts[1].Same {
		t.Errorf("texts: %+v", p.Prompts)
	}
	for _, c := range p.Cells {
		if c.Best && (c.Unranked != "" || c.Error != "") || c.Target == "m/q2" && c.Unranked == "" {
			t.Errorf("%+v", c)
		}
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil || !strings.Contains(b.String(), "builtin q4 generates 2.5x") {
		t.Errorf("%v", err)
	}
}

// Speeds of targets are of one shape, so that they compare.
func TestSpeedsOfOneShape(t *testing.T) {
	long := measured("m/q4", "builtin", "float32", 1, 500)
	long.Report.Cell.Prompt = 4096
	f := Findings{Cells: []Bench{long, measured("m/q4", "builtin", "float32", 1, 90), measured("m/bf16", "builtin", "float32", 1, 20)}, Targets: []Built{{ID: "m/bf16"}, {ID: "m/q4"}}}
	p := Page(f)
	if p.Targets[0].Speed.Value != 20 || p.Targets[1].Speed.Value != 90 || p.Targets[1].SpeedOf != "builtin float32, 128+64" {
		t.Errorf("%+v, %+v of %s", p.Targets[0].Speed, p.Targets[1].Speed, p.Targets[1].SpeedOf)
	}
}
