package quant

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// atLevel runs something with the kernels of a level.
func atLevel(l cpu.Level, f func()) {
	before := active
	defer func() { active = before }()
	active = kernelsOf(l)
	f()
}

// atEachLevel runs a test with the kernels of every level of this processor.
func atEachLevel(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, l := range cpu.Levels() {
		t.Run(string(l), func(t *testing.T) { atLevel(l, func() { f(t) }) })
	}
}

// kernelLevels are the levels of this processor that this package has kernels for.
func kernelLevels() []cpu.Level {
	return slices.DeleteFunc(cpu.Levels(), func(l cpu.Level) bool { return kernelsOf(l) == nil })
}

// ofKind is matrix with groups of one kind only, so that no other kind sends its block to plain Go.
func ofKind(r *rand.Rand, kind int, t Float, groups, group int) []byte {
	w := make([]float32, groups*group)
	for g := range groups {
		kinds[kind].fill(r, w[g*group:][:group])
	}
	return finite(w, t)
}

// TestEachKind holds the kernels to the reference on blocks of one kind, whole ones and parts of any size.
func TestEachKind(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		for kind := range kinds {
			for i, s := range allSchemes() {
				for _, f := range allFloats {
					groups := 1 + r.IntN(40)
					if (kind+i+int(f))%3 == 0 {
						groups = blockWeights/s.GroupSize + r.IntN(3)
					}
					checkQuantize(t, s, f, ofKind(r, kind, f, groups, s.GroupSize), 1, groups*s.GroupSize)
				}
			}
		}
	})
}

// TestOrdinaryIsNotOdd: what models have must not end in plain Go, nor must what is special about zeros, subnormal halves and constants.
func TestOrdinaryIsNotOdd(t *testing.T) {
	ordinary := []string{"normal 0.02", "normal 1", "zeros", "zeros of both signs", "zeros of both signs and one side", "positive", "negative", "around eps", "one outlier"}
	for _, l := range kernelLevels() {
		r := rand.New(rand.NewPCG(13, 14))
		for kind, k := range kinds {
			for _, name := range ordinary {
				if k.name != name {
					continue
				}
				for _, s := range allSchemes() {
					for _, f := range allFloats {
						groups := 1 + r.IntN(blockWeights/s.GroupSize)
						p, w := alloc(s, f, 1, groups*s.GroupSize), new(workspace)
						if !w.quantize(kernelsOf(l), s, p, ofKind(r, kind, f, groups, s.GroupSize), f) {
							t.Errorf("%s: %s %s: %s is odd", l, s, f, name)
						}
					}
				}
			}
		}
	}
}

// TestQuotients tries the division of affineCodes where it is hardest: next to ties, for scales of any mantissa and sign.
func TestQuotients(t *testing.T) {
	const around = 4
	for _, l := range kernelLevels() {
		k := kernelsOf(l)
		r := rand.New(rand.NewPCG(15, 16))
		for range 2000 {
			scale := math.Float32frombits(uint32(107+r.IntN(40))<<23|r.Uint32()>>9) * sign(r)
			inverse, bias := 1/scale, float32(0)
			var src [4 * 32]byte
			var codes [32]byte
			for tie := float32(0.5); tie < 255; tie += 3 {
				for i := range 32 { // three ties a turn, each with its neighbours
					x := math.Float32bits(float32((tie + float32(i/(2*around+1))) * scale))
					F32.put(src[:], i, math.Float32frombits(x+uint32(i%(2*around+1))-around))
				}
				k.affineCodes[F32](&codes[0], &src[0], &scale, &bias, &inverse, 1, 1, &codes[0], 32)
				for i, got := range codes {
					if x := F32.at(src[:], i); uint32(got) != affineCode(x, scale, bias, 8) {
						t.Fatalf("%s: %v / %v is code %d, want %d", l, x, scale, got, affineCode(x, scale, bias, 8))
					}
				}
			}
		}
	}
}

// TestNVQuotients tries all mantissas of weights and of scales of nvfp4, rounded to each type.
func TestNVQuotients(t *testing.T) {
	const groups = 128
	for _, l := range kernelLevels() {
		k := kernelsOf(l)
		for _, f := range allFloats {
			src, codes := make([]byte, groups*16*f.Size()), make([]byte, groups*16)
			var scales, inverses [groups]float32
			step := map[Float]uint32{F32: 61, F16: 1 << 13, BF16: 1 << 16}[f]
			mantissa := uint32(0)
			for range 1<<23/(groups/8*16)/step + 1 {
				for g := range groups {
					scales[g] = math.Float32frombits(124<<23 | uint32(g%8)<<20)
					inverses[g] = 1 / scales[g]
					for i := range 16 {
						f.put(src, g*16+i, math.Float32frombits(uint32(123+(g/8+i)%6)<<23|mantissa&0x7FFFFF)*float32(1-2*(i&1)))
						mantissa += step
					}
				}
				k.nv4Codes[f](&codes[0], &src[0], &scales[0], &inverses[0], groups)
				for i, got := range codes {
					want := toE2M1(f.round(f.at(src, i) / scales[i/16]))
					if uint32(e2m1Codes[got]) != want {
						t.Fatalf("%s: %s: %v / %v is code %d, want %d", l, f, f.at(src, i), scales[i/16], e2m1Codes[got], want)
					}
				}
			}
		}
	}
}

// TestPack packs random codes, too large ones among them, and looks intervals up.
func TestPack(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for _, l := range kernelLevels() {
		k := kernelsOf(l)
		for bits := 1; bits <= 7; bits++ {
			kernel, width, code := k.packE2M1, 4, func(b byte) uint32 { return uint32(e2m1Codes[b]) }
			if bits < 7 {
				kernel, width = k.pack[bits], bits
				code = func(b byte) uint32 { return min(uint32(b), uint32(1)<<bits-1) }
			}
			if kernel == nil {
				continue
			}
			for _, blocks := range []int{1, 2, 5} {
				codes, got, want := make([]byte, packBlock*blocks), make([]byte, packBlock/8*width*blocks), make([]byte, packBlock/8*width*blocks)
				randomBytes(r, codes)
				for i := range codes {
					if bits == 7 {
						codes[i] = byte(r.IntN(64))
					}
					putCode(want, i, width, code(codes[i]))
				}
				kernel(&got[0], &codes[0], blocks)
				if diff := difference(got, want); diff != "" {
					t.Errorf("%s: %d bits: %s", l, bits, diff)
				}
			}
		}
	}
}

// TestAnyCodes dequantizes random codes with finite scales and biases of any size.
func TestAnyCodes(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 22))
		for _, s := range allSchemes() {
			for _, f := range allFloats {
				cols := (blockWeights/s.GroupSize + 3) * s.GroupSize
				p := alloc(s, f, 2, cols)
				randomBytes(r, p.Weight)
				if s.Mode == Affine {
					randomFinite(r, p.Scales, f)
					randomFinite(r, p.Biases, f)
				} else {
					for i := range p.Scales {
						p.Scales[i] = byte(r.IntN(0x7F)) // of E4M3 and of E8M0
					}
				}
				checkDequantize(t, s, f, p, 2, cols)
			}
		}
	})
}

// randomFinite clears the lowest bit of exponents, so that none is all ones.
func randomFinite(r *rand.Rand, b []byte, f Float) {
	randomBytes(r, b)
	at, bit := map[Float]int{F32: 2, F16: 1, BF16: 0}[f], map[Float]byte{F32: 0x80, F16: 4, BF16: 0x80}[f]
	for i := at; i < len(b); i += f.Size() {
		b[i] &^= bit
	}
}

// TestUnaligned: weights of a file lie anywhere.
func TestUnaligned(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		for _, s := range allSchemes() {
			for _, f := range allFloats {
				cols := 5 * s.GroupSize
				src := matrix(99, f, 1, cols, s.GroupSize)
				for shift := range 4 {
					moved := append(make([]byte, shift, shift+len(src)), src...)[shift:]
					checkQuantize(t, s, f, moved, 1, cols)
				}
			}
		}
	})
}

// TestTamed: random bits with small exponents, on which kernels do not give up as they do on huge ranges.
func TestTamed(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(19, 20))
		for _, s := range allSchemes() {
			for _, f := range allFloats {
				src := make([]byte, 77*s.GroupSize*f.Size())
				randomBytes(r, src)
				checkQuantize(t, s, f, tame(src, f), 1, 77*s.GroupSize)
			}
		}
	})
}

// tame makes all values smaller than 2: it clears the highest bit of exponents.
func tame(src []byte, f Float) []byte {
	tamed := make([]byte, len(src))
	copy(tamed, src)
	for i := f.Size() - 1; i < len(tamed); i += f.Size() {
		tamed[i] &^= 0x40
	}
	return tamed
}
