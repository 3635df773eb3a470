package machine

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"
)

func TestChip(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"EPYC", "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\nstepping\t: 1\n\nprocessor\t: 1\nmodel name\t: AMD EPYC 9R14\n", "AMD EPYC 9R14"},
		{"Raspberry Pi 4", "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\nprocessor\t: 1\n" +
			"CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n", "Raspberry Pi 4 Model B Rev 1.4 (ARM 0x41/0xd08)"},
		{"the same in 32 bit", "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n", "ARM 0x41/0xd08"},
		{"Graviton", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "ARM 0x41/0xd40"},
		{"big and little", "CPU implementer : 0x41\nCPU part : 0xd0b\nCPU implementer : 0x41\nCPU part : 0xd05\nCPU part : 0xd05\n", "ARM 0x41/0xd05 + 0x41/0xd0b"},
		{"nothing", "", ""},
		{"no name", "model name\t:\nmodel\t: 17\n", ""},
	} {
		if got := parseChip(c.text); got != c.want {
			t.Errorf("%s is %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNamesAreClean(t *testing.T) {
	for in, want := range map[string]string{
		"  Intel(R) Xeon(R)   CPU\t@ 2.20GHz \x00": "Intel(R) Xeon(R) CPU @ 2.20GHz",
		"a\xffb\x1b[31mc":                          "ab[31mc",
		strings.Repeat("x", 500):                   strings.Repeat("x", 200),
	} {
		if got := clean(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for in, want := range map[string]string{
		"6.18.44-fc-v657": "6.18", "6.1-rc3": "6.1", "5.15.0-105-generic": "5.15", "15.3.1": "15.3", "15": "15", "10.0": "10.0", "6.": "6", "": "", ".5": "", "x6.1": "", "6..1": "6",
	} {
		if got := majorMinor(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for bytes, want := range map[int64]int64{0: 0, -1: 0, 1: 1, 256 << 20: 1, 24684092 << 10: 24, 24<<30 - 1: 24, 1 << 30: 1, 3 << 29: 2, math.MaxInt64: 1 << 33} {
		if got := gib(bytes); got != want {
			t.Errorf("%d bytes are %d GiB, want %d", bytes, got, want)
		}
	}
	for _, c := range []struct {
		cores int
		quota float64
		want  int
	}{{8, 0, 8}, {8, 2, 2}, {8, 1.5, 2}, {8, 0.1, 1}, {8, 8, 8}, {8, 100, 8}, {1, 1e300, 1}} {
		if got := atMost(c.cores, c.quota); got != c.want {
			t.Errorf("%d cores with a quota of %v are %d, want %d", c.cores, c.quota, got, c.want)
		}
	}
}

func TestFingerprintReads(t *testing.T) {
	for want, f := range map[string]Fingerprint{
		"AMD EPYC, 2 cores, 24 GiB, linux 6.1 amd64":                                     {Chip: "AMD EPYC", Cores: 2, Memory: 24, OS: "linux 6.1", Arch: "amd64"},
		"AMD EPYC 9R14, 1 core, 64 GiB, linux 6.1 amd64, 8 x NVIDIA H200, driver 550.54": {Chip: "AMD EPYC 9R14", Cores: 1, Memory: 64, OS: "linux 6.1", Arch: "amd64", GPU: "8 x NVIDIA H200, driver 550.54"},
		"unknown chip, 4 cores, freebsd arm64":                                           {Cores: 4, OS: "freebsd", Arch: "arm64"},
		"unknown chip":                                                                   {},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPressure(t *testing.T) {
	for _, c := range []struct{ some, full, want string }{{"0.00", "0.00", "normal"}, {"10.00", "10.00", "normal"}, {"12.31", "3.02", "some"}, {"80.11", "44.90", "critical"}, {"NaN", "0.00", unknown}, {"-1", "0", unknown}} {
		text := "some avg10=" + c.some + " avg60=0.00 avg300=0.00 total=12\nfull avg10=" + c.full + " avg60=0.00 avg300=0.00 total=0\n"
		if got := parsePressure(text); got != c.want {
			t.Errorf("some %s, full %s: %s, want %s", c.some, c.full, got, c.want)
		}
	}
	for _, text := range []string{"", "some", "some total=1", "full avg10=90.0"} {
		if got := parsePressure(text); got != unknown {
			t.Errorf("%q: %s", text, got)
		}
	}
	for text, want := range map[string]string{
		"MemTotal: 16000000 kB\nMemAvailable: 799999 kB\n": "some", "MemTotal: 16000000 kB\nMemAvailable: 800000 kB\n": "normal", "MemTotal: 16000000 kB\n": unknown, "MemAvailable: 1 kB\n": unknown,
	} {
		if got := parseMeminfo(text).scarce(); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestPower(t *testing.T) {
	mains := func(online string) supply { return supply{kind: "Mains", online: online} }
	battery := func(status string) supply { return supply{kind: "Battery", scope: "System", status: status} }
	mouse := supply{kind: "Battery", scope: "Device", status: "Discharging"}
	socket := supply{kind: "USB", online: "0"}
	for _, c := range []struct {
		name string
		all  []supply
		want string
	}{
		{"server", nil, "ac"},
		{"desktop with a mouse", []supply{mouse}, "ac"},
		{"laptop on battery", []supply{mains("0"), battery("Discharging"), socket}, "battery"},
		{"laptop on battery that says little", []supply{mains("0"), battery("Unknown")}, "battery"},
		{"laptop that charges", []supply{mains("1"), battery("Charging"), socket}, "ac"},
		{"laptop on a weak charger", []supply{mains("1"), battery("Discharging")}, "ac"},
		{"laptop on USB-C", []supply{mains("0"), battery("Discharging"), {kind: "USB", online: "1"}}, "ac"},
		{"without mains, full", []supply{battery("Full"), socket}, "ac"},
		{"without mains, discharging", []supply{battery("Discharging")}, "battery"},
		{"power cut", []supply{{kind: "UPS", status: "Discharging"}}, "battery"},
		{"battery that says nothing", []supply{battery("")}, unknown},
	} {
		if got := powerFrom(c.all); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestLowPower(t *testing.T) {
	for _, c := range []struct {
		name, profile string
		policies      []policy
		want          string
	}{
		{"virtual machine", "", nil, unknown},
		{"intel_pstate as it comes", "", []policy{{"intel_pstate", "powersave", "balance_performance"}}, "no"},
		{"intel_pstate without preferences", "", []policy{{"intel_pstate", "powersave", ""}}, "no"},
		{"intel_pstate that saves", "", []policy{{"intel_pstate", "powersave", "power"}}, "yes"},
		{"amd-pstate-epp as it comes", "balanced", []policy{{"amd-pstate-epp", "powersave", "balance_performance"}}, "no"},
		{"lowest frequency", "", []policy{{"acpi-cpufreq", "powersave", ""}}, "yes"},
		{"one cluster at the lowest frequency", "", []policy{{"cpufreq-dt", "ondemand", ""}, {"cpufreq-dt", "powersave", ""}}, "yes"},
		{"Raspberry Pi", "", []policy{{"cpufreq-dt", "ondemand", ""}}, "no"},
		{"profile", "low-power", []policy{{"intel_pstate", "powersave", "balance_power"}}, "yes"},
		{"profile alone", "performance", nil, "no"},
	} {
		if got := lowPowerFrom(c.profile, c.policies); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestCPUTimes(t *testing.T) {
	none := cpuTimes{-1, -1}
	for text, want := range map[string]cpuTimes{
		"cpu  100 10 50 9000 700 5 6 7 40 4\ncpu0 1 1 1 1\n": {1780 * time.Millisecond, 70 * time.Millisecond},
		"cpu 100 10 50 9000\n":                               {1600 * time.Millisecond, -1}, // Linux 2.4
		"":                                                   none, "cpu": none, "cpu0 1 2 3 4": none, "cpu 1 2 x 4": none, "cpu 1 2 -3 4": none, "cpu 1 2 3 999999999999999999 5": none,
	} {
		if got := parseStat(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestProcessTimes(t *testing.T) {
	rest := " 1 1 1 0 -1 4194560 100 200 0 0 250 50 7000 8000 20 0 4 0 100 0 0"
	for text, want := range map[string]time.Duration{
		"4242 (python3) S" + rest:          3 * time.Second,
		"4242 (a) R 1 2 (b c)) S" + rest:   3 * time.Second,
		"4242 (python3) S 1 1 1 0 -1":      -1,
		"":                                 -1,
		"4242" + rest:                      -1,
		strings.Repeat("9 ", 20):           -1,
		"1 (x) S 1 1 1 0 -1 0 0 0 0 0 a 5": -1,
	} {
		if got := parseProcessStat(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestGroups(t *testing.T) {
	const v2 = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for _, c := range []struct{ name, controller, mounts, groups, want string }{
		{"v2", "memory", v2, "0::/user.slice/user-1000.slice/session.scope\n", "/sys/fs/cgroup/user.slice/user-1000.slice/session.scope /sys/fs/cgroup/user.slice/user-1000.slice /sys/fs/cgroup/user.slice /sys/fs/cgroup"},
		{"container with a namespace", "memory", v2, "0::/\n", "/sys/fs/cgroup"},
		{"sibling in another namespace", "memory", v2, "0::/../other\n", "/sys/fs/cgroup"},
		{"v1", "cpu", v1, "5:memory:/m\n4:cpu,cpuacct:/a/b\n0::/\n", "/sys/fs/cgroup/cpu,cpuacct/a/b /sys/fs/cgroup/cpu,cpuacct/a /sys/fs/cgroup/cpu,cpuacct"},
		{"container without a namespace", "memory", "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n", "5:memory:/docker/0123\n", "/sys/fs/cgroup/memory"},
		{"and a group in it", "memory", "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "5:memory:/docker/0123/job\n", "/sys/fs/cgroup/memory/job /sys/fs/cgroup/memory"},
		{"a name that begins alike", "memory", "35 31 0:32 /docker/01 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "5:memory:/docker/0123\n", "/sys/fs/cgroup/memory"},
		{"both", "memory", v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "4:memory:/m\n0::/\n", "/sys/fs/cgroup/memory/m /sys/fs/cgroup/memory /sys/fs/cgroup/unified"},
		{"blank in a path", "memory", `25 30 0:23 / /my\040groups rw - cgroup2 cgroup2 rw`, "0::/a\n", "/my groups/a /my groups"},
		{"none", "memory", "", "", ""},
		{"not mounted", "memory", "", "0::/a\n", ""},
		{"no group", "memory", v2, "garbage\n0::relative\n", ""},
	} {
		if got := strings.Join(folders(c.controller, parseMounts(c.mounts), parseGroups(c.groups)), " "); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestQuota(t *testing.T) {
	for text, want := range map[string]float64{"max 100000": 0, "200000 100000": 2, "50000 100000": 0.5, "-1 100000": 0, "": 0, "1 0": 0, "150000": 0, "a b": 0} {
		if got := parseQuota(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestGPU(t *testing.T) {
	for text, want := range map[string]string{
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 12.2.0\n":      "550.54",
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.06  Release Build  (abuild@host)  Thu Jul 11 12:00:00 UTC 2024\n": "555.42",
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module 390.48 Thu Mar 22 00:42:57 PDT 2018":                                               "390.48",
		"GCC version:\n 1.2": "", "": "",
	} {
		if got := parseDriver(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	if got := nameGPUs([]string{"NVIDIA H200", "NVIDIA A2", "NVIDIA H200"}, ""); got != "NVIDIA A2, 2 x NVIDIA H200" {
		t.Error(got)
	}
	if got := nameGPUs(nil, "550.54"); got != "" { // a driver alone computes nothing
		t.Error(got)
	}
}

func TestSwapOfMacs(t *testing.T) {
	b := binary.LittleEndian.AppendUint64(nil, 2<<30)
	b = binary.LittleEndian.AppendUint64(b, 2<<30-700<<20)
	b = binary.LittleEndian.AppendUint64(b, 700<<20)
	if got := parseSwapUsage(append(b, 0, 0x40, 0, 0, 1, 0, 0, 0)); got != 700<<20 {
		t.Error(got)
	}
	if got := parseSwapUsage(b[:20]); got != -1 {
		t.Error(got)
	}
}

// TestMemoryOfWindows has the ranges of a machine with 16 GiB: below 640 KiB, below 3 GiB, and the rest above 4 GiB.
func TestMemoryOfWindows(t *testing.T) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1)
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 1, 0)
	b = le.AppendUint32(b, 3)
	for _, r := range []struct {
		kind   byte
		flags  uint16
		start  uint64
		length uint32
	}{{3, 0, 0x1000, 0x9e000}, {3, 0, 0x100000, 3<<30 - 0x100000}, {7, 0x200, 1 << 32, 13 << 22}} {
		b = le.AppendUint16(append(b, r.kind, 1), r.flags)
		b = le.AppendUint64(b, r.start)
		b = append(le.AppendUint32(b, r.length), 0, 0, 0, 0)
	}
	if got := parseResourceList(b); gib(got) != 16 || got != 0x9e000+3<<30-0x100000+13<<30 {
		t.Errorf("%d bytes", got)
	}
	for n := range b {
		if got := parseResourceList(b[:n]); got != 0 {
			t.Errorf("the first %d bytes are %d bytes of memory", n, got)
		}
	}
}

func TestJoules(t *testing.T) {
	one := func(microjoules int64) map[string]energy {
		return map[string]energy{"intel-rapl:0": {microjoules, 262143328850}}
	}
	two := map[string]energy{"intel-rapl:0": {0, 0}, "intel-rapl:1": {0, 0}}
	for _, c := range []struct {
		name          string
		before, after map[string]energy
		wall          time.Duration
		want          float64
	}{
		{"as usual", one(1e6), one(501e6), 10 * time.Second, 500},
		{"around once", one(262143328850 - 100e6), one(50e6), 10 * time.Second, 150},
		{"for too long", one(1e6), one(501e6), 10 * time.Minute, -1},
		{"not allowed to read", one(-1), one(-1), time.Second, -1},
		{"backwards, and nobody knows from where", map[string]energy{"a": {5, 0}}, map[string]energy{"a": {4, 0}}, time.Second, -1},
		{"a package is gone", two, one(1), time.Second, -1},
		{"no packages", nil, nil, time.Second, -1},
	} {
		if got := joules(c.before, c.after, c.wall); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// FuzzParse wants no panic, and figures that can be written down.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"model name : AMD EPYC\n", "CPU implementer : 0x41\nCPU part : 0xd08\nModel : Pi\n", "MemTotal: 24684092 kB\nSwapTotal: 1 kB\nSwapFree: 2 kB\n", "some avg10=1e300 avg60=0\nfull avg10=NaN\n",
		"cpu  45162 0 12033 18774 431 0 223 355 0 0\n", "1 (x) S 1 1 1 0 -1 0 0 0 0 0 1152921504606846975 5", "200000 100000", "nr_periods 0\nnr_throttled 3\n",
		"35 31 0:32 /a/.. /sys\\040/memory ro - cgroup cgroup rw,memory\n", "4:memory:/a/../../b\n0::/\n", "NVRM version: x 550.54.15\n", "6.18.44-fc", "95000", "intel-rapl:0",
		"\x01\x00\x00\x00" + strings.Repeat("\x00", 11) + "\x01\x00\x00\x00\x07\x00\x00\x08" + strings.Repeat("\x7f", 16),
	} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, name := range []string{clean(a), clean(parseChip(a)), majorMinor(a), parseDriver(a), clean(nameGPUs([]string{a, b, a}, a))} {
			if strings.ContainsAny(name, "\n\x00\x1b") || len([]rune(name)) > 250 {
				t.Errorf("name %q", name)
			}
		}
		m := parseMeminfo(a)
		for key, n := range m {
			if n < 0 {
				t.Errorf("%s is %d", key, n)
			}
		}
		c := parseStat(a)
		for what, n := range map[string]int64{"swap": m.swapped(), "process": int64(parseProcessStat(a)), "busy": int64(c.busy), "steal": int64(c.steal), "swap of a Mac": parseSwapUsage([]byte(a)),
			"memory of Windows": parseResourceList([]byte(a)), "steal beside busy": int64(c.busy - c.steal)} {
			if n < -1 {
				t.Errorf("%s is %d", what, n)
			}
		}
		if q := parseQuota(a); q < 0 || math.IsNaN(q) || math.IsInf(q, 0) || atMost(8, q) < 1 || atMost(8, q) > 8 {
			t.Errorf("quota %v", q)
		}
		if n, ok := value(a, "nr_throttled"); ok && n < 0 {
			t.Errorf("throttled %d times", n)
		}
		for _, dir := range folders("memory", parseMounts(a), parseGroups(b)) {
			if !strings.HasPrefix(dir, "/") || strings.Contains(dir+"/", "/../") {
				t.Errorf("folder %q", dir)
			}
		}
		for _, word := range []string{parsePressure(a), m.scarce(), powerFrom([]supply{{a, b, a, b}}), lowPowerFrom(a, []policy{{a, b, a}})} {
			if word == "" {
				t.Error("no answer")
			}
		}
		hot(a, []trip{{"passive", b}, {b, a}})
		packageZone(a, b)
		if j := joules(map[string]energy{"a": {1 << 60, 1 << 60}}, map[string]energy{"a": {0, 0}}, time.Second); j < -1 {
			t.Error(j)
		}
	})
}
