// Package cpu says which kernels this processor runs: the level that every dispatch in mlxbuild follows.
//
// Levels are sets of instructions, not generations. Results are the same bits at each of them; only speed differs. MLXBUILD_CPU forces a level, so that tests run all of them and users can compare.
package cpu

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// Level is a set of instructions that kernels are written for.
type Level string

// The levels. On amd64 each has what the one before it has.
const (
	Generic Level = "generic" // plain Go
	AVX2    Level = "avx2"    // amd64: AVX2, FMA and F16C
	AVX512  Level = "avx512"  // amd64: also AVX-512 F, BW, DQ, VL, VBMI and VNNI
	AMX     Level = "amx"     // amd64: also AMX tiles with bytes, where the system lets a process have them
	NEON    Level = "neon"    // arm64: Advanced SIMD with dot products
)

// Variable is the environment variable that forces a level.
const Variable = "MLXBUILD_CPU"

// Levels are those that this processor runs, the slowest first.
func Levels() []Level { return slices.Clone(levels()) }

var levels = sync.OnceValue(func() []Level { return append([]Level{Generic}, detect()...) })

// Best is the level to use: the forced one, else the fastest. A forced level that cannot be is an error of Forced, and is not followed.
func Best() Level {
	if forced, err := Forced(); err == nil && forced != "" {
		return forced
	}
	all := levels()
	return all[len(all)-1]
}

// Forced is the level that the environment asks for, "" if none. The error says that there is no such level, or not on this processor.
func Forced() (Level, error) {
	asked := Level(os.Getenv(Variable))
	if asked == "" || slices.Contains(levels(), asked) {
		return asked, nil
	}
	if !slices.Contains([]Level{Generic, AVX2, AVX512, AMX, NEON}, asked) {
		return "", fmt.Errorf("%s=%q is no level; levels are generic, avx2, avx512, amx and neon", Variable, asked)
	}
	return "", fmt.Errorf("%s=%s cannot be used on this processor, which has %s", Variable, asked, join(levels()))
}

func join(all []Level) string {
	names := make([]string, len(all))
	for i, l := range all {
		names[i] = string(l)
	}
	return strings.Join(names, ", ")
}

// Has reports whether the level in use has what l has.
func Has(l Level) bool {
	all := levels()
	return slices.Index(all, l) >= 0 && slices.Index(all, l) <= slices.Index(all, Best())
}
