// Package quant is MLX's quantization arithmetic: it packs float matrices into MLX's affine, mxfp4, mxfp8 and nvfp4 formats and back, byte for byte as the
// CPU backend of mlx 0.32.4 does.
//
// It promises the same bytes on every machine (no fused multiply-add, no approximate division) and no allocation in its loops. It knows no files, tensor
// names or runtimes, and refuses weights that are not finite: MLX would store garbage for them without a word.
//
// Words: a matrix has rows and cols; a group is group_size neighbours of one row that share a scale (and, in affine mode, a bias); a code is the small integer
// stored for one weight. reference.go says the arithmetic plainly, one element at a time; the other files are the fast versions, which tests hold to it: in plain Go, and in blocks.go by the
// kernels of level.go where the processor has the vectors.
package quant

import (
	"fmt"
	"slices"
	"strings"
)

// Profile names whose rounding rules these are. Manifests record it: the rules differ between MLX's backends, and changed between its versions.
const Profile = "mlx-cpu/0.32.4"

// Code is this package's part of a cache key. It is raised when any output byte can change.
const Code = "quant/1"

// Mode is a family of formats, named as MLX names it.
type Mode string

const (
	Affine Mode = "affine" // code*scale + bias, both in the type of the source
	MXFP4  Mode = "mxfp4"  // E2M1 codes, E8M0 scales (OCP microscaling)
	MXFP8  Mode = "mxfp8"  // E4M3 codes, E8M0 scales
	NVFP4  Mode = "nvfp4"  // E2M1 codes, E4M3 scales
)

// ModeInfo describes what a mode takes, for documentation, schemas and error messages.
type ModeInfo struct {
	Mode       Mode
	Bits       []int
	GroupSizes []int
	Default    Scheme // what MLX takes when nothing is said
	HasBiases  bool
}

// modes is in the order of MLX's documentation.
var modes = [...]ModeInfo{
	{Affine, []int{1, 2, 3, 4, 5, 6, 8}, []int{32, 64, 128}, Scheme{Affine, 4, 64}, true},
	{MXFP4, []int{4}, []int{32}, Scheme{MXFP4, 4, 32}, false},
	{MXFP8, []int{8}, []int{32}, Scheme{MXFP8, 8, 32}, false},
	{NVFP4, []int{4}, []int{16}, Scheme{NVFP4, 4, 16}, false},
}

// Modes returns all modes in the order of MLX's documentation. The caller may change what it gets.
func Modes() []ModeInfo {
	all := slices.Clone(modes[:])
	for i := range all {
		all[i].Bits, all[i].GroupSizes = slices.Clone(all[i].Bits), slices.Clone(all[i].GroupSizes)
	}
	return all
}

// Scheme is a complete way to quantize one matrix.
type Scheme struct {
	Mode      Mode
	Bits      int // per code
	GroupSize int // weights per scale
}

// String returns for example "affine 4-bit group 64".
func (s Scheme) String() string {
	return fmt.Sprintf("%s %d-bit group %d", s.Mode, s.Bits, s.GroupSize)
}

// Defaults returns the scheme MLX takes for a mode when neither bits nor group size are given.
func Defaults(m Mode) (Scheme, bool) {
	info, ok := infoOf(m)
	return info.Default, ok
}

// Validate reports, in the recipe's words, the first of mode, bits and group_size that MLX does not have.
func (s Scheme) Validate() error {
	info, ok := infoOf(s.Mode)
	if !ok {
		var names []string
		for _, m := range &modes {
			names = append(names, string(m.Mode))
		}
		return fmt.Errorf("mode must be one of %s, not %q", strings.Join(names, ", "), string(s.Mode))
	}
	if !slices.Contains(info.Bits, s.Bits) {
		return fmt.Errorf("bits must be %s in mode %s, not %d", oneOf(info.Bits), s.Mode, s.Bits)
	}
	if !slices.Contains(info.GroupSizes, s.GroupSize) {
		return fmt.Errorf("group_size must be %s in mode %s, not %d", oneOf(info.GroupSizes), s.Mode, s.GroupSize)
	}
	return nil
}

func infoOf(m Mode) (ModeInfo, bool) {
	for _, info := range &modes {
		if info.Mode == m {
			return info, true
		}
	}
	return ModeInfo{}, false
}

func oneOf(values []int) string {
	words := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(values)), ", "), "[]")
	if len(values) == 1 {
		return words
	}
	return "one of " + words
}

// HasBiases reports whether the scheme stores a bias beside each scale.
func (s Scheme) HasBiases() bool { return s.Mode == Affine }

// Packed is a quantized matrix, row by row, as safetensors stores its tensors.
type Packed struct {
	Weight []byte // U32 words, little-endian: the codes of a row are one bit stream, lowest bit first
	Scales []byte // one per group: in the source's Float (affine), else U8
	Biases []byte // affine only: one per group, in the source's Float
}

// Sizes returns the bytes of the three tensors for a matrix of type t. The scheme must be valid, cols a multiple of its group size.
func (s Scheme) Sizes(rows, cols int, t Float) (weight, scales, biases int) {
	groups := rows * (cols / s.GroupSize)
	weight = rows * (cols / 8 * s.Bits)
	if s.HasBiases() {
		return weight, groups * t.Size(), groups * t.Size()
	}
	return weight, groups, 0
}

// Shapes returns the shapes of the weight (in U32 words) and of the scales; biases have the shape of the scales.
func (s Scheme) Shapes(rows, cols int64) (weight, scales []int64) {
	return []int64{rows, cols * int64(s.Bits) / 32}, []int64{rows, cols / int64(s.GroupSize)}
}

// NonFiniteError reports the first weight that is NaN or infinite.
type NonFiniteError struct {
	Row, Col int // from 0, in the block that was handed to Quantize
	Value    float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("weight at row %d, column %d is %v: only finite weights can be quantized", e.Row, e.Col, e.Value)
}

// Quantize packs src, a row-major matrix of little-endian t, into dst, whose slices must have exactly the lengths of Sizes. It returns *NonFiniteError for the
// first NaN or infinity in row order (dst then holds rubbish) and a plain error for sizes that do not fit. Rows are independent: blocks of rows may be
// quantized at the same time into disjoint parts of one destination.
func (s Scheme) Quantize(dst Packed, src []byte, t Float, rows, cols int) error {
	if err := s.check(dst, len(src), t, rows, cols); err != nil {
		return err
	}
	if active != nil {
		return active.quantize(s, dst, src, t, cols)
	}
	return s.quantizePlain(dst, src, t, cols)
}

// quantizePlain is quantizeReference, faster.
func (s Scheme) quantizePlain(dst Packed, src []byte, t Float, cols int) error {
	if s.Mode == Affine {
		return s.quantizeAffine(dst, src, t, cols)
	}
	return s.quantizeMicro(dst, src, t, cols)
}

// Dequantize writes the rows x cols values of p to dst in type t, as mx.dequantize does. In affine mode t is the type of scales and biases (MLX computes in
// that type; for another result type it casts afterwards: see Cast); in the other modes it is any Float, where MLX takes BF16 when nothing is said.
// It panics when lengths do not fit: they are the caller's arithmetic, not input.
func (s Scheme) Dequantize(dst []byte, p Packed, t Float, rows, cols int) {
	if err := s.check(p, len(dst), t, rows, cols); err != nil {
		panic("quant: Dequantize: " + err.Error())
	}
	if active != nil {
		active.dequantize(s, dst, p, t)
		return
	}
	s.dequantizePlain(dst, p, t)
}

// DecodeRow writes the cols real values of one row of p to dst in float32 arithmetic: scale*code rounded, then bias added, for affine; value*scale else. In
// affine mode t is the type of scales and biases; otherwise it does not matter. It is for runtimes that compute in float32, and allocates nothing.
func (s Scheme) DecodeRow(dst []float32, p Packed, t Float, row, cols int) {
	if active != nil {
		active.decodeRow(s, dst[:cols], p, t, row)
		return
	}
	s.decodeRowPlain(dst, p, t, row, cols)
}

// check reports sizes that contradict each other. floats is the length in bytes of the unquantized side.
func (s Scheme) check(p Packed, floats int, t Float, rows, cols int) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if t > BF16 {
		return fmt.Errorf("float type %d is not one of F32, F16, BF16", t)
	}
	if rows < 0 || cols < 0 || cols%s.GroupSize != 0 {
		return fmt.Errorf("a %d x %d matrix cannot be quantized in groups of %d: the columns must be a multiple of the group size", rows, cols, s.GroupSize)
	}
	if floats != rows*cols*t.Size() {
		return fmt.Errorf("a %d x %d matrix of %s has %d bytes, not %d", rows, cols, t, rows*cols*t.Size(), floats)
	}
	weight, scales, biases := s.Sizes(rows, cols, t)
	if len(p.Weight) != weight || len(p.Scales) != scales || len(p.Biases) != biases {
		return fmt.Errorf("a %d x %d matrix in %s needs %d, %d and %d bytes for weight, scales and biases, not %d, %d and %d",
			rows, cols, s, weight, scales, biases, len(p.Weight), len(p.Scales), len(p.Biases))
	}
	return nil
}
