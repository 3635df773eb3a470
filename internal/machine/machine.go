// Package machine says what machine this is and what state it is in, as far as timings depend on it.
//
// Nothing here fails: what a system does not tell without running a program or calling into its libraries is "", 0, -1 or "unknown", as each field says, and a file that is not what it should be
// tells nothing. Linux tells nearly everything in /proc and /sys, macOS some in sysctl, Windows a little in the registry.
package machine

import (
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode"
)

// Fingerprint is what a timing depends on and stays while the machine does; it goes into keys.
type Fingerprint struct {
	Chip   string `json:"chip"`          // as the chip calls itself: "AMD EPYC 9R14", "Apple M3 Pro"
	Cores  int    `json:"cores"`         // that this process may use: logical CPUs it may run on, or fewer where its container's quota is lower
	Memory int64  `json:"memory_gib"`    // rounded up, so that a kernel that reserves a little more is not another machine; the container's where that is lower
	OS     string `json:"os"`            // "linux 6.1", "darwin 15.3", "windows 10.0"
	Arch   string `json:"arch"`          // of this program, as Go calls it
	GPU    string `json:"gpu,omitempty"` // "NVIDIA H200, driver 550.54"; none for a GPU that is part of the chip
}

// Read looks at this machine. Unknown parts are "" or 0.
func Read() Fingerprint { return system{}.fingerprint() }

func (s system) fingerprint() Fingerprint {
	return Fingerprint{
		Chip:   clean(s.chip()),
		Cores:  atMost(runtime.NumCPU(), s.quota()),
		Memory: gib(s.memory()),
		OS:     strings.TrimSpace(runtime.GOOS + " " + majorMinor(s.release())),
		Arch:   runtime.GOARCH,
		GPU:    clean(s.gpu()),
	}
}

// String is one line: "AMD EPYC, 2 cores, 24 GiB, linux 6.1 amd64".
func (f Fingerprint) String() string {
	parts := []string{f.Chip}
	if f.Chip == "" {
		parts[0] = "unknown chip"
	}
	switch {
	case f.Cores == 1:
		parts = append(parts, "1 core")
	case f.Cores > 1:
		parts = append(parts, fmt.Sprintf("%d cores", f.Cores))
	}
	if f.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%d GiB", f.Memory))
	}
	if where := strings.TrimSpace(f.OS + " " + f.Arch); where != "" {
		parts = append(parts, where)
	}
	if f.GPU != "" {
		parts = append(parts, f.GPU)
	}
	return strings.Join(parts, ", ")
}

// State is what a machine is like just now.
type State struct {
	Power          string `json:"power"`           // ac, battery, unknown
	LowPower       string `json:"low_power_mode"`  // yes, no, unknown
	MemoryPressure string `json:"memory_pressure"` // normal, some, critical, unknown
	Thermal        string `json:"thermal"`         // nominal, throttled, unknown
	Swapped        int64  `json:"swap_bytes"`      // in use; 0 when unknown
}

const unknown = "unknown"

// Now looks at the state of this machine.
func Now() State { return system{}.state() }

// Available is the memory that this process may still take, in bytes: what can be had on the machine, and no more than its containers leave. 0 when unknown.
func Available() int64 { return system{}.available() }

// CPUTime of a process, user and system, with threads that have ended and without its children; -1 when unknown. Linux counts in steps of 10 ms.
func CPUTime(pid int) time.Duration {
	if pid <= 0 {
		return -1
	}
	return system{}.cpuTime(pid)
}

// atMost is the number of cores that a quota, in cores, leaves; 0 stands for no quota. A quota of 1.5 cores keeps two busy.
func atMost(cores int, quota float64) int {
	if quota <= 0 || quota >= float64(cores) {
		return cores
	}
	n := int(quota)
	if float64(n) < quota {
		n++
	}
	return n
}

// gib rounds bytes up: a machine shows a little less than it has, by what its kernel keeps for itself.
func gib(bytes int64) int64 {
	if bytes <= 0 {
		return 0
	}
	return max(1, (bytes-1)>>30+1)
}

// clean makes a name that a machine gives fit for a line and for JSON: blanks collapsed, nothing that does not print, 200 characters at most.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, name)
	if r := []rune(name); len(r) > 200 {
		name = string(r[:200])
	}
	return strings.Join(strings.Fields(name), " ")
}

// majorMinor cuts a version behind its second number: "6.18.44-fc" is "6.18", "6.1-rc3" is "6.1". What does not begin with a number is "".
func majorMinor(version string) string {
	dots := 0
	end := strings.IndexFunc(version, func(r rune) bool {
		if r == '.' {
			dots++
		}
		return dots > 1 || r != '.' && (r < '0' || r > '9')
	})
	if end >= 0 {
		version = version[:end]
	}
	if strings.HasPrefix(version, ".") || len(version) > 20 {
		return ""
	}
	return strings.TrimSuffix(version, ".")
}
