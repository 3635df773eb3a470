package cpu

import "golang.org/x/sys/cpu"

func detect() (found []Level) {
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !hasF16C() {
		return nil
	}
	found = append(found, AVX2)
	if !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL || !x.HasAVX512VBMI || !x.HasAVX512VNNI {
		return found
	}
	found = append(found, AVX512)
	if !x.HasAMXTile || !x.HasAMXInt8 || enabledStates()&tileStates != tileStates || !permitTiles() {
		return found
	}
	return append(found, AMX)
}

// tileStates are the bits of XCR0 that say that the system keeps the configuration and the contents of tiles for each thread.
const tileStates = 1<<17 | 1<<18

// hasF16C reports whether the processor widens float16: CPUID leaf 1, ECX bit 29, which x/sys/cpu leaves out.
func hasF16C() bool { return featureECX1()&(1<<29) != 0 }

//go:noescape
func featureECX1() uint32

// enabledStates is XCR0: what the system keeps for each thread. AVX2 is there only where it can be asked for.
//
//go:noescape
func enabledStates() uint32
