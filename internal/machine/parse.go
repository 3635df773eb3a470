package machine

import (
	"encoding/binary"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parsers of what systems write about themselves. They take any text: what is not understood is left out.

// number of counters and sizes: from 0 to 2^60, so that a few of them can be added.
func number(text string) (int64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 60)
	return int64(n), err == nil
}

// keyed is a line "key : value" of /proc.
func keyed(line string) (key, value string) {
	key, value, _ = strings.Cut(line, ":")
	return strings.TrimSpace(key), strings.TrimSpace(value)
}

// parseChip reads /proc/cpuinfo: the first model name, which x86 has. A virtual machine may hide which "AMD EPYC" it is; its family and model are said too then. ARM has numbers instead, by kind of core, and
// some boards their own name: "Raspberry Pi 4 Model B Rev 1.4 (ARM 0x41/0xd08)".
func parseChip(cpuinfo string) string {
	var name, family, model, implementer string
	var kinds []string
	for line := range strings.Lines(cpuinfo) {
		switch key, value := keyed(line); strings.ToLower(key) {
		case "model name", "cpu model", "uarch", "cpu": // x86 and LoongArch, MIPS, RISC-V, POWER
			if name == "" && !strings.HasPrefix(value, "ARMv") { // ARMv8 Processor rev 3 is what a 32 bit program reads, on any chip
				name = value
			}
		case "cpu family":
			family = value
		case "cpu implementer":
			implementer = value
		case "cpu part":
			kinds = append(kinds, implementer+"/"+value)
		case "model": // a number on x86, the board elsewhere
			model = value
		}
	}
	switch {
	case name != "" && family != "" && model != "" && !strings.ContainsAny(name, "0123456789"):
		return fmt.Sprintf("%s (family %s, model %s)", name, family, model)
	case name != "" || len(kinds) == 0:
		return name
	}
	slices.Sort(kinds)
	chip := "ARM " + strings.Join(slices.Compact(kinds), " + ")
	if model != "" {
		chip = model + " (" + chip + ")"
	}
	return chip
}

// meminfo is /proc/meminfo, in bytes.
type meminfo map[string]int64

func parseMeminfo(text string) meminfo {
	m := meminfo{}
	for line := range strings.Lines(text) {
		key, value := keyed(line)
		if n, ok := number(strings.TrimSuffix(value, " kB")); ok && n < 1<<50 {
			m[key] = n * 1024
		}
	}
	return m
}

// scarce says of memory what can be said without pressure being measured.
func (m meminfo) scarce() string {
	total, available := m["MemTotal"], m["MemAvailable"]
	if _, ok := m["MemAvailable"]; !ok || total <= 0 {
		return unknown
	}
	if available < total/20 {
		return "some"
	}
	return "normal"
}

// swapped is the swap space in use, in bytes; -1 when it is not told.
func (m meminfo) swapped() int64 {
	total, ok := m["SwapTotal"]
	free, ok2 := m["SwapFree"]
	if !ok || !ok2 || free > total {
		return -1
	}
	return total - free
}

// parsePressure reads /proc/pressure/memory: the share of the last ten seconds, in percent, in which some or all tasks waited for memory (kernel: Documentation/accounting/psi.rst).
func parsePressure(text string) string {
	share := map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		v, ok := strings.CutPrefix(f[1], "avg10=")
		if percent, err := strconv.ParseFloat(v, 64); ok && err == nil && percent >= 0 && percent <= 100 {
			share[f[0]] = percent
		}
	}
	some, ok := share["some"]
	switch {
	case !ok:
		return unknown
	case share["full"] > 10:
		return "critical"
	case some > 10:
		return "some"
	}
	return "normal"
}

// tick is the unit of times in /proc: USER_HZ is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// parseStat reads the first line of /proc/stat, the sum over all CPUs: user nice system idle iowait irq softirq steal guest guest_nice, in ticks since boot (man 5 proc_stat). Guests are in user and
// nice already. Old kernels have fewer columns.
func parseStat(text string) cpuTimes {
	none := cpuTimes{busy: -1, steal: -1}
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return none
	}
	t := cpuTimes{steal: -1}
	for i, text := range f[1:min(len(f), 9)] {
		n, ok := number(text)
		if !ok || n > math.MaxInt64/16/int64(tick) {
			return none
		}
		if i == 3 || i == 4 { // idle, and idle with something to wait for
			continue
		}
		t.busy += time.Duration(n) * tick
		if i == 7 {
			t.steal = time.Duration(n) * tick
		}
	}
	return t
}

// parseProcessStat reads utime and stime, the 14th and 15th field of /proc/PID/stat (man 5 proc_pid_stat), -1 when they are not there. The second field is a name in parentheses that may hold anything.
func parseProcessStat(text string) time.Duration {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 13 || !strings.Contains(text, "(") {
		return -1
	}
	user, ok := number(f[11])
	kernel, ok2 := number(f[12])
	if !ok || !ok2 || user+kernel > math.MaxInt64/int64(tick) {
		return -1
	}
	return time.Duration(user+kernel) * tick
}

// parseQuota reads a quota and its period, in microseconds: cpu.max of cgroups v2 as it is, or the two files of v1. It is in cores; 0 for none, which is "max" in v2 and -1 in v1.
func parseQuota(text string) float64 {
	f := strings.Fields(text)
	if len(f) != 2 {
		return 0
	}
	quota, ok := number(f[0])
	period, ok2 := number(f[1])
	if !ok || !ok2 || period == 0 {
		return 0
	}
	return float64(quota) / float64(period)
}

// value of a key in lines of "key value", such as cpu.stat of cgroups.
func value(text, key string) (int64, bool) {
	for line := range strings.Lines(text) {
		if k, v, _ := strings.Cut(line, " "); k == key {
			return number(v)
		}
	}
	return 0, false
}

// hierarchy is a mounted tree of cgroups: v2 has one for all controllers, v1 one for each or for a few.
type hierarchy struct {
	controllers []string // none for v2
	root        string   // the group that is seen at the mount point
	point       string
}

// parseMounts finds the trees of cgroups in /proc/PID/mountinfo (man 5 proc_pid_mountinfo): id parent device root point options [tags] - type source options.
func parseMounts(text string) (out []hierarchy) {
	for line := range strings.Lines(text) {
		first, second, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(first), strings.Fields(second)
		if len(f) < 6 || len(g) < 3 || g[0] != "cgroup" && g[0] != "cgroup2" {
			continue
		}
		h := hierarchy{root: unescape.Replace(f[3]), point: unescape.Replace(f[4])}
		if g[0] == "cgroup" {
			h.controllers = strings.Split(g[2], ",")
		}
		if strings.HasPrefix(h.point, "/") {
			out = append(out, h)
		}
	}
	return out
}

// unescape undoes how mountinfo writes blanks.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// parseGroups reads /proc/PID/cgroup, lines "id:controllers:path": which group a process is in, by controller, "" for v2.
func parseGroups(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) < 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			out[name] = f[2]
		}
	}
	return out
}

// deepest nesting of cgroups that is looked at.
const deepest = 64

// folders of the groups that hold a process under a controller, from its own up to the mount point: the lowest limit of any of them counts. Where the path is not below what is mounted, which is how
// containers without a namespace of their own look, the mount point is the process's group.
func folders(controller string, mounts []hierarchy, groups map[string]string) (out []string) {
	for _, name := range []string{controller, ""} { // v1, v2: a machine may have both
		group, ok := groups[name]
		i := slices.IndexFunc(mounts, func(h hierarchy) bool {
			return name == "" && h.controllers == nil || name != "" && slices.Contains(h.controllers, name)
		})
		if !ok || i < 0 {
			continue
		}
		h := mounts[i]
		inside, below := strings.CutPrefix(group+"/", strings.TrimSuffix(h.root, "/")+"/")
		if !below || strings.Contains("/"+inside, "/../") {
			inside = ""
		}
		inside = path.Clean("/" + inside)
		for range deepest {
			out = append(out, path.Join(h.point, inside))
			if inside == "/" {
				break
			}
			inside = path.Dir(inside)
		}
	}
	return out
}

// supply is a folder of /sys/class/power_supply (kernel: Documentation/ABI/testing/sysfs-class-power).
type supply struct{ kind, scope, online, status string }

// powerFrom decides what the machine runs on. A mouse's battery does not count (scope Device); a machine without a battery of its own is plugged in; a USB socket of a laptop is a supply too,
// and offline most of the time.
func powerFrom(all []supply) string {
	batteries, plugged, unplugged, discharging, full := 0, false, false, false, false
	for _, s := range all {
		switch {
		case s.scope == "Device":
		case s.kind == "Battery" || s.kind == "UPS":
			batteries++
			discharging = discharging || s.status == "Discharging"
			full = full || s.status == "Charging" || s.status == "Full" || s.status == "Not charging"
		case s.kind == "Mains" || strings.HasPrefix(s.kind, "USB") || s.kind == "Wireless":
			plugged = plugged || s.online != "" && s.online != "0"
			unplugged = unplugged || s.online == "0" && s.kind == "Mains"
		}
	}
	switch {
	case batteries == 0 || plugged:
		return "ac"
	case discharging || unplugged:
		return "battery"
	case full:
		return "ac"
	}
	return unknown
}

// policy is how the frequency of some CPUs is chosen, a folder of /sys/devices/system/cpu/cpufreq.
type policy struct{ driver, governor, preference string }

// saves reports whether a policy holds the CPU back. Where the chip itself chooses (intel_pstate and amd-pstate-epp) the governor powersave is the normal one and the preference counts; with every
// other driver it is the lowest frequency and nothing else.
func (p policy) saves() bool {
	if p.driver == "intel_pstate" || p.driver == "amd-pstate-epp" || p.preference != "" {
		return p.governor == "powersave" && p.preference == "power"
	}
	return p.governor == "powersave"
}

// lowPowerFrom decides by the platform's profile (laptops: low-power balanced performance, and others) and the policies.
func lowPowerFrom(profile string, policies []policy) string {
	switch {
	case profile == "low-power" || slices.ContainsFunc(policies, policy.saves):
		return "yes"
	case profile != "" || slices.ContainsFunc(policies, func(p policy) bool { return p.governor != "" }):
		return "no"
	}
	return unknown
}

// trip is a temperature of a thermal zone, in thousandths of a degree, at which something happens.
type trip struct{ kind, at string }

// hot reports whether a zone is so warm that the kernel slows something down (passive) or is about to (hot), and whether the zone tells. At an active trip a fan goes on, which costs nothing. Trips
// that are not set are 0 or less.
func hot(temp string, trips []trip) (is, tells bool) {
	now, err := strconv.ParseInt(temp, 10, 32)
	if err != nil {
		return false, false
	}
	for _, t := range trips {
		at, err := strconv.ParseInt(t.at, 10, 32)
		if err != nil || at <= 0 || t.kind != "passive" && t.kind != "hot" {
			continue
		}
		is, tells = is || now >= at, true
	}
	return is, tells
}

// packageZone reports whether a zone of Linux' powercap is a CPU package: intel-rapl:0 named package-0, and not psys (the whole machine), nor intel-rapl:0:0 (its cores), nor intel-rapl-mmio:0 (the
// same once more).
func packageZone(zone, name string) bool {
	n, ok := strings.CutPrefix(zone, "intel-rapl:")
	_, isNumber := number(n)
	return ok && isNumber && strings.HasPrefix(name, "package")
}

// parseDriver finds the version in /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.06  Release Build ...".
func parseDriver(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	for _, f := range strings.Fields(line) {
		if v := majorMinor(f); strings.Contains(v, ".") && strings.Trim(f, "0123456789.") == "" {
			return v
		}
	}
	return ""
}

// nameGPUs counts equal models: "8 x NVIDIA H200, driver 550.54".
func nameGPUs(models []string, driver string) string {
	slices.Sort(models)
	var parts []string
	for len(models) > 0 {
		n := 1
		for n < len(models) && models[n] == models[0] {
			n++
		}
		part := models[0]
		if n > 1 {
			part = strconv.Itoa(n) + " x " + part
		}
		parts, models = append(parts, part), models[n:]
	}
	if len(parts) > 0 && driver != "" {
		parts = append(parts, "driver "+driver)
	}
	return strings.Join(parts, ", ")
}

// parseSwapUsage reads macOS' struct xsw_usage (sys/sysctl.h): total, available, used, each 8 bytes, and what does not matter here. -1 when it is something else.
func parseSwapUsage(b []byte) int64 {
	if len(b) < 24 {
		return -1
	}
	total, used := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[16:])
	if used > total || total > 1<<60 {
		return -1
	}
	return int64(used)
}

// parseResourceList adds up ranges of memory in a CM_RESOURCE_LIST (wdm.h, 64 bit Windows): a count, then lists of 16 bytes (the last 4 a count) and 20 for each range: kind, sharing, 2 bytes of
// flags, 8 of start, 4 of length. Ranges of 4 GiB and more have kind 7 and a length in units of 2^8, 2^16 or 2^32, as flags say. 0 when it is something else.
func parseResourceList(b []byte) (sum int64) {
	if len(b) < 4 {
		return 0
	}
	lists, b := binary.LittleEndian.Uint32(b), b[4:]
	for ; lists > 0; lists-- {
		if len(b) < 16 {
			return 0
		}
		ranges := binary.LittleEndian.Uint32(b[12:])
		for b = b[16:]; ranges > 0; ranges-- {
			if len(b) < 20 {
				return 0
			}
			n, ok := rangeLength(b[0], binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[12:]))
			if sum += n; !ok || sum > 1<<60 {
				return 0
			}
			b = b[20:]
		}
	}
	return sum
}

func rangeLength(kind byte, flags uint16, length uint32) (n int64, ok bool) {
	switch {
	case kind == 3:
		return int64(length), true
	case kind != 7:
		return 0, true // not memory
	case flags&0x200 != 0:
		return int64(length) << 8, true
	case flags&0x400 != 0:
		return int64(length) << 16, true
	case flags&0x800 != 0 && length < 1<<28:
		return int64(length) << 32, true
	}
	return 0, false
}
