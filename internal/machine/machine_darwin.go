package machine

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// system is this Mac, as sysctl shows it. Power, heat, other processes' times and the load of CPUs need IOKit, libproc or Mach: they are unknown here.
type system struct{}

func (system) chip() string     { return text("machdep.cpu.brand_string") }
func (system) release() string  { return text("kern.osproductversion") }
func (system) quota() float64   { return 0 }
func (system) gpu() string      { return "" }
func (system) available() int64 { return 0 }

func (system) memory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil || n > 1<<60 {
		return 0
	}
	return int64(n)
}

func text(name string) string {
	v, err := unix.Sysctl(name)
	if err != nil {
		return ""
	}
	return v
}

func (s system) state() State {
	st := State{Power: unknown, LowPower: unknown, MemoryPressure: unknown, Thermal: unknown, Swapped: max(0, swapped())}
	level, err := unix.SysctlUint32("kern.memorystatus_vm_pressure_level")
	if err != nil {
		return st
	}
	switch level { // of libdispatch's DISPATCH_MEMORYPRESSURE_NORMAL, _WARN and _CRITICAL
	case 1:
		st.MemoryPressure = "normal"
	case 2:
		st.MemoryPressure = "some"
	case 4:
		st.MemoryPressure = "critical"
	}
	return st
}

func swapped() int64 {
	b, err := unix.SysctlRaw("vm.swapusage")
	if err != nil {
		return -1
	}
	return parseSwapUsage(b)
}

func (system) cpuTimes() cpuTimes        { return cpuTimes{busy: -1, steal: -1} }
func (system) counters() counters        { return counters{swap: swapped()} }
func (system) energy() map[string]energy { return nil }

// cpuTime is known of this process only.
func (system) cpuTime(pid int) time.Duration {
	var u unix.Rusage
	if pid != os.Getpid() || unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return -1
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
