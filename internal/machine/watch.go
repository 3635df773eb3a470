package machine

import "time"

// Watch measures from StartWatch to Stop what else the machine did.
type Watch struct {
	of     system
	before counters
	began  time.Time // with a monotonic reading: setting the clock changes nothing
	cpu    cpuTimes
	energy map[string]energy
}

// Load is what a machine did while it was watched.
type Load struct {
	Seconds   float64 `json:"seconds"`
	Other     float64 `json:"other_cores"`     // kept busy on average by others, the hypervisor's included; -1 when unknown
	Steal     float64 `json:"steal_cores"`     // taken away by the hypervisor; -1 when unknown
	Throttled int64   `json:"throttled"`       // times that cores and packages were slowed down by heat, and that the container's quota stopped it; 0 when unknown
	SwapGrew  int64   `json:"swap_grew_bytes"` // negative when it shrank; 0 when unknown
	Joules    float64 `json:"joules"`          // of all CPU packages; -1 when unknown
}

// cpuTimes is what all CPUs spent since boot; -1 is unknown.
type cpuTimes struct{ busy, steal time.Duration }

// counters are what is slow to read and need not be read at the instant: a server has a thousand files of them.
type counters struct {
	throttled map[string]int64 // events since boot, by what counts them
	swap      int64            // bytes in use, -1 unknown
}

// energy is the counter of a package.
type energy struct {
	microjoules int64 // since some time; -1 when it cannot be read
	most        int64 // after which it begins at 0 again; 0 unknown
}

// StartWatch begins to watch.
func StartWatch() *Watch { return system{}.watch() }

func (s system) watch() *Watch {
	w := &Watch{of: s, before: s.counters()}
	w.began, w.cpu, w.energy = time.Now(), s.cpuTimes(), s.energy() // last, so that the reading above is not measured
	return w
}

// Stop says what happened since StartWatch. own is CPU time that the measured processes took in between, negative when unknown: it is not others'. It may be called again, for a longer stretch.
func (w *Watch) Stop(own time.Duration) Load {
	cpu, wall, used := w.of.cpuTimes(), time.Since(w.began), w.of.energy()
	after := w.of.counters()
	l := Load{Seconds: wall.Seconds(), Other: -1, Steal: cores(w.cpu.steal, cpu.steal, wall), Joules: joules(w.energy, used, wall)}
	if busy := cores(w.cpu.busy, cpu.busy, wall); busy >= 0 && own >= 0 {
		l.Other = max(0, busy-own.Seconds()/wall.Seconds()) // the two are counted in different ways, so that the difference can be a little less than nothing
	}
	for what, n := range after.throttled {
		if was, ok := w.before.throttled[what]; ok {
			l.Throttled += max(0, n-was)
		}
	}
	if w.before.swap >= 0 && after.swap >= 0 {
		l.SwapGrew = after.swap - w.before.swap
	}
	return l
}

// shortest stretch of time that is worth an average: the kernel counts in steps of 10 ms on each CPU.
const shortest = 100 * time.Millisecond

// cores is the average of a time that all CPUs add to.
func cores(before, after, wall time.Duration) float64 {
	if before < 0 || after < before || wall < shortest {
		return -1
	}
	return (after - before).Seconds() / wall.Seconds()
}

// mostWatts that one package draws for longer than a moment: the largest of servers are sold with 500 W.
const mostWatts = 500

// joules that all packages took. A counter that may have gone around twice (65 kJ in 131 s at worst on AMD, 262 kJ in 524 s on Intel) tells nothing, and nor does the sum without it.
func joules(before, after map[string]energy, wall time.Duration) float64 {
	if len(before) == 0 || len(before) != len(after) {
		return -1
	}
	sum := 0.0
	for name, a := range before {
		b, ok := after[name]
		if !ok || a.microjoules < 0 || b.microjoules < 0 || a.most > 0 && float64(a.most) < wall.Seconds()*mostWatts*1e6 {
			return -1
		}
		d := b.microjoules - a.microjoules
		if d < 0 {
			d += a.most
		}
		if d < 0 {
			return -1
		}
		sum += float64(d) / 1e6
	}
	return sum
}
