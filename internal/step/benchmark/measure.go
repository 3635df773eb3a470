package benchmark

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/hint"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/stat"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// measuring is a cell under way.
type measuring struct {
	*cell
	env    *step.Env
	report *Report
	taken  []*samples // of each side
	ratios samples    // of the sides, by pairs of calls

	done  int // runs that were measured
	loads []machine.Load
	made  int  // tokens, while loads were noted
	slow  bool // warming up did not end in time
}

// samples of one side.
type samples struct {
	values    map[string][]float64
	warmup    []float64
	firstTTFT float64
}

func (s *samples) add(figures map[string]float64) {
	for name, v := range figures {
		s.values[name] = append(s.values[name], v)
	}
}

// rig runs one side: a model in a process of its own, or a user's program.
type rig interface {
	// open starts the process and loads; it returns the time that loading took.
	open(ctx context.Context) (time.Duration, error)
	// call makes tokens once and returns the figures of it. The same call of the same run has the same tokens on every side.
	call(ctx context.Context, run, call int) (map[string]float64, error)
	// sizes are the figures of the process so far: bytes of weights and memory.
	sizes() map[string]float64
	// cpu is the processor time that the process took so far; negative when unknown.
	cpu() time.Duration
	// tokens that were made so far.
	tokens() int
	close()
}

// measure runs the sides in turn until the figures are good enough, process by process.
func (m *measuring) measure(ctx context.Context) error {
	m.ratios.values = map[string][]float64{}
	for range m.sides {
		m.taken = append(m.taken, &samples{values: map[string][]float64{}})
	}
	m.report.Before = m.state()
	defer func() { m.report.After = m.state() }()
	if err := m.required(); err != nil {
		return err
	}
	runs := m.entry.Runs
	for p := range runs.Processes {
		least := runs.Min*(p+1)/runs.Processes - m.done
		if p == runs.Processes-1 {
			least = max(least, 1)
		}
		if least < 1 {
			continue
		}
		m.report.Processes++
		if err := m.process(ctx, p, least); err != nil {
			return err
		}
	}
	return nil
}

func (m *measuring) state() machine.State {
	if m.kind.State != nil {
		return m.kind.State()
	}
	return machine.Now()
}

// required refuses a machine that is not as the recipe asks.
func (m *measuring) required() error {
	s, r := m.report.Before, m.entry.Require
	for _, c := range []struct {
		asked     bool
		is, want  string
		what, fix string
	}{
		{r.Power, s.Power, "ac", "power", "plug it in"},
		{r.LowPower, s.LowPower, "no", "low_power_mode", "switch the low power mode off"},
		{r.Memory, s.MemoryPressure, "normal", "memory_pressure", "close what takes the memory"},
	} {
		if !c.asked || c.is == c.want {
			continue
		}
		if c.is == "unknown" {
			m.env.Warn("this system does not tell its " + c.what + ", which the recipe requires")
			continue
		}
		return &cellError{"conditions", fmt.Sprintf("the machine has %s %s, and the recipe requires %s", c.what, c.is, c.want), c.fix}
	}
	return nil
}

// process measures at least so many runs with new processes. The last one goes on until the figures are narrow.
func (m *measuring) process(ctx context.Context, p, least int) error {
	rigs := make([]rig, len(m.sides))
	defer func() {
		for i, r := range rigs {
			if r != nil {
				m.taken[i].add(r.sizes())
				r.close()
			}
		}
	}()
	for turn := range rigs {
		i := turn
		if p%2 == 1 { // who loads first finds a file less warm
			i = len(rigs) - 1 - turn
		}
		if err := m.open(ctx, i, rigs); err != nil {
			return m.of(i, err)
		}
	}
	for i, r := range rigs {
		if err := m.warmUp(ctx, i, r); err != nil {
			return err
		}
	}
	watch, before, made := machine.StartWatch(), cpuOf(rigs), rigs[0].tokens()
	defer func() {
		m.made += rigs[0].tokens() - made
		own := cpuOf(rigs)
		if own >= 0 && before >= 0 {
			own -= before
		}
		m.loads = append(m.loads, watch.Stop(own))
	}()
	last := p == m.entry.Runs.Processes-1
	for n := 0; n < least || last && !m.enough(); n++ {
		if err := m.pair(ctx, rigs); err != nil {
			return err
		}
	}
	return nil
}

// open starts a side's process and has it load.
func (m *measuring) open(ctx context.Context, i int, rigs []rig) (err error) {
	m.status("starting %s", m.sides[i].runtime)
	if rigs[i], err = m.rig(i, m.sides[i]); err != nil {
		rigs[i] = nil
		return err
	}
	took, err := rigs[i].open(ctx)
	if err == nil && took > 0 {
		m.taken[i].add(map[string]float64{LoadMS: ms(took)})
	}
	return err
}

func cpuOf(rigs []rig) (total time.Duration) {
	for _, r := range rigs {
		own := r.cpu()
		if own < 0 {
			return -1
		}
		total += own
	}
	return total
}

// of says which side an error is of, where there are two.
func (m *measuring) of(i int, err error) error {
	if len(m.sides) == 1 || err == nil {
		return err
	}
	return fmt.Errorf("%s in %s: %w", m.sides[i].name, m.sides[i].runtime, err)
}

// warmUp runs a side until it is warm: at least once, then until two runs in a row take the same.
func (m *measuring) warmUp(ctx context.Context, i int, r rig) error {
	w := m.entry.Warmup
	deadline := time.Now().Add(w.Timeout)
	var times, speeds []float64
	for n := 0; n < w.Runs || w.Until > 0 && !stat.Settled(speeds, w.Until); n++ {
		if n >= w.Runs && time.Now().After(deadline) {
			m.slow = true
			break
		}
		m.status("warming up %s", m.sides[i].runtime)
		started := time.Now()
		calls, err := m.run(ctx, []rig{r}, []int{i}, -1-n)
		if err != nil {
			return err
		}
		times = append(times, time.Since(started).Seconds())
		speeds = append(speeds, medians(calls[0])[m.cell.cell.Main()])
		if t, first := m.taken[i], calls[0][TTFT]; t.warmup == nil && n == 0 && len(first) > 0 {
			t.firstTTFT = first[0]
		}
	}
	m.taken[i].warmup = append(m.taken[i].warmup, times...)
	return nil
}

// shortest is how long a side runs at least in a run: twice as long where it is compared. Calls of some milliseconds that stood alone varied by 15 % and more on two virtual cores.
func (m *measuring) shortest() time.Duration {
	d := m.kind.Shortest
	if d == 0 {
		d = 250 * time.Millisecond
	}
	return d * time.Duration(len(m.sides))
}

// pair runs every side once and notes the figures.
func (m *measuring) pair(ctx context.Context, rigs []rig) error {
	if err := m.coolDown(ctx); err != nil {
		return err
	}
	values, err := m.run(ctx, rigs, []int{0, 1}, m.done)
	if err != nil {
		return err
	}
	m.done++
	for i, calls := range values {
		m.taken[i].add(medians(calls))
	}
	if len(values) == 2 {
		m.ratios.add(medians(divide(values[0], values[1])))
	}
	m.tell()
	return nil
}

// run is one run of each side. Their calls take turns, A B B A. A call of a few milliseconds is at the mercy of whatever else happens in them, so calls are repeated until each side had its time,
// and the median of each figure is the run's. The ratio of a run is the median of the ratios of its pairs of calls: what comes and goes is in both calls of a pair. It returns the figures of every call, by side.
func (m *measuring) run(ctx context.Context, rigs []rig, sides []int, number int) ([]map[string][]float64, error) {
	values := make([]map[string][]float64, len(rigs))
	for i := range values {
		values[i] = map[string][]float64{}
	}
	for started, call := time.Now(), 0; call == 0 || time.Since(started) < m.shortest()*time.Duration(len(rigs)); call++ {
		for turn := range rigs {
			i := turn
			if (number+call)&1 == 1 {
				i = len(rigs) - 1 - turn
			}
			found, err := rigs[i].call(ctx, number, call)
			if err != nil {
				return nil, m.of(sides[i], err)
			}
			for name, v := range found {
				values[i][name] = append(values[i][name], v)
			}
		}
	}
	return values, nil
}

// medians of each figure over calls.
func medians(calls map[string][]float64) map[string]float64 {
	out := map[string]float64{}
	for name, v := range calls {
		out[name] = stat.Median(v)
	}
	return out
}

// divide the calls of one side by those of the other, pair by pair.
func divide(a, b map[string][]float64) map[string][]float64 {
	out := map[string][]float64{}
	for name, x := range a {
		if len(x) != len(b[name]) {
			continue // a call was too short for the clock of this system
		}
		for i, y := range b[name] {
			out[name] = append(out[name], x[i]/y)
		}
	}
	return out
}

// coolDown rests before a run.
func (m *measuring) coolDown(ctx context.Context) error {
	c := m.entry.Cooldown
	if err := sleep(ctx, c.Min); err != nil || !c.Nominal {
		return err
	}
	for deadline := time.Now().Add(c.Timeout); m.state().Thermal == "throttled" && time.Now().Before(deadline); {
		m.status("waiting for the machine to cool down")
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enough reports whether measuring may end: as many runs as are allowed, or narrow intervals. With a baseline it is the ratio that has to be narrow.
func (m *measuring) enough() bool {
	n, r := m.done, m.entry.Runs
	switch {
	case n >= r.Max:
		return true
	case n < r.Min:
		return false
	case r.Until == 0:
		return true
	}
	names := []string{m.cell.cell.Main(), TTFT}
	for _, name := range names {
		a := m.taken[0].values[name]
		if len(a) == 0 {
			continue
		}
		i := stat.Of(a)
		if r := m.ratios.values[name]; len(m.taken) == 2 && len(r) > 0 {
			i = stat.OfRatios(r)
		}
		if i.HalfWidth() > r.Until {
			return false
		}
	}
	return true
}

func (m *measuring) status(format string, args ...any) { m.env.Status(fmt.Sprintf(format, args...)) }

// tell says how far the cell is, and its figure so far.
func (m *measuring) tell() {
	name := m.cell.cell.Main()
	i := stat.Of(m.taken[0].values[name])
	metric, _ := Find(name)
	text := fmt.Sprintf("run %d of %d to %d, %.4g %s ± %.1f%%", m.done, m.entry.Runs.Min, m.entry.Runs.Max, i.Value, metric.Unit, 100*i.HalfWidth())
	if m.entry.Runs.Min == m.entry.Runs.Max {
		text = fmt.Sprintf("run %d of %d, %.4g %s ± %.1f%%", m.done, m.entry.Runs.Max, i.Value, metric.Unit, 100*i.HalfWidth())
	}
	m.env.Status(text)
}

// count says how many runs there were, for people.
func (m *measuring) count() string {
	switch m.done {
	case 0:
		return "no run"
	case 1:
		return "1 run"
	}
	return fmt.Sprintf("%d runs", m.done)
}

// finish makes figures of what was measured, and says what to think of before believing them.
func (m *measuring) finish(err error) {
	r := m.report
	if err != nil {
		r.Error, r.Class, r.Hint = err.Error(), classOf(err), hint.Of(err)
	}
	sides := make([]*Side, len(m.taken))
	for i, t := range m.taken {
		sides[i] = m.side(i, t)
	}
	if len(sides) == 0 {
		sides = []*Side{m.side(0, &samples{})}
	}
	r.Side = *sides[0]
	if len(sides) == 2 {
		r.Baseline = sides[1]
		r.Ratios = m.compared()
	}
	r.Load = total(m.loads)
	if len(m.loads) > 0 && r.Load.Joules > 0 && len(sides) == 1 {
		if tokens := float64(m.made); tokens > 0 {
			r.Side.Metrics[Energy] = Figure{Value: r.Load.Joules / tokens, Low: r.Load.Joules / tokens, High: r.Load.Joules / tokens, N: 1}
		}
	}
	r.Flags = m.flags()
}

func (m *measuring) side(i int, t *samples) *Side {
	s := m.sides[i]
	out := &Side{Name: s.name, Runtime: s.runtime, RuntimeID: s.id, Compute: s.compute, Digest: m.env.Inputs[i].Digest.String(), Metrics: map[string]Figure{}, Samples: map[string][]float64{}, Warmup: t.warmup}
	for _, metric := range Table {
		values := t.values[metric.Name]
		if f := figureOf(stat.Of(values)); len(values) > 0 && finite(f) {
			out.Metrics[metric.Name], out.Samples[metric.Name] = f, values
		}
	}
	if first := t.firstTTFT; first > 0 && out.Metrics[TTFT].N > 0 {
		v := first - out.Metrics[TTFT].Value
		out.Metrics[CompileMS] = Figure{Value: v, Low: v, High: v, N: 1}
	}
	return out
}

func finite(f Figure) bool {
	return !math.IsNaN(f.Value+f.Low+f.High) && !math.IsInf(f.Value+f.Low+f.High, 0)
}

// compared are the ratios of the metrics that both sides have: from pairs of calls, and of what is measured once for a process from pairs of these.
func (m *measuring) compared() map[string]Figure {
	out := map[string]Figure{}
	for _, metric := range Table {
		r := m.ratios.values[metric.Name]
		x, y := m.taken[0].values[metric.Name], m.taken[1].values[metric.Name]
		if len(r) == 0 && len(x) == len(y) {
			for i := range x {
				r = append(r, x[i]/y[i])
			}
		}
		if f := figureOf(stat.OfRatios(r)); len(r) > 0 && finite(f) {
			out[metric.Name] = f
		}
	}
	return out
}

// total of what the machine did while runs were measured, process after process.
func total(loads []machine.Load) (sum machine.Load) {
	for _, l := range loads {
		if l.Other < 0 || sum.Other < 0 {
			sum.Other = -1
		} else if l.Seconds+sum.Seconds > 0 {
			sum.Other = (sum.Other*sum.Seconds + l.Other*l.Seconds) / (sum.Seconds + l.Seconds)
		}
		if l.Steal < 0 || sum.Steal < 0 {
			sum.Steal = -1
		} else if l.Seconds+sum.Seconds > 0 {
			sum.Steal = (sum.Steal*sum.Seconds + l.Steal*l.Seconds) / (sum.Seconds + l.Seconds)
		}
		if l.Joules < 0 || sum.Joules < 0 {
			sum.Joules = -1
		} else {
			sum.Joules += l.Joules
		}
		sum.Seconds, sum.Throttled, sum.SwapGrew = sum.Seconds+l.Seconds, sum.Throttled+l.Throttled, sum.SwapGrew+l.SwapGrew
	}
	return sum
}

// busy is how much of a core others may take before a measurement says so.
const busy = 0.15

// flags are what to think of before believing the figures.
func (m *measuring) flags() (out []string) {
	r := m.report
	if r.Quick {
		out = append(out, "quick")
	}
	for i, t := range m.taken {
		values := t.values[m.cell.cell.Main()]
		if len(values) < 2 {
			continue
		}
		of := ""
		if i == 1 {
			of = " of the baseline"
		}
		s := stat.Inspect(values)
		if class := s.Class(); class != "stable" {
			out = append(out, fmt.Sprintf("%s%s: runs vary by %.1f%%", class, of, 100*s.CV))
		}
		if s.Drifts {
			out = append(out, fmt.Sprintf("drift%s: %+.1f%% from the first run to the last", of, 100*s.Drift))
		}
		if n := len(s.Outliers); n > 0 {
			out = append(out, fmt.Sprintf("%d of %d runs%s far from the others", n, len(values), of))
		}
	}
	if m.slow {
		out = append(out, "warm-up: runs still differed when its time was over")
	}
	if r.Load.Other > busy {
		out = append(out, fmt.Sprintf("other load: %.1f cores were busy with something else", r.Load.Other))
	}
	if r.Load.Steal > busy {
		out = append(out, fmt.Sprintf("steal: the hypervisor took %.1f cores away", r.Load.Steal))
	}
	if r.Load.Throttled > 0 || r.Before.Thermal == "throttled" || r.After.Thermal == "throttled" {
		out = append(out, "throttled: the processor was slowed down")
	}
	if r.Load.SwapGrew > 64<<20 {
		out = append(out, "swap: memory was written to disk")
	}
	if r.Before.Power == "battery" || r.After.Power == "battery" {
		out = append(out, "battery")
	}
	if r.Before.LowPower == "yes" {
		out = append(out, "low power mode")
	}
	return out
}
