package quant

import (
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// kernels are the stages of one level in assembly. They take pointers to memory that the caller has measured, and touch nothing beside what they are said to. A number of vectors is of float32,
// so many as a register has; it may reach into rubbish at the end of a workspace.
type kernels struct {
	lanes int // float32 in a vector

	// ranges writes the smallest and the largest weight of each group, of zeros any; where there is NaN or infinity, one of the two is not finite. By Float and rangeIndex.
	ranges [3][4]func(lowest, highest *float32, src *byte, groups int)

	// grid is affineGrid for ranges, with the reciprocals of the scales; steps is the largest code. odd is not 0 when a scale is too small or too large for affineCodes, or not a number.
	grid         func(scales, biases, inverses, lowest, highest *float32, vectors int, steps float32) (odd uint64)
	twoValueGrid func(scales, biases, inverses, lowest, highest *float32, vectors int, steps float32) (odd uint64) // codes of one bit
	// affineCodes is affineCode, up to 255, a byte each; batches is the number of times that a group has 32 weights. By Float.
	affineCodes [3]func(codes, src *byte, scales, biases, inverses *float32, groups, batches int)

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

	// cast, decode and encode convert blocks of 32 values; finite counts the blocks of 128 bytes before the first that has NaN or infinity. By Float; between equal types there is none.
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

// blockWeights is how many weights go through all stages at once: their source, as F32, and the workspace fit into the first cache of any CPU that has the kernels.
const blockWeights = 4096

// workspace is what stages hand over.
type workspace struct {
	lowest, highest, scales, biases, inverses [blockWeights / 16]float32 // a number for each group
	codes                                     [blockWeights + packBlock]byte
	last                                      [packBlock]byte // what the last block of codes is packed to
	stored                                    [blockWeights / 16]byte
	values                                    group
}

// workspaces are reused: what is handed to kernels of a table would be allocated for each call.
var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// quantize is Scheme.Quantize in blocks. What is odd about a block, plain Go looks at.
func (k *kernels) quantize(s Scheme, dst Packed, src []byte, t Float, cols int) error {
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	for at, end := 0, len(src)/t.Size(); at < end; at += blockWeights {
		n := min(blockWeights, end-at)
		part := s.part(dst, t, at, n)
		weights := src[at*t.Size():][:n*t.Size()]
		if !w.quantize(k, s, part, weights, t) && s.quantizePlain(part, weights, t, cols) != nil {
			return nonFinite(src, t, cols)
		}
	}
	return nil
}

// part are n weights of a packed matrix, from the one at number at on.
func (s Scheme) part(p Packed, t Float, at, n int) Packed {
	w0, s0, b0 := s.Sizes(1, at, t)
	w, sc, b := s.Sizes(1, n, t)
	return Packed{p.Weight[w0:][:w], p.Scales[s0:][:sc], p.Biases[b0:][:b]}
}

// quantize takes one block through the stages, or reports that it is odd.
func (w *workspace) quantize(k *kernels, s Scheme, dst Packed, src []byte, t Float) bool {
	groups := w.ranges(k, src, t, s.GroupSize)
	if s.Mode == Affine {
		return w.affine(k, s, dst, src, t, groups)
	}
	return w.micro(k, s, dst, src, t, groups)
}

// ranges is the first stage. The groups missing in the last vector get the range of zeros.
func (w *workspace) ranges(k *kernels, src []byte, t Float, group int) (groups int) {
	groups = len(src) / t.Size() / group
	k.ranges[t][rangeIndex(group)](&w.lowest[0], &w.highest[0], &src[0], groups)
	last := k.vectors(groups) * k.lanes
	clear(w.lowest[groups:last])
	clear(w.highest[groups:last])
	return groups
}

// rangeIndex is the place of a group size in kernels.ranges.
func rangeIndex(group int) int {
	index := 0
	for group > 16 {
		group, index = group/2, index+1
	}
	return index
}

func (k *kernels) vectors(n int) int { return (n + k.lanes - 1) / k.lanes }

func (w *workspace) affine(k *kernels, s Scheme, dst Packed, src []byte, t Float, groups int) bool {
	grid := k.grid
	if s.Bits == 1 {
		grid = k.twoValueGrid
		w.signZeros(src, t, s.GroupSize, groups)
	}
	if grid(&w.scales[0], &w.biases[0], &w.inverses[0], &w.lowest[0], &w.highest[0], k.vectors(groups), float32(uint32(1)<<s.Bits-1)) != 0 {
		return false
	}
	t.Encode(dst.Scales, w.scales[:groups])
	t.Encode(dst.Biases, w.biases[:groups])
	codes := w.codes[:groups*s.GroupSize]
	if s.Bits == 8 {
		codes = dst.Weight
	}
	k.affineCodes[t](&codes[0], &src[0], &w.scales[0], &w.biases[0], &w.inverses[0], groups, s.GroupSize/32)
	if s.Bits < 8 {
		w.pack(k.pack[s.Bits], dst.Weight, codes, s.Bits)
	}
	return true
}

// signZeros gives a lowest weight of zero the sign of the group's first zero: with codes of one bit it is the bias, where the sign shows.
func (w *workspace) signZeros(src []byte, t Float, group, groups int) {
	for g, lowest := range w.lowest[:groups] {
		if lowest != 0 {
			continue
		}
		for i := range group {
			if x := t.at(src, g*group+i); x == 0 {
				w.lowest[g] = x
				break
			}
		}
	}
}

func (w *workspace) micro(k *kernels, s Scheme, dst Packed, src []byte, t Float, groups int) bool {
	vectors := k.vectors(groups)
	largestCode := float32(6)
	if s.Bits == 8 {
		largestCode = 448
	}
	k.largest(&w.scales[0], &w.lowest[0], &w.highest[0], vectors, largestCode)
	if t != F32 {
		rounded := w.codes[:vectors*k.lanes*t.Size()]
		t.Encode(rounded, w.scales[:vectors*k.lanes])
		t.Decode(w.scales[:vectors*k.lanes], rounded)
	}
	var odd uint64
	if s.Mode == NVFP4 {
		odd = k.e4m3Scales(&w.stored[0], &w.scales[0], &w.inverses[0], &w.scales[0], vectors)
	} else {
		odd = k.powerScales(&w.stored[0], &w.inverses[0], &w.scales[0], vectors)
	}
	if odd != 0 {
		return false
	}
	copy(dst.Scales, w.stored[:groups])
	codes := w.codes[:groups*s.GroupSize]
	switch s.Mode {
	case MXFP8:
		k.mx8Codes[t](&dst.Weight[0], &src[0], &w.inverses[0], groups)
		return true
	case MXFP4:
		k.mx4Codes[t](&codes[0], &src[0], &w.inverses[0], groups)
	default:
		k.nv4Codes[t](&codes[0], &src[0], &w.scales[0], &w.inverses[0], groups)
	}
	w.pack(k.packE2M1, dst.Weight, codes, 4)
	return true
}

// pack packs codes; behind them a whole block has room.
func (w *workspace) pack(kernel func(dst, codes *byte, blocks int), dst, codes []byte, bits int) {
	whole := len(codes) / packBlock
	if whole > 0 {
		kernel(&dst[0], &codes[0], whole)
	}
	if rest := dst[whole*packBlock/8*bits:]; len(rest) > 0 {
		kernel(&w.last[0], &codes[whole*packBlock], 1)
		copy(rest, w.last[:])
	}
}
