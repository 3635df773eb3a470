package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fake is a machine of the files given, by path; a path that ends in / is an empty folder.
func fake(t *testing.T, files map[string]string) system {
	t.Helper()
	s := system{root: t.TempDir()}
	s.lay(t, files)
	return s
}

func (s system) lay(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := s.path(name)
		folder := strings.HasSuffix(name, "/")
		if !folder {
			path = filepath.Dir(path)
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if folder {
			continue
		}
		if err := os.WriteFile(s.path(name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMachines(t *testing.T) {
	const v2 = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
	const server = "MemTotal:       528280876 kB\nMemFree:        100 kB\nMemAvailable:   400000000 kB\nSwapTotal:       8388604 kB\nSwapFree:        8126460 kB"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Fingerprint
		state State
	}{
		{"EPYC in the cloud", map[string]string{
			"proc/cpuinfo":              "processor\t: 0\nmodel name\t: AMD EPYC\n",
			"proc/meminfo":              "MemTotal:       24684092 kB\nMemAvailable:   23416268 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB",
			"proc/sys/kernel/osrelease": "6.18.44-fc-v657",
			"proc/pressure/memory":      "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0",
			"sys/class/power_supply/":   "",
		}, Fingerprint{Chip: "AMD EPYC", Memory: 24, OS: "linux 6.18"}, State{"ac", "unknown", "normal", "unknown", 0}},
		{"GPU server, in a container of 64 GiB", map[string]string{
			"proc/cpuinfo":                                     "model name\t: AMD EPYC 9R14 96-Core Processor               \n",
			"proc/meminfo":                                     server,
			"proc/sys/kernel/osrelease":                        "5.15.0-105-generic",
			"proc/self/mountinfo":                              v2,
			"proc/self/cgroup":                                 "0::/kubepods/pod1",
			"sys/fs/cgroup/kubepods/pod1/memory.max":           "max",
			"sys/fs/cgroup/kubepods/memory.max":                "68719476736",
			"proc/driver/nvidia/version":                       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc version 11.4.0",
			"proc/driver/nvidia/gpus/0000:17:00.0/information": "Model: \t\t NVIDIA H200\nIRQ:   \t\t 123\nBus Type: \t PCIe",
		}, Fingerprint{Chip: "AMD EPYC 9R14 96-Core Processor", Memory: 64, OS: "linux 5.15", GPU: "NVIDIA H200, driver 550.54"}, State{"unknown", "unknown", "normal", "unknown", 256 << 20}},
		{"the same with cgroups v1", map[string]string{
			"proc/meminfo":        server,
			"proc/self/mountinfo": "35 31 0:32 /docker/01 /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup cgroup rw,memory",
			"proc/self/cgroup":    "5:memory:/docker/01",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "8589934592",
		}, Fingerprint{Memory: 8, OS: "linux"}, State{"unknown", "unknown", "normal", "unknown", 256 << 20}},
		{"and without a limit", map[string]string{
			"proc/meminfo":        server,
			"proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup cgroup rw,memory",
			"proc/self/cgroup":    "5:memory:/",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
		}, Fingerprint{Memory: 504, OS: "linux"}, State{"unknown", "unknown", "normal", "unknown", 256 << 20}},
		{"Raspberry Pi that is too warm", map[string]string{
			"proc/cpuinfo":                                            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
			"proc/meminfo":                                            "MemTotal:        8245760 kB\nMemAvailable:     300000 kB\nSwapTotal:        102396 kB\nSwapFree:         100000 kB",
			"proc/sys/kernel/osrelease":                               "6.6.31+rpt-rpi-2712",
			"sys/class/thermal/thermal_zone0/mode":                    "enabled",
			"sys/class/thermal/thermal_zone0/temp":                    "85100",
			"sys/class/thermal/thermal_zone0/trip_point_0_type":       "critical",
			"sys/class/thermal/thermal_zone0/trip_point_0_temp":       "110000",
			"sys/class/thermal/thermal_zone0/trip_point_1_type":       "active",
			"sys/class/thermal/thermal_zone0/trip_point_1_temp":       "50000",
			"sys/class/thermal/thermal_zone0/trip_point_2_type":       "passive",
			"sys/class/thermal/thermal_zone0/trip_point_2_temp":       "85000",
			"sys/class/power_supply/rpi_ps/type":                      "USB",
			"sys/class/power_supply/rpi_ps/online":                    "1",
			"sys/devices/system/cpu/cpufreq/policy0/scaling_driver":   "cpufreq-dt",
			"sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand",
		}, Fingerprint{Chip: "Raspberry Pi 5 Model B Rev 1.0 (ARM 0x41/0xd0b)", Memory: 8, OS: "linux 6.6"}, State{"ac", "no", "some", "throttled", 2396 << 10}},
		{"laptop on battery", map[string]string{
			"proc/cpuinfo":                                                         "model name\t: 13th Gen Intel(R) Core(TM) i7-1360P\n",
			"proc/meminfo":                                                         "MemTotal:       32500000 kB\nMemAvailable:   3000000 kB",
			"proc/sys/kernel/osrelease":                                            "6.9.3-76060903-generic",
			"proc/pressure/memory":                                                 "some avg10=22.40 avg60=3.00 avg300=1.00 total=99\nfull avg10=8.00 avg60=0.00 avg300=0.00 total=9",
			"sys/class/power_supply/AC/type":                                       "Mains",
			"sys/class/power_supply/AC/online":                                     "0",
			"sys/class/power_supply/BAT0/type":                                     "Battery",
			"sys/class/power_supply/BAT0/present":                                  "1",
			"sys/class/power_supply/BAT0/status":                                   "Discharging",
			"sys/class/power_supply/hidpp_battery_0/type":                          "Battery",
			"sys/class/power_supply/hidpp_battery_0/scope":                         "Device",
			"sys/class/power_supply/hidpp_battery_0/status":                        "Full",
			"sys/firmware/acpi/platform_profile":                                   "low-power",
			"sys/devices/system/cpu/cpufreq/policy0/scaling_driver":                "intel_pstate",
			"sys/devices/system/cpu/cpufreq/policy0/scaling_governor":              "powersave",
			"sys/devices/system/cpu/cpufreq/policy0/energy_performance_preference": "balance_power",
			"sys/class/thermal/thermal_zone0/mode":                                 "disabled",
			"sys/class/thermal/thermal_zone0/temp":                                 "99000",
			"sys/class/thermal/thermal_zone0/trip_point_0_type":                    "passive",
			"sys/class/thermal/thermal_zone0/trip_point_0_temp":                    "20000",
			"sys/class/thermal/thermal_zone1/mode":                                 "enabled",
			"sys/class/thermal/thermal_zone1/temp":                                 "61000",
			"sys/class/thermal/thermal_zone1/trip_point_0_type":                    "passive",
			"sys/class/thermal/thermal_zone1/trip_point_0_temp":                    "-274000",
			"sys/class/thermal/thermal_zone1/trip_point_1_type":                    "passive",
			"sys/class/thermal/thermal_zone1/trip_point_1_temp":                    "95000",
		}, Fingerprint{Chip: "13th Gen Intel(R) Core(TM) i7-1360P", Memory: 31, OS: "linux 6.9"}, State{"battery", "yes", "some", "nominal", 0}},
		{"nothing at all", nil, Fingerprint{OS: "linux"}, State{"unknown", "unknown", "unknown", "unknown", 0}},
		{"nonsense", map[string]string{
			"proc/cpuinfo": "\x00\xff: : :\n", "proc/meminfo": "MemTotal: -5 kB\nSwapTotal: 1 kB\nSwapFree: 9 kB", "proc/sys/kernel/osrelease": "unheard of", "proc/pressure/memory": "some avg10=x", "proc/stat": "cpu",
			"proc/self/mountinfo": " - \n - cgroup2\n1 2 3 4 5 6 - cgroup2 x y", "proc/self/cgroup": "0::/\n:::", "proc/driver/nvidia/gpus/x": "a file", "proc/driver/nvidia/version": "\n\n",
			"sys/class/thermal/thermal_zone0/temp": "hot", "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive", "sys/class/power_supply/BAT0/type": "Battery", "sys/class/powercap/intel-rapl:0/name": "package-0",
		}, Fingerprint{OS: "linux"}, State{"unknown", "unknown", "unknown", "unknown", 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fake(t, c.files)
			c.want.Cores, c.want.Arch = runtime.NumCPU(), runtime.GOARCH
			if got := s.fingerprint(); got != c.want {
				t.Errorf("is  %+v\nwant %+v", got, c.want)
			}
			if got := s.state(); got != c.state {
				t.Errorf("is  %+v\nwant %+v", got, c.state)
			}
			s.watch().Stop(0)
		})
	}
}

func TestQuotaOfContainers(t *testing.T) {
	s := fake(t, map[string]string{
		"proc/self/mountinfo":         "25 30 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"proc/self/cgroup":            "0::/a/b",
		"sys/fs/cgroup/a/b/cpu.max":   "max 100000",
		"sys/fs/cgroup/a/cpu.max":     "100000 100000",
		"sys/fs/cgroup/other/cpu.max": "1000 100000",
	})
	if got := s.fingerprint().Cores; got != 1 {
		t.Errorf("v2: %d cores", got)
	}
	s = fake(t, map[string]string{
		"proc/self/mountinfo":                   "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
		"proc/self/cgroup":                      "1:cpu:/a",
		"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us":  "50000",
		"sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
		"sys/fs/cgroup/cpu/cpu.cfs_quota_us":    "-1",
		"sys/fs/cgroup/cpu/cpu.cfs_period_us":   "100000",
	})
	if got := s.quota(); got != 0.5 {
		t.Errorf("v1: %v cores", got)
	}
}

// busy is a machine of two CPUs with one core, in a group, on one package of whose counter little is left.
func busy(t *testing.T) system {
	files := map[string]string{
		"proc/stat":                                           "cpu  1000 0 500 9000 100 0 0 50 0 0\ncpu0 1 1 1 1",
		"proc/meminfo":                                        "SwapTotal: 1000 kB\nSwapFree: 1000 kB",
		"proc/self/mountinfo":                                 "25 30 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"proc/self/cgroup":                                    "0::/a",
		"sys/fs/cgroup/a/cpu.stat":                            "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 77",
		"sys/class/powercap/intel-rapl:0/name":                "package-0",
		"sys/class/powercap/intel-rapl:0/energy_uj":           "65532000000",
		"sys/class/powercap/intel-rapl:0/max_energy_range_uj": "65532610987",
		"sys/class/powercap/intel-rapl:0:0/name":              "core",
		"sys/class/powercap/intel-rapl:0:0/energy_uj":         "1",
		"sys/class/powercap/intel-rapl:1/name":                "psys",
		"sys/class/powercap/intel-rapl:1/energy_uj":           "1",
		"sys/class/powercap/intel-rapl-mmio:0/name":           "package-0",
		"sys/class/powercap/intel-rapl-mmio:0/energy_uj":      "1",
		"sys/devices/system/cpu/cpufreq/x":                    "",
	}
	for i := range 2 {
		cpu := "sys/devices/system/cpu/cpu" + strconv.Itoa(i)
		files[cpu+"/topology/physical_package_id"], files[cpu+"/topology/core_id"] = "0", "0"
		files[cpu+"/thermal_throttle/core_throttle_count"], files[cpu+"/thermal_throttle/package_throttle_count"] = "10", "20"
	}
	return fake(t, files)
}

func TestWatch(t *testing.T) {
	s := busy(t)
	w := s.watch()
	w.began = w.began.Add(-10 * time.Second)
	s.lay(t, map[string]string{
		"proc/stat":                "cpu  2000 100 700 9500 200 10 10 150 0 0", // 14.2 s more, 1 of them stolen
		"proc/meminfo":             "SwapTotal: 1000 kB\nSwapFree: 900 kB",
		"sys/fs/cgroup/a/cpu.stat": "nr_periods 99\nnr_throttled 6",
		"sys/class/powercap/intel-rapl:0/energy_uj":                           "99389013",
		"sys/class/powercap/intel-rapl:1/energy_uj":                           "90000000",
		"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count":    "13",
		"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count":    "13",
		"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "25",
		"sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "25",
	})
	l := w.Stop(9 * time.Second)
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want*0.98 || got > want*1.02 { // the test took a while
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("seconds", l.Seconds, 10)
	near("other", l.Other, 0.52)
	near("steal", l.Steal, 0.1)
	near("joules", l.Joules, 100)
	if l.Throttled != 3+5+2 || l.SwapGrew != 100<<10 {
		t.Errorf("%+v", l)
	}
	if l := w.Stop(time.Hour); l.Other != 0 { // more than all CPUs did
		t.Errorf("%+v", l)
	}
}

func TestAvailable(t *testing.T) {
	const meminfo = "MemTotal: 24000000 kB\nMemAvailable: 20000000 kB"
	v1 := map[string]string{
		"proc/meminfo":        meminfo,
		"proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
		"proc/self/cgroup":    "4:memory:/jobs/one",
		"sys/fs/cgroup/memory/jobs/memory.limit_in_bytes":     "300000000",
		"sys/fs/cgroup/memory/jobs/memory.usage_in_bytes":     "290000000",
		"sys/fs/cgroup/memory/jobs/memory.stat":               "inactive_file 1\nactive_file 2\ntotal_inactive_file 100000000\ntotal_active_file 50000000",
		"sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": "9223372036854771712",
		"sys/fs/cgroup/memory/jobs/one/memory.usage_in_bytes": "290000000",
	}
	v2 := map[string]string{
		"proc/meminfo":                          meminfo,
		"proc/self/mountinfo":                   "25 30 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"proc/self/cgroup":                      "0::/pod/main",
		"sys/fs/cgroup/pod/memory.max":          "1000000000",
		"sys/fs/cgroup/pod/memory.current":      "900000000",
		"sys/fs/cgroup/pod/memory.stat":         "anon 200000000\ninactive_file 400000000\nactive_file 300000000",
		"sys/fs/cgroup/pod/main/memory.max":     "500000000",
		"sys/fs/cgroup/pod/main/memory.current": "100000000",
	}
	full := map[string]string{
		"proc/meminfo":                 meminfo,
		"proc/self/mountinfo":          "25 30 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"proc/self/cgroup":             "0::/",
		"sys/fs/cgroup/memory.max":     "1000",
		"sys/fs/cgroup/memory.current": "2000",
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"machine", map[string]string{"proc/meminfo": meminfo}, 20000000 << 10},
		{"unknown", nil, 0},
		{"v1, limit of the group above, files can be dropped", v1, 160000000},
		{"v2, limit of its own group", v2, 400000000},
		{"full: not unknown", full, 1},
	} {
		if got := fake(t, c.files).available(); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

func TestWatchOfWhatGoesAway(t *testing.T) {
	s := busy(t)
	w := s.watch()
	w.began = w.began.Add(-10 * time.Second)
	if err := os.RemoveAll(s.root); err != nil {
		t.Fatal(err)
	}
	if l := w.Stop(0); l.Other != -1 || l.Steal != -1 || l.Joules != -1 || l.Throttled != 0 || l.SwapGrew != 0 {
		t.Errorf("%+v", l)
	}
}

func TestEnergyThatOnlyRootReads(t *testing.T) {
	s := fake(t, map[string]string{"sys/class/powercap/intel-rapl:0/name": "package-0", "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "65532610987"})
	if l := s.watch().Stop(0); l.Joules != -1 {
		t.Errorf("%v J", l.Joules)
	}
}

func TestLongFilesEndWithALine(t *testing.T) {
	s := fake(t, map[string]string{"proc/cpuinfo": strings.Repeat("processor : 0\n", 400_000) + "model name : too far", "proc/one": strings.Repeat("x", largest+1)})
	if text := s.read("proc/cpuinfo"); len(text) > largest || !strings.HasSuffix(text, "\nprocessor : 0") {
		t.Errorf("%d bytes, %q", len(text), text[len(text)-20:])
	}
	if text := s.read("proc/one"); text != "" {
		t.Errorf("%d bytes", len(text))
	}
}
