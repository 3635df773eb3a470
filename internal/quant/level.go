package quant

import "github.com/mlxbuild/mlxbuild/internal/cpu"

// kernels are the stages of one level in assembly. They take pointers to memory that the caller has measured, and touch nothing beside what they are said to. A number of vectors is of float32,
// so many as a register has; it may reach into rubbish at the end of a workspace.
type kernels struct {
	lanes int // float32 in a vector

	// ranges writes the smallest and the largest weight of each group, of zeros any; where there is NaN or infinity, one of the two is not finite. By Float and rangeIndex.
	ranges [3][4]func(lowest, highest *float32, src *byte, groups int)

	// grid is affineGrid for ranges, with the reciprocals of the scales; steps is the largest code. odd is not 0 when a scale is too small or too large for affineCodes, or not a number.
	grid         func(scales, biases, inverses, lowest, highest *float32, vectors int, steps float32) (odd uint64)
	twoValueGrid func(scales, biases, inverses, lowest, highest *float32, vectors int, steps float32) (odd uint64) // codes of one bit
	// affineCodes is affineCode, up to 255, a byte each; batches is the number of times that a group has 32 weights, which will be so many
	// bytes in packed: a hint, nothing is written there. By Float.
	affineCodes [3]func(codes, src *byte, scales, biases, inverses *float32, groups, batches int, packed *byte, bytes int)

	// largest divides the largest magnitude of each range by the largest code.
	largest func(dst, lowest, highest *float32, vectors int, code float32)
	// powerScales and e4m3Scales are floatScale behind the division. odd is not 0 when a scale is too small or too large for the codes that follow, or saturated, or not a number.
	powerScales func(stored *byte, inverses, scales *float32, vectors int) (odd uint64)
	e4m3Scales  func(stored *byte, rounded, inverses, scales *float32, vectors int) (odd uint64)
	// mx8Codes makes E4M3 codes of groups of 32; mx4Codes and nv4Codes find the places of weights in e2m1Codes, in groups of 32 and of 16. By Float.
	mx8Codes, mx4Codes [3]func(codes, src *byte, inverses *float32, groups int)
	nv4Codes           [3]func(codes, src *byte, scales, inverses *float32, groups int)

	// pack packs blocks of 64 codes; those beyond the largest one become it. By bits. packE2M1 looks the codes up before.
	pack     [7]func(dst, codes *byte, blocks int)
	packE2M1 func(dst, codes *byte, blocks int)

	// unpack unpacks blocks of 64 codes, a byte each; it may read a vector beyond their bytes. By bits.
	unpack [7]func(codes, packed *byte, blocks int)
	// affineValues is code*scale, rounded to a type, + bias, for finite scales and biases; e2m1Values and e4m3Values are value*scale. sixteens is the number of times that a group has 16 weights.
	affineValues           [3]func(dst *float32, codes *byte, scales, biases *float32, groups, sixteens int) // by the type in between
	e2m1Values, e4m3Values func(dst *float32, codes *byte, scales *float32, groups, sixteens int)

	// cast, decode and encode convert blocks of 32 values; finite counts the blocks of 128 bytes before the first that has NaN or infinity. By Float; cast has none between equal types.
	cast   [3][3]func(dst, src *byte, blocks int)
	decode [3]func(dst *float32, src *byte, blocks int)
	encode [3]func(dst *byte, src *float32, blocks int)
	finite [3]func(src *byte, blocks int) (count int)
}

// Sizes of blocks of kernels.
const (
	packBlock   = 64  // codes
	castBlock   = 32  // values
	finiteBlock = 128 // bytes
)

// active are the kernels in use, nil for plain Go; tests change them.
var active = kernelsOf(cpu.Best())
