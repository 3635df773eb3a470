package judge

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/spec"
)

func figure(v, low, high float64) benchmark.Figure {
	return benchmark.Figure{Value: v, Low: low, High: high, N: 12, Level: 0.95}
}

// timed is a cell whose figures stand in these ratios to its baseline's.
func timed(ratios map[string]benchmark.Figure) *benchmark.Report {
	r := &benchmark.Report{Format: 1, Cell: benchmark.Cell{Target: "m/q4", Runtime: "builtin", Compute: "float32", Batch: 1, Prompt: 64, Generated: 32}, Machine: machine.Fingerprint{Chip: "a chip", Cores: 2}, Ratios: ratios,
		Side: benchmark.Side{Metrics: map[string]benchmark.Figure{}}, Baseline: &benchmark.Side{Name: "m/q4 at git:main"}}
	for name := range ratios {
		r.Side.Metrics[name] = figure(100, 99, 101)
	}
	return r
}

func tolerate(against string, slower, larger map[string]float64) *spec.Gate {
	g := &spec.Gate{Against: against}
	for name, share := range slower {
		g.SlowerBy = append(g.SlowerBy, spec.Tolerance{Metric: name, Share: share})
	}
	for name, share := range larger {
		g.LargerBy = append(g.LargerBy, spec.Tolerance{Metric: name, Share: share})
	}
	return g
}

func TestGate(t *testing.T) {
	for name, c := range map[string]struct {
		ratios map[string]benchmark.Figure
		gate   *spec.Gate
		want   Verdict
	}{
		"a rate that fell by 5 %":         {map[string]benchmark.Figure{benchmark.DecodeTokS: figure(0.95, 0.945, 0.955)}, tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil), Slower},
		"a rate that rose":                {map[string]benchmark.Figure{benchmark.DecodeTokS: figure(1.5, 1.49, 1.51)}, tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil), OK},
		"a rate that may have fallen":     {map[string]benchmark.Figure{benchmark.DecodeTokS: figure(0.95, 0.94, 0.98)}, tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil), OK},
		"a rate that nobody can tell":     {map[string]benchmark.Figure{benchmark.DecodeTokS: figure(0.95, 0.8, 1.1)}, tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil), Noisy},
		"a time that grew by 5 %":         {map[string]benchmark.Figure{benchmark.TTFT: figure(1.05, 1.045, 1.055)}, tolerate("git:x", map[string]float64{benchmark.TTFT: 0.03}, nil), Slower},
		"a time within its tolerance":     {map[string]benchmark.Figure{benchmark.TTFT: figure(1.05, 1.045, 1.055)}, tolerate("git:x", map[string]float64{benchmark.TTFT: 0.05}, nil), OK},
		"one byte more":                   {map[string]benchmark.Figure{benchmark.WeightsBytes: figure(1.0000001, 1.0000001, 1.0000001)}, tolerate("git:x", nil, map[string]float64{benchmark.WeightsBytes: 0}), Larger},
		"memory that one process needs":   {map[string]benchmark.Figure{benchmark.PeakMemory: figure(1.1, 1.01, 1.2)}, tolerate("git:x", nil, map[string]float64{benchmark.PeakMemory: 0.05}), OK},
		"memory that every process needs": {map[string]benchmark.Figure{benchmark.PeakMemory: figure(1.1, 1.08, 1.2)}, tolerate("git:x", nil, map[string]float64{benchmark.PeakMemory: 0.05}), Larger},
		"as many bytes":                   {map[string]benchmark.Figure{benchmark.WeightsBytes: figure(1, 1, 1)}, tolerate("git:x", nil, map[string]float64{benchmark.WeightsBytes: 0}), OK},
		"no such figure":                  {map[string]benchmark.Figure{}, tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil), Undecided},
		"a batch metric of one text":      {map[string]benchmark.Figure{benchmark.DecodeTokS: figure(1, 1, 1)}, tolerate("git:x", map[string]float64{benchmark.BatchDecodeTokS: 0.03}, nil), OK},
		"slower and larger, the former":   {map[string]benchmark.Figure{benchmark.TTFT: figure(2, 2, 2), benchmark.WeightsBytes: figure(2, 2, 2)}, tolerate("git:x", map[string]float64{benchmark.TTFT: 0}, map[string]float64{benchmark.WeightsBytes: 0}), Slower},
		"no gate":                         {map[string]benchmark.Figure{benchmark.TTFT: figure(2, 2, 2)}, nil, OK},
	} {
		if checks, got := Gate(timed(c.ratios), c.gate, nil); got != c.want {
			t.Errorf("%s: %s, want %s; %+v", name, got, c.want, checks)
		}
	}
	noisy := tolerate("git:x", map[string]float64{benchmark.DecodeTokS: 0.03}, nil)
	noisy.NoisyFail = true
	if _, got := Gate(timed(map[string]benchmark.Figure{benchmark.DecodeTokS: figure(0.95, 0.8, 1.1)}), noisy, nil); got != Slower {
		t.Errorf("when_noisy: fail gives %s", got)
	}
	failed := timed(nil)
	failed.Error = "out of memory"
	if _, got := Gate(failed, noisy, nil); got != Error {
		t.Errorf("a cell without figures is %s", got)
	}
	quick := timed(map[string]benchmark.Figure{benchmark.DecodeTokS: figure(0.5, 0.5, 0.5)})
	quick.Quick = true
	if checks, got := Gate(quick, noisy, nil); got != OK || checks != nil {
		t.Errorf("a quick look is judged: %s", got)
	}
	alone := timed(map[string]benchmark.Figure{})
	alone.NoBaseline = "git:x has no target m/q4"
	if checks, got := Gate(alone, noisy, nil); got != Undecided || checks[0].Note != "it was not measured" && !strings.Contains(checks[0].Note, "no target") {
		t.Errorf("without a baseline: %s %+v", got, checks)
	}
}

// Accepted figures: nothing is judged before there are ten sessions, and another machine's are refused.
func TestAcceptedTimings(t *testing.T) {
	path := filepath.Join(t.TempDir(), AcceptedName)
	f, err := ReadAccepted(path)
	if err != nil {
		t.Fatal(err)
	}
	session := func(tokens float64) *benchmark.Report {
		r := timed(nil)
		r.Side.Metrics[benchmark.DecodeTokS], r.Side.Metrics[benchmark.WeightsBytes] = figure(tokens, tokens*0.99, tokens*1.01), figure(1000, 1000, 1000)
		return r
	}
	g := tolerate("accepted", map[string]float64{benchmark.DecodeTokS: 0.03}, map[string]float64{benchmark.WeightsBytes: 0})
	verdict := func(r *benchmark.Report) (Verdict, string) {
		checks, v := Gate(r, g, f.HistoryOf("b", r))
		notes := ""
		for _, c := range checks {
			notes += c.Note + "\n"
		}
		return v, notes
	}
	if v, note := verdict(session(100)); v != Undecided || !strings.Contains(note, "nothing was accepted yet") {
		t.Errorf("without any: %s %s", v, note)
	}
	for i := range 12 {
		r := session(100 + float64(i%3))
		r.Started = time.Unix(int64(i), 0)
		if n := f.AcceptCell("b", r); n != i+1 || f.AcceptCell("b", r) != i+1 {
			t.Errorf("after session %d there are %d figures, and the same is taken twice", i, n)
		}
		if i == 4 {
			if v, note := verdict(session(10)); v != Undecided || !strings.Contains(note, "5 of the 10") {
				t.Errorf("with five sessions: %s %s", v, note)
			}
		}
	}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	if f, err = ReadAccepted(path); err != nil {
		t.Fatal(err)
	}
	if v, note := verdict(session(97)); v != OK {
		t.Errorf("4 %% slower than twelve sessions: %s %s", v, note)
	}
	if v, _ := verdict(session(80)); v != Slower {
		t.Errorf("20 %% slower: %s", v)
	}
	grown := session(101)
	grown.Side.Metrics[benchmark.WeightsBytes] = figure(1001, 1001, 1001)
	if v, _ := verdict(grown); v != Larger {
		t.Errorf("a byte more than accepted: %s", v)
	}
	other := session(100)
	other.Machine.Chip = "another"
	if v, note := verdict(other); v != Undecided || !strings.Contains(note, "another machine") || !strings.Contains(note, "a chip") {
		t.Errorf("on another machine: %s %s", v, note)
	}
	for i := range 30 {
		r := session(100)
		r.Started = time.Unix(int64(1000+i), 0)
		f.AcceptCell("b", r)
	}
	for _, a := range f.lines {
		if len(a.Values) > 20 || math.IsNaN(float64(a.Value)) {
			t.Errorf("%+v", a)
		}
	}
}
