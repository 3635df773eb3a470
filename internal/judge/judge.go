// Package judge says whether the figures of a validation or a benchmark are good enough: recipe rules first, the defaults of the precision where no rule names a metric. Judging runs nothing, so a changed
// threshold is judged again in microseconds.
package judge

import (
	"fmt"
	"math"
	"path"
	"strconv"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Verdict on a check or a validation.
type Verdict string

// Verdicts, from best to worst. Undecided is a figure whose interval holds its bound, or that has nothing to be compared with.
const (
	OK        Verdict = "ok"
	Warned    Verdict = "warned"
	Undecided Verdict = "undecided"
	Failed    Verdict = "failed"
)

var order = map[Verdict]int{OK: 0, Warned: 1, Noisy: 2, Undecided: 3, Larger: 4, Slower: 5, Failed: 6, Error: 7}

// Worst of two verdicts.
func Worst(a, b Verdict) Verdict {
	if order[b] > order[a] {
		return b
	}
	return a
}

// Check is one metric against its rule.
type Check struct {
	Metric  string       `json:"metric"`
	Rule    string       `json:"rule"`  // file:line:col, or the default it comes from
	Bound   string       `json:"bound"` // "max 0.2", "min 0.97", "warn 1e-05"
	Value   metric.Value `json:"value"`
	Verdict Verdict      `json:"verdict"`
	Note    string       `json:"note,omitempty"`
}

// Accepted finds the accepted value of a metric; the reason says why there is none.
type Accepted func(metric string) (value float64, reason string)

// Judge a report. labels are the target's, for the rules' `for`.
func Judge(r *validate.Report, expect []spec.Expectation, labels map[string]string, accepted Accepted) (checks []Check, verdict Verdict) {
	verdict = OK
	for _, b := range r.Broken {
		checks = append(checks, Check{Metric: "sanity", Rule: "always", Bound: "must hold", Verdict: Failed, Note: b})
	}
	named := map[string]bool{}
	for _, e := range expect {
		if !matches(e.For, labels) {
			continue
		}
		for _, b := range e.Bounds {
			if !named[b.Metric] {
				named[b.Metric] = true
				checks = append(checks, check(r, b, b.Pos.String(), accepted))
			}
		}
	}
	class, bounds := Defaults(r)
	for _, b := range bounds {
		if _, measured := r.Metrics[b.Metric]; measured && !named[b.Metric] {
			checks = append(checks, check(r, b, "default for "+class, accepted))
		}
	}
	if len(checks) == 0 {
		checks = append(checks, Check{Metric: metric.KLDMean, Rule: "none", Value: r.Metrics[metric.KLDMean], Verdict: Undecided, Note: "there is no default for " + class + ": say in expect: what is good enough"})
	}
	for _, c := range checks {
		verdict = Worst(verdict, c.Verdict)
	}
	return checks, verdict
}

// matches reports whether a target has one of the values asked for of every label.
func matches(rule map[string][]string, labels map[string]string) bool {
	for key, values := range rule {
		any := false
		for _, v := range values {
			ok, err := path.Match(v, labels[key])
			any = any || err == nil && ok
		}
		if !any {
			return false
		}
	}
	return true
}

func check(r *validate.Report, b spec.Bound, rule string, accepted Accepted) Check {
	m, _ := metric.Find(b.Metric)
	c := Check{Metric: b.Metric, Rule: rule, Bound: boundText(m, b), Verdict: OK}
	var ok bool
	if c.Value, ok = r.Metrics[b.Metric]; m.Relative {
		c.Value, c.Note = change(r, accepted)
		if c.Note != "" {
			c.Verdict = Undecided
			return c
		}
	} else if !ok {
		c.Verdict, c.Note = Failed, "it was not measured"
		return c
	}
	if m.Margin {
		c.Value, c.Note = mismatches(r, b.Margin)
	}
	if c.Verdict = judge(m, b, c.Value); c.Verdict == Warned {
		c.Bound = "warn " + Figure(m, *b.Warn)
	}
	return c
}

// change of kld_mean against its accepted value. On one machine with one runtime it is exact, so it has no interval.
func change(r *validate.Report, accepted Accepted) (metric.Value, string) {
	v := r.Metrics[metric.KLDMean]
	before, reason := accepted(metric.KLDMean)
	if reason != "" {
		return v, reason
	}
	rel := metric.Number(float64(v.Value)/before - 1)
	return metric.Value{Value: rel, Low: rel, High: rel, N: v.N}, ""
}

// mismatches that are none of chance: where the reference preferred its token by at least margin times the noise.
func mismatches(r *validate.Report, margin float64) (metric.Value, string) {
	noise := math.Max(float64(r.Noise.Logit), float64(r.Noise.Floor))
	n, ties := 0, 0
	for _, p := range r.Prompts {
		for _, m := range p.Mismatches {
			if float64(m.Gap) >= margin*noise {
				n++
			} else {
				ties++
			}
		}
	}
	v := r.Metrics[metric.TokenMismatches]
	v.Value, v.Low, v.High = metric.Number(n), metric.Number(n), metric.Number(n)
	if ties > 0 {
		return v, fmt.Sprintf("%d more where the reference was undecided itself", ties)
	}
	return v, ""
}

// judge a figure. The whole interval has to be beyond a bound to fail, and on the right side of it to pass.
func judge(m metric.Metric, b spec.Bound, v metric.Value) Verdict {
	value, best, worst := float64(v.Value), float64(v.Low), float64(v.High)
	beyond := func(x, bound float64) bool { return x > bound }
	if m.Higher {
		best, worst = worst, best
		beyond = func(x, bound float64) bool { return x < bound }
	}
	switch {
	case value != value:
		return Failed
	case b.Limit != nil && beyond(best, *b.Limit):
		return Failed
	case b.Limit != nil && beyond(worst, *b.Limit):
		return Undecided
	case b.Warn != nil && beyond(value, *b.Warn):
		return Warned
	}
	return OK
}

func boundText(m metric.Metric, b spec.Bound) string {
	word := "max"
	if m.Higher {
		word = "min"
	}
	switch {
	case b.Limit != nil:
		return word + " " + Figure(m, *b.Limit)
	case b.Warn != nil:
		return "warn " + Figure(m, *b.Warn)
	}
	return ""
}

// Figure writes a value of a metric as people read it.
func Figure(m metric.Metric, v float64) string {
	switch {
	case v != v:
		return "NaN"
	case m.Unit == "share":
		return strconv.FormatFloat(100*v, 'f', 2, 64) + "%"
	case m.Relative:
		return fmt.Sprintf("%+.1f%%", 100*v)
	case m.Unit == "tokens":
		return strconv.FormatFloat(v, 'f', -1, 64)
	case v != 0 && (math.Abs(v) < 1e-3 || math.Abs(v) >= 1e5):
		return strconv.FormatFloat(v, 'e', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}
