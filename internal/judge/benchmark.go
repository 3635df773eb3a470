package judge

import (
	"fmt"
	"strconv"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/stat"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Verdicts on benchmarks. Slower and Larger are beyond their tolerance with the whole interval, Noisy has an interval too wide to tell, Error has no figures.
const (
	Noisy  Verdict = "noisy"
	Slower Verdict = "slower"
	Larger Verdict = "larger"
	Error  Verdict = "error"
)

// History are the accepted values of a metric, of other sessions; the reason says why there are none.
type History func(metric string) (values []float64, reason string)

// Gate judges a cell: by pairs where it was measured in turn with its baseline, against accepted figures where it was not. A check's value is by how much the cell is worse: 1.05 is 5 %.
func Gate(r *benchmark.Report, g *spec.Gate, history History) (checks []Check, verdict Verdict) {
	switch {
	case !r.OK():
		return nil, Error
	case g == nil || r.Quick:
		return nil, OK
	}
	verdict = OK
	for _, list := range []struct {
		tolerances []spec.Tolerance
		missed     Verdict
		word       string
	}{{g.SlowerBy, Slower, "slower"}, {g.LargerBy, Larger, "larger"}} {
		for _, t := range list.tolerances {
			m, known := benchmark.Find(t.Metric)
			if _, measured := r.Side.Metrics[t.Metric]; !known || !measured && t.Metric == benchmark.BatchDecodeTokS && r.Cell.Batch == 1 {
				continue // one text is no batch
			}
			c := Check{Metric: t.Metric, Rule: t.Pos.String(), Bound: fmt.Sprintf("at most %s %s", percent(t.Share), list.word)}
			gate(&c, r, g, m, t.Share, list.missed, history)
			verdict = Worst(verdict, c.Verdict)
			checks = append(checks, c)
		}
	}
	return checks, verdict
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'g', 4, 64) + "%" }

// gate judges one metric.
func gate(c *Check, r *benchmark.Report, g *spec.Gate, m benchmark.Metric, tolerance float64, missed Verdict, history History) {
	c.Verdict = OK
	f, measured := r.Side.Metrics[m.Name]
	if !measured {
		c.Verdict, c.Note = Undecided, "it was not measured"
		return
	}
	var worse stat.Interval
	var found stat.Verdict
	if g.Against == "accepted" {
		values, reason := history(m.Name)
		if reason != "" {
			c.Verdict, c.Note = Undecided, reason
			return
		}
		if len(values) < stat.HistoryNeeded && !m.Exact {
			c.Verdict, c.Note = Undecided, fmt.Sprintf("%d of the %d accepted figures of other sessions that a judgement needs; mlxbuild accept adds this one", len(values), stat.HistoryNeeded)
			return
		}
		var bound float64
		worse, found, bound = accepted(f, values, m, tolerance)
		c.Bound = fmt.Sprintf("at most %s %s", percent(bound), map[Verdict]string{Slower: "slower", Larger: "larger"}[missed])
	} else {
		ratio, ok := r.Ratios[m.Name]
		if !ok {
			c.Verdict, c.Note = Undecided, or(r.NoBaseline, "the baseline has no such figure")
			return
		}
		if worse = ratio.Interval(); m.Higher {
			worse = worse.Inverse()
		}
		switch found = stat.Judge(worse, tolerance); {
		case m.Exact:
			found = exact(worse.Value, tolerance)
		case missed == Larger: // memory is measured once for a process: every pair of them has to be beyond
			found = exact(worse.Low, tolerance)
		}
	}
	c.Value = metric.Value{Value: metric.Number(worse.Value), Low: metric.Number(worse.Low), High: metric.Number(worse.High), Interval: !m.Exact && worse.High > worse.Low, N: worse.N}
	switch {
	case found == stat.Slower:
		c.Verdict = missed
	case found == stat.Noisy && g.NoisyFail:
		c.Verdict, c.Note = missed, "noisy, and when_noisy says that this fails"
	case found == stat.Noisy:
		c.Verdict, c.Note = Noisy, "the interval is too wide to tell: more runs, a cooler or quieter machine"
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// accepted holds a figure against those of other sessions. What has no noise is compared as it is.
func accepted(f benchmark.Figure, values []float64, m benchmark.Metric, tolerance float64) (worse stat.Interval, v stat.Verdict, bound float64) {
	if m.Exact {
		worse = stat.Interval{Value: f.Value / values[len(values)-1], N: len(values)}
		worse.Low, worse.High = worse.Value, worse.Value
		return worse, exact(worse.Value, tolerance), tolerance
	}
	now := f.Interval()
	now.Level = stat.Level // what one session's runs say matters little beside what sessions differ by
	return stat.JudgeHistory(now, values, m.Higher, tolerance)
}

func exact(worse, tolerance float64) stat.Verdict {
	if worse > 1+tolerance+1e-12 {
		return stat.Slower
	}
	return stat.OK
}

// Missed reports whether a verdict fails a build.
func (v Verdict) Missed() bool { return v == Failed || v == Slower || v == Larger }

// kept is how many accepted figures of a cell are kept.
const kept = 20

// timing is what must be equal for two figures of cells to be compared.
func timing(name string, r *benchmark.Report, metricName string) Acceptance {
	return Acceptance{Target: r.Cell.Target, Benchmark: name, Cell: r.Cell.Label(), Metric: metricName, Machine: r.Machine.String(), Runtime: r.Cell.Runtime, Compute: r.Cell.Compute}
}

// HistoryOf finds the accepted figures of a cell.
func (f *AcceptedFile) HistoryOf(name string, r *benchmark.Report) History {
	return func(metricName string) ([]float64, string) {
		want := timing(name, r, metricName)
		elsewhere := ""
		for _, a := range f.lines {
			if a.key() == want.key() && len(a.Values) > 0 {
				var values []float64
				for _, v := range a.Values {
					values = append(values, float64(v))
				}
				return values, ""
			}
			same := a
			same.Machine = want.Machine
			if same.key() == want.key() {
				elsewhere = a.Machine
			}
		}
		if elsewhere != "" {
			return nil, fmt.Sprintf("it was accepted on another machine (%s), and this is %s: timings of different machines are not compared", elsewhere, want.Machine)
		}
		return nil, "nothing was accepted yet; mlxbuild accept takes this figure"
	}
}

// AcceptCell takes the figures of a cell beside those that were accepted before. It returns how many there are now.
func (f *AcceptedFile) AcceptCell(name string, r *benchmark.Report) (n int) {
	for _, m := range benchmark.Table {
		figure, ok := r.Side.Metrics[m.Name]
		if !ok || m.Name == benchmark.CompileMS {
			continue
		}
		a := timing(name, r, m.Name)
		var others []Acceptance
		for _, have := range f.lines {
			if have.key() == a.key() {
				a.Values, a.Measured = have.Values, have.Measured
			} else {
				others = append(others, have)
			}
		}
		if measured := r.Started.UTC().Format(time.RFC3339Nano); a.Measured != measured { // the same figure again is no other session
			a.Values, a.Measured = append(a.Values, metric.Number(figure.Value)), measured
		}
		if m.Exact {
			a.Values = a.Values[len(a.Values)-1:]
		}
		a.Values = a.Values[max(0, len(a.Values)-kept):]
		a.Value = metric.Number(stat.Median(numbers(a.Values)))
		n = max(n, len(a.Values))
		f.lines = append(others, a)
	}
	return n
}

func numbers(values []metric.Number) (out []float64) {
	for _, v := range values {
		out = append(out, float64(v))
	}
	return out
}
