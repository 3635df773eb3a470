package machine

import (
	"fmt"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// system is this Windows machine, as the registry shows it. Power, heat, swap and the load of CPUs need calls that hand out memory: they are unknown here.
type system struct{}

func (system) quota() float64   { return 0 }
func (system) gpu() string      { return "" }
func (system) available() int64 { return 0 }

func (system) chip() string {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\DESCRIPTION\System\CentralProcessor\0`, registry.QUERY_VALUE)
	if err != nil {
		return ""
	}
	defer key.Close()
	name, _, err := key.GetStringValue("ProcessorNameString")
	if err != nil {
		return ""
	}
	return name
}

func (system) release() string {
	v := windows.RtlGetVersion()
	return fmt.Sprintf("%d.%d", v.MajorVersion, v.MinorVersion)
}

// memory that firmware left to Windows.
func (system) memory() int64 {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\RESOURCEMAP\System Resources\Physical Memory`, registry.QUERY_VALUE)
	if err != nil {
		return 0
	}
	defer key.Close()
	b := make([]byte, 64<<10)
	n, kind, err := key.GetValue(".Translated", b)
	if err != nil || kind != registry.RESOURCE_LIST || n > len(b) {
		return 0
	}
	return parseResourceList(b[:n])
}

func (system) state() State {
	return State{Power: unknown, LowPower: unknown, MemoryPressure: unknown, Thermal: unknown}
}

func (system) cpuTimes() cpuTimes        { return cpuTimes{busy: -1, steal: -1} }
func (system) counters() counters        { return counters{swap: -1} }
func (system) energy() map[string]energy { return nil }

func (system) cpuTime(pid int) time.Duration {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return -1
	}
	defer windows.CloseHandle(h)
	var created, ended, kernel, user windows.Filetime
	if windows.GetProcessTimes(h, &created, &ended, &kernel, &user) != nil {
		return -1
	}
	return span(kernel) + span(user)
}

// span of time in units of 100 ns. Filetime's own method takes it for a date.
func span(t windows.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32|int64(t.LowDateTime)) * 100
}
