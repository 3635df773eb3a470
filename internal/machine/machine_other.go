//go:build !linux && !darwin && !windows

package machine

import "time"

// system tells nothing but what Go knows.
type system struct{}

func (system) chip() string     { return "" }
func (system) release() string  { return "" }
func (system) gpu() string      { return "" }
func (system) memory() int64    { return 0 }
func (system) available() int64 { return 0 }
func (system) quota() float64   { return 0 }

func (system) state() State {
	return State{Power: unknown, LowPower: unknown, MemoryPressure: unknown, Thermal: unknown}
}

func (system) cpuTimes() cpuTimes            { return cpuTimes{busy: -1, steal: -1} }
func (system) counters() counters            { return counters{swap: -1} }
func (system) energy() map[string]energy     { return nil }
func (system) cpuTime(pid int) time.Duration { return -1 }
