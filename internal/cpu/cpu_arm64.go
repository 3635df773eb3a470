package cpu

import "golang.org/x/sys/cpu"

func detect() []Level {
	if cpu.ARM64.HasASIMD && cpu.ARM64.HasASIMDDP {
		return []Level{NEON}
	}
	return nil
}
