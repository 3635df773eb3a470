package machine

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// system is a Linux machine as its files show it: /proc and /sys below root, "" for this machine's.
type system struct{ root string }

// largest part of a file that is read: /proc/cpuinfo of 512 CPUs is 800 kB.
const largest = 4 << 20

// read a file without blanks around it; "" when it cannot be. What is longer than all of them can be ends with its last whole line.
func (s system) read(elem ...string) string {
	f, err := os.Open(s.path(elem...))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largest))
	if err != nil { // sensors that are off answer with an error, some after a part
		return ""
	}
	if len(b) == largest {
		b = b[:bytes.LastIndexByte(b, '\n')+1]
	}
	return strings.TrimSpace(string(b))
}

func (s system) path(elem ...string) string {
	return filepath.Join("/", s.root, filepath.Join(elem...))
}

// list what is in a folder and begins with prefix, by name; it is false when there is no such folder.
func (s system) list(dir, prefix string) (names []string, ok bool) {
	entries, err := os.ReadDir(s.path(dir))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, err == nil
}

func (s system) chip() string    { return parseChip(s.read("proc/cpuinfo")) }
func (s system) release() string { return s.read("proc/sys/kernel/osrelease") }

// memory of the machine, or of the group of processes that may use least.
func (s system) memory() int64 {
	least := s.meminfo()["MemTotal"]
	for _, g := range s.memoryGroups() {
		if least == 0 || g.limit < least {
			least = g.limit
		}
	}
	return least
}

// available is what the kernel calls so, or what the fullest group leaves.
func (s system) available() int64 {
	least := s.meminfo()["MemAvailable"]
	for _, g := range s.memoryGroups() {
		if left := max(1, g.limit-g.used); least == 0 || left < least {
			least = left
		}
	}
	return least
}

// memoryGroup is a group of processes whose memory is limited. Files that the kernel keeps in memory are not among what is used, because it drops them when there is need.
type memoryGroup struct{ limit, used int64 }

// memoryGroups of this process that have a limit. Without one v1 has 2^63 rounded down to a page, which is no number here, and v2 "max".
func (s system) memoryGroups() (out []memoryGroup) {
	for _, dir := range s.folders("memory") {
		for _, version := range []struct{ limit, used, inactive, active string }{
			{"memory.max", "memory.current", "inactive_file", "active_file"},
			{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"},
		} {
			limit, ok := number(s.read(dir, version.limit))
			if !ok || limit == 0 {
				continue
			}
			stat := s.read(dir, "memory.stat")
			used, _ := number(s.read(dir, version.used))
			inactive, _ := value(stat, version.inactive)
			active, _ := value(stat, version.active)
			out = append(out, memoryGroup{limit, max(0, used-inactive-active)})
		}
	}
	return out
}

// quota of CPU time, in cores; 0 for none.
func (s system) quota() (least float64) {
	for _, dir := range s.folders("cpu") {
		for _, text := range []string{s.read(dir, "cpu.max"), s.read(dir, "cpu.cfs_quota_us") + " " + s.read(dir, "cpu.cfs_period_us")} {
			if q := parseQuota(text); q > 0 && (least == 0 || q < least) {
				least = q
			}
		}
	}
	return least
}

func (s system) folders(controller string) []string {
	return folders(controller, parseMounts(s.read("proc/self/mountinfo")), parseGroups(s.read("proc/self/cgroup")))
}

func (s system) gpu() string {
	const dir = "proc/driver/nvidia"
	var models []string
	names, _ := s.list(dir+"/gpus", "")
	for _, name := range names {
		for line := range strings.Lines(s.read(dir, "gpus", name, "information")) {
			if key, value := keyed(line); key == "Model" && value != "" {
				models = append(models, value)
				break
			}
		}
	}
	return nameGPUs(models, parseDriver(s.read(dir, "version")))
}

func (s system) state() State {
	st := State{Power: s.power(), LowPower: s.lowPower(), MemoryPressure: parsePressure(s.read("proc/pressure/memory")), Thermal: s.thermal()}
	m := s.meminfo()
	st.Swapped = max(0, m.swapped())
	if st.MemoryPressure == unknown {
		st.MemoryPressure = m.scarce()
	}
	return st
}

func (s system) meminfo() meminfo { return parseMeminfo(s.read("proc/meminfo")) }

func (s system) power() string {
	const dir = "sys/class/power_supply"
	names, ok := s.list(dir, "")
	if !ok {
		return unknown
	}
	var all []supply
	for _, name := range names {
		if s.read(dir, name, "present") == "0" { // the slot of a battery that is out
			continue
		}
		all = append(all, supply{s.read(dir, name, "type"), s.read(dir, name, "scope"), s.read(dir, name, "online"), s.read(dir, name, "status")})
	}
	return powerFrom(all)
}

func (s system) lowPower() string {
	const dir = "sys/devices/system/cpu/cpufreq"
	var policies []policy
	names, _ := s.list(dir, "policy")
	for _, name := range names {
		policies = append(policies, policy{s.read(dir, name, "scaling_driver"), s.read(dir, name, "scaling_governor"), s.read(dir, name, "energy_performance_preference")})
	}
	return lowPowerFrom(s.read("sys/firmware/acpi/platform_profile"), policies)
}

// mostTrips of a zone that are looked at; the kernel had room for 12 for long.
const mostTrips = 64

func (s system) thermal() string {
	const dir = "sys/class/thermal"
	answer := unknown
	zones, _ := s.list(dir, "thermal_zone")
	for _, zone := range zones {
		if s.read(dir, zone, "mode") == "disabled" { // its trips mean nothing
			continue
		}
		var trips []trip
		for i := range mostTrips {
			name := "trip_point_" + strconv.Itoa(i)
			kind := s.read(dir, zone, name+"_type")
			if kind == "" {
				break
			}
			trips = append(trips, trip{kind, s.read(dir, zone, name+"_temp")})
		}
		switch is, tells := hot(s.read(dir, zone, "temp"), trips); {
		case is:
			return "throttled"
		case tells:
			answer = "nominal"
		}
	}
	return answer
}

func (s system) cpuTimes() cpuTimes { return parseStat(s.read("proc/stat")) }

func (s system) cpuTime(pid int) time.Duration {
	return parseProcessStat(s.read("proc", strconv.Itoa(pid), "stat"))
}

func (s system) counters() counters {
	c := counters{throttled: map[string]int64{}, swap: s.meminfo().swapped()}
	s.countHeat(c.throttled)
	for _, dir := range s.folders("cpu") {
		if n, ok := value(s.read(dir, "cpu.stat"), "nr_throttled"); ok {
			c.throttled[dir] = n
		}
	}
	return c
}

// countHeat reads the counters of x86. All threads of a core show the same event, and all CPUs of a package: the largest of them counts.
func (s system) countHeat(into map[string]int64) {
	const dir = "sys/devices/system/cpu"
	names, _ := s.list(dir, "cpu")
	for _, cpu := range names {
		core, hasCore := number(s.read(dir, cpu, "thermal_throttle/core_throttle_count"))
		pack, hasPack := number(s.read(dir, cpu, "thermal_throttle/package_throttle_count"))
		if !hasCore && !hasPack {
			continue
		}
		inPackage := "package " + s.read(dir, cpu, "topology/physical_package_id")
		inCore := inPackage + " core " + s.read(dir, cpu, "topology/core_id")
		into[inPackage], into[inCore] = max(into[inPackage], pack), max(into[inCore], core)
	}
}

// energy of packages, by RAPL (kernel: Documentation/power/powercap/powercap.rst). Since 2020 most systems let only root read it.
func (s system) energy() map[string]energy {
	const dir = "sys/class/powercap"
	out := map[string]energy{}
	zones, _ := s.list(dir, "intel-rapl:")
	for _, zone := range zones {
		if !packageZone(zone, s.read(dir, zone, "name")) {
			continue
		}
		e := energy{microjoules: -1}
		if n, ok := number(s.read(dir, zone, "energy_uj")); ok {
			e.microjoules = n
		}
		e.most, _ = number(s.read(dir, zone, "max_energy_range_uj"))
		out[zone] = e
	}
	return out
}
