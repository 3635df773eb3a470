package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// printTable prints the sides that took part under one another, each with its best wall time as a multiple of the first side's.
func printTable(sides ...*side) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\truns\twall min\tmedian\tCPU\tpeak memory\twall, x ours\t")
	for _, s := range sides {
		if len(s.samples) == 0 {
			continue
		}
		fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\t%.2f\t\n", s.name, len(s.samples), short(slices.Min(s.walls())), short(median(s.walls())), short(median(s.cpus())), size(s.peak()),
			float64(slices.Min(s.walls()))/float64(slices.Min(sides[0].walls())))
	}
	w.Flush()
	fmt.Println()
}

// atMost prints a goal and whether it was met.
func atMost(what string, value, limit float64, show func(float64) string) {
	verdict := "met"
	if value > limit {
		verdict = "MISSED"
	}
	fmt.Printf("  %-6s  %s: %s, goal at most %s\n", verdict, what, show(value), show(limit))
}

func atLeast(what string, value, limit float64, show func(float64) string) {
	verdict := "met"
	if value < limit {
		verdict = "MISSED"
	}
	fmt.Printf("  %-6s  %s: %s, goal at least %s\n", verdict, what, show(value), show(limit))
}

func ratio(v float64) string     { return fmt.Sprintf("%.3f", v) }
func seconds(v float64) string   { return short(time.Duration(v * float64(time.Second))) }
func bytesOf(v float64) string   { return size(int64(v)) }
func perSecond(v float64) string { return fmt.Sprintf("%.1f tok/s", v) }

// wallRatio compares two sides at their best.
func wallRatio(a, b *side) float64 {
	return float64(slices.Min(a.walls())) / float64(slices.Min(b.walls()))
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}

// machine is one line on what the figures hold for.
func machine() string {
	parts := []string{runtime.GOOS + "/" + runtime.GOARCH, fmt.Sprintf("%d cores", runtime.NumCPU()), runtime.Version()}
	if cpu := field("/proc/cpuinfo", "model name"); cpu != "" {
		parts = append(parts, cpu)
	}
	if total := field("/proc/meminfo", "MemTotal"); total != "" {
		parts = append(parts, total+" memory")
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		parts = append(parts, "Linux "+strings.TrimSpace(string(kernel)))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		parts = append(parts, "load "+strings.Fields(string(load))[0])
	}
	return strings.Join(parts, ", ")
}

// field is the value of the first line "name : value" of a file of /proc.
func field(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
