package stat

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The noise model of the published simulations: lognormal with a coefficient of variation, a throttle that slows linearly, spikes.
type machine struct {
	rng      *rand.Rand
	cv       float64
	throttle float64 // slowdown from the first to the last run
	spikes   float64 // share of runs that take half as long again
	process  float64 // standard deviation of what a start of a process adds to all its runs
	runs     int     // in all
	at       int
}

func (m *machine) time(base float64) float64 {
	t := base * math.Exp(m.rng.NormFloat64()*m.cv)
	t *= 1 + m.throttle*float64(m.at)/float64(m.runs)
	m.at++
	if m.rng.Float64() < m.spikes {
		t *= 1.5
	}
	return t
}

// interleave measures pairs in turn, A B B A, side a being slower by a share.
func (m *machine) interleave(pairs int, slower float64) (a, b []float64) {
	m.runs, m.at = 2*pairs, 0
	var startA, startB float64
	for i := range pairs {
		if i%(pairs/4) == 0 { // a gate's runs are in four processes
			startA, startB = math.Exp(m.rng.NormFloat64()*m.process), math.Exp(m.rng.NormFloat64()*m.process)
		}
		if i%2 == 0 {
			a = append(a, m.time((1+slower)*startA))
			b = append(b, m.time(startB))
		} else {
			b = append(b, m.time(startB))
			a = append(a, m.time((1+slower)*startA))
		}
	}
	return a, b
}

func slowerShare(t *testing.T, m machine, pairs int, slower, tolerance float64) float64 {
	t.Helper()
	const trials = 10_000
	m.rng = rand.New(rand.NewPCG(7, 11))
	found := 0
	for range trials {
		a, b := m.interleave(pairs, slower)
		if Judge(Paired(a, b), tolerance) == Slower {
			found++
		}
	}
	return float64(found) / trials
}

func TestNoFalseAlarms(t *testing.T) {
	for name, m := range map[string]machine{
		"1 % noise":              {cv: 0.01},
		"hosted runner":          {cv: 0.0266},
		"throttled by 10 %":      {cv: 0.01, throttle: 0.1},
		"5 % of the runs spiked": {cv: 0.01, spikes: 0.05},
		"starts vary by 2 %":     {cv: 0.01, process: 0.02},
	} {
		if share := slowerShare(t, m, 12, 0, 0.03); share >= 0.01 {
			t.Errorf("%s: %.2f %% of the comparisons of equal sides say slower; want < 1 %%", name, 100*share)
		}
	}
}

func TestSlowdownsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		m      machine
		slower float64
		share  float64
	}{
		"+5 % at 1 % noise":         {machine{cv: 0.01}, 0.05, 0.98},
		"+10 % throttled by 10 %":   {machine{cv: 0.01, throttle: 0.1}, 0.10, 0.98},
		"+10 % on a hosted runner":  {machine{cv: 0.0266}, 0.10, 0.98},
		"+10 %, 5 % spiked by half": {machine{cv: 0.01, spikes: 0.05}, 0.10, 0.85}, // a spike in every second comparison widens its interval
	} {
		if share := slowerShare(t, c.m, 12, c.slower, 0.03); share < c.share {
			t.Errorf("%s: found in %.1f %% of the comparisons; want %.0f %%", name, 100*share, 100*c.share)
		}
	}
}

// TestNaiveRuleFails shows that the test would notice a rule that is no better than "the mean is 3 % slower" in two separate sessions.
func TestNaiveRuleFails(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	found := 0
	for range 2000 {
		a, b := math.Exp(rng.NormFloat64()*0.0266), math.Exp(rng.NormFloat64()*0.0266)
		if a/b > 1.03 {
			found++
		}
	}
	if found < 200 {
		t.Errorf("separate sessions gave %d false alarms of 2000; the noise model is too kind", found)
	}
}

func TestCoverage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{6, 12, 20} {
		const trials = 400
		median, paired := 0, 0
		for range trials {
			a, b := make([]float64, n), make([]float64, n)
			for i := range a {
				a[i], b[i] = math.Exp(rng.NormFloat64()*0.02), 1
			}
			if iv := Of(a); iv.Low <= 1 && 1 <= iv.High {
				median++
			}
			if iv := Paired(a, b); iv.Low <= 1 && 1 <= iv.High {
				paired++
			}
		}
		if share := float64(median) / trials; share < 0.88 {
			t.Errorf("n = %d: the median's interval holds the truth in %.1f %%", n, 100*share)
		}
		if share := float64(paired) / trials; share < 0.92 {
			t.Errorf("n = %d: the ratio's interval holds the truth in %.1f %%", n, 100*share)
		}
	}
}

// Values of scipy.stats.wilcoxon's tables: the interval leaves out c averages at each end.
func TestWilcoxonTable(t *testing.T) {
	for n, want := range map[int]int{6: 0, 8: 3, 10: 8, 12: 13, 20: 52} {
		if cut, level := wilcoxon(n); cut != want || level < Level {
			t.Errorf("n = %d: %d are left out at level %.4f; the table says %d", n, cut, level, want)
		}
	}
	if cut, level := wilcoxon(3); cut != 0 || level != 0.75 {
		t.Errorf("n = 3: %d left out at level %v", cut, level)
	}
}

func TestPaired(t *testing.T) {
	a, b := []float64{2, 4, 6, 8, 10, 12}, []float64{1, 2, 3, 4, 5, 6}
	if iv := Paired(a, b); math.Abs(iv.Value-2) > 1e-12 || math.Abs(iv.High-2) > 1e-12 || iv.N != 6 {
		t.Errorf("twice as much everywhere is %+v", iv)
	}
	if iv := Paired(b, a).Inverse(); math.Abs(iv.Low-2) > 1e-12 {
		t.Errorf("its inverse is %+v", iv)
	}
}

func TestInspect(t *testing.T) {
	steady := []float64{100, 101, 99, 100, 102, 98, 100, 101}
	if s := Inspect(steady); s.Class() != "stable" || s.Drifts || s.Outliers != nil {
		t.Errorf("a steady series is %+v", s)
	}
	if s := Inspect([]float64{100, 101, 102, 104, 105, 107, 108, 110}); !s.Drifts || s.Drift < 0.08 || s.Drift > 0.12 {
		t.Errorf("a series that rises by 10 %% is %+v", s)
	}
	if s := Inspect([]float64{100, 101, 99, 100, 300, 98, 100, 101}); len(s.Outliers) != 1 || s.Outliers[0] != 4 || s.Class() != "unstable" {
		t.Errorf("a series with a spike is %+v", s)
	}
	if s := Inspect([]float64{5}); s.Class() != "stable" {
		t.Errorf("one sample is %+v", s)
	}
}

func TestDriftIsRareWithoutOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 2000 {
		x := make([]float64, 12)
		for i := range x {
			x[i] = math.Exp(rng.NormFloat64() * 0.03)
		}
		if Inspect(x).Drifts {
			found++
		}
	}
	if found > 30 {
		t.Errorf("%d of 2000 series without a drift are said to have one", found)
	}
}

func TestJudgeHistory(t *testing.T) {
	accepted := []float64{100, 102, 98, 101, 99, 100, 103, 97, 100, 101}
	at := func(v float64) Interval { return Interval{Value: v, Low: v * 0.99, High: v * 1.01, Level: Level} }
	if _, v, bound := JudgeHistory(at(95), accepted, true, 0.03); v != OK || bound != 0.1 {
		t.Errorf("5 %% less than accepted is %s by %v", v, bound)
	}
	if w, v, _ := JudgeHistory(at(80), accepted, true, 0.03); v != Slower || math.Abs(w.Value-1.25) > 1e-9 {
		t.Errorf("20 %% less than accepted is %s, %+v", v, w)
	}
	if _, v, bound := JudgeHistory(at(80), accepted, true, 0.3); v != OK || bound != 0.3 {
		t.Errorf("20 %% less where 30 %% are tolerated is %s by %v", v, bound)
	}
	if _, v, _ := JudgeHistory(at(120), accepted, false, 0.03); v != Slower {
		t.Errorf("20 %% more of a time is %s", v)
	}
}

func TestOdd(t *testing.T) {
	if iv := Of(nil); iv.Value == iv.Value || iv.N != 0 {
		t.Errorf("no samples are %+v", iv)
	}
	if iv := Of([]float64{3}); iv.Value != 3 || iv.Low != 3 || iv.HalfWidth() != 0 {
		t.Errorf("one sample is %+v", iv)
	}
	if iv := Of([]float64{7, 7, 7}); iv.Low != 7 || iv.High != 7 {
		t.Errorf("equal samples are %+v", iv)
	}
	if v := Judge(Interval{Value: math.NaN()}, 0.03); v != Noisy {
		t.Errorf("NaN is %s", v)
	}
	if v := Judge(Paired([]float64{2, 2.1}, []float64{1, 1}), 0.03); v != Noisy {
		t.Errorf("two pairs say %s", v)
	}
	if v := Judge(Interval{Value: 1, Low: 0.9, High: 1.1, Level: Level}, 0.03); v != Noisy {
		t.Errorf("±10 %% at a tolerance of 3 %% is %s", v)
	}
	if v := Judge(Interval{Value: 0.8, Low: 0.7, High: 0.9, Level: Level}, 0.03); v != OK {
		t.Errorf("what is surely faster is %s", v)
	}
	if iv := Ratio([]float64{2, 2, 2}, []float64{1, 1, 1}); iv.Value != 2 || iv.High != 2 {
		t.Errorf("2 to 1 is %+v", iv)
	}
}
