package main

import (
	"os"
	"strconv"
	"strings"
)

// availableMemory is what steps may want together: most of what the kernel calls available, and no more than the container allows. 0 = unknown.
func availableMemory() int64 {
	free := meminfo("MemAvailable:")
	if data, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (free == 0 || limit < free) {
			free = limit
		}
	}
	return free / 10 * 8
}

func meminfo(field string) int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == field {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kib * 1024
			}
		}
	}
	return 0
}
