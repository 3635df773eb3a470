package tensor

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// emulatedTiles says, in the environment of this test, that instructions on tiles are emulated: see internal/emulate.
const emulatedTiles = "MLXBUILD_TEST_EMULATED_TILES"

// levels are those of this processor, and that of tiles where they are emulated.
func levels() []cpu.Level {
	all := cpu.Levels()
	if os.Getenv(emulatedTiles) != "" && !slices.Contains(all, cpu.AMX) {
		all = append(all, cpu.AMX)
	}
	return all
}

// atEachLevel runs a test with the kernels of every level.
func atEachLevel(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, l := range levels() {
		withKernels(t, string(l), kernelsOf(l), f)
	}
}

// atEachLevelAndTiles is atEachLevel, and with tiles even where no level has them.
func atEachLevelAndTiles(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	atEachLevel(t, f)
	if !slices.Contains(levels(), cpu.AMX) {
		withTiles(t, f)
	}
}

// withTiles runs a test with the kernels of AMX, or else with the best and products with tiles in plain Go.
func withTiles(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if slices.Contains(levels(), cpu.AMX) {
		withKernels(t, string(cpu.AMX), kernelsOf(cpu.AMX), f)
		return
	}
	k := kernelsOf(cpu.Best())
	k.tileProducts = tileProducts{hasTiles: true}
	withKernels(t, "plain tiles", k, f)
}

func withKernels(t *testing.T, name string, k kernels, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		before := active
		defer func() { active = before }()
		active = k
		f(t)
	})
}

func randomFloats(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) {
			t.Fatalf("%s: number %d is %x, not %x", what, i, got[i], want[i])
		}
	}
}

// TestPlain holds products of plain weights, of columns that are no whole blocks, to mulPlain.
func TestPlain(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for kind := pairs; kind < codesKinds; kind++ {
			for _, columns := range []int{4, 8, 32, 60, 64, 68, 96, 128, 132, 256} {
				if kind == quarters && columns%32 != 0 {
					continue
				}
				for _, tile := range tileSizes {
					checkPlain(t, rng, kind, columns, tile)
				}
			}
		}
	})
}

func checkPlain(t *testing.T, rng *rand.Rand, kind codesKind, columns, tile int) {
	t.Helper()
	n := panelsOf(shapeOf(tile))
	l := layout{kind: kind}
	l.words = columns / l.columnsPerWord()
	l.bytes = 4 * panelRows * l.words
	if kind == quarters {
		l.segment, l.segments, l.words, l.head = 32, columns/32, 8, 4*panelRows
		l.bytes = l.segments * l.segmentBytes()
	}
	panelStride, stride := l.bytes+32, n*panelRows+5
	panels, x := make([]byte, n*panelStride), randomFloats(rng, columns*tile)
	for at := 0; at < len(panels); at += 4 {
		le.PutUint32(panels[at:], rng.Uint32()&^0x40004000) // no large numbers, no NaN
	}
	got, want := make([]float32, tile*stride), make([]float32, tile*stride)
	for p := range n {
		row := make([]float32, columns*panelRows)
		decodePanel(row, panels[p*panelStride:], &l)
		mulPlain(want[p*panelRows:], stride, row, x, tile, columns)
	}
	plainPanels(got, stride, panels, panelStride, &l, x, tile)
	equalBits(t, "plainPanels", got, want)
}

// TestPlainOfAnyBits holds products of float16 and E4M3 weights of any bits, and of any scales, to the reference.
func TestPlainOfAnyBits(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		for range 20 {
			checkAnyBits(t, rng, 32*(1+rng.IntN(6)), 1+rng.IntN(14))
		}
	})
}

func FuzzPlainOfAnyBits(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(1))
	f.Add(uint64(2), uint8(0), uint8(27))
	f.Fuzz(func(t *testing.T, seed uint64, groups, vectors uint8) {
		checkAnyBits(t, rand.New(rand.NewPCG(seed, 0)), 32*(int(groups)%9+1), int(vectors)%29+1)
	})
}

func checkAnyBits(t *testing.T, rng *rand.Rand, cols, vectors int) {
	t.Helper()
	const rows = 83
	weight, codes, scales := make([]byte, 2*rows*cols), make([]byte, rows*cols), make([]byte, rows*cols/32)
	for i := range codes {
		h, c := uint16(rng.Uint32()), uint8(rng.Uint32())
		if h&0x7C00 == 0x7C00 {
			h &^= 0x400 // finite
		}
		if c&0x7F == 0x7F {
			c--
		}
		le.PutUint16(weight[2*i:], h)
		codes[i] = c
	}
	for row := range rows {
		scale := rng.IntN(largestQuarterScale + 1)
		for g := range cols / 32 {
			scales[row*cols/32+g] = byte(max(scale-rng.IntN(8), 0))
		}
		odd := row*cols + rng.IntN(cols) // one number of some rows is no finite one, which makes none of the row's sum
		switch row % 4 {
		case 1:
			le.PutUint16(weight[2*odd:], 0x7C00)
		case 2:
			le.PutUint16(weight[2*odd:], 0xFC01)
			codes[odd] |= 0x7F
		}
	}
	mxfp8 := quant.Scheme{Mode: quant.MXFP8, Bits: 8, GroupSize: 32}
	checkBits(t, rng, vectors, halves, rows, cols, quant.F16, quant.Scheme{}, quant.Packed{Weight: weight})
	checkBits(t, rng, vectors, quarters, rows, cols, quant.BF16, mxfp8, quant.Packed{Weight: codes, Scales: scales})
	scales = slices.Clone(scales)
	scales[rng.IntN(len(scales))] = byte(largestQuarterScale + 1 + rng.IntN(255-largestQuarterScale))
	checkBits(t, rng, vectors, wide, rows, cols, quant.BF16, mxfp8, quant.Packed{Weight: codes, Scales: scales})
}

// checkBits holds the products of a matrix, which must be laid out as a kind says, to the reference, before it is laid out and after.
func checkBits(t *testing.T, rng *rand.Rand, vectors int, kind codesKind, rows, cols int, f quant.Float, s quant.Scheme, p quant.Packed) {
	t.Helper()
	m, err := NewMatrix(rows, cols, f, s, p)
	if err != nil {
		t.Fatal(err)
	}
	if m.layout.kind != kind {
		t.Fatalf("a matrix of %s has kind %d, not %d", m.name(), m.layout.kind, kind)
	}
	in := randomInput(rng, vectors, cols, Float32, m)
	got, want := make([]float32, vectors*rows), make([]float32, vectors*rows)
	for v := range vectors {
		for row := range rows {
			want[v*rows+row] = mulReference(m, in, row, v)
		}
	}
	m.Mul(got, rows, in, 0, rows, NewScratch())
	equalBits(t, "as stored", got, want)
	pool, arena := NewPool(2), new(Arena)
	defer pool.Close()
	defer arena.Release()
	m.Lay(pool, arena)
	clear(got)
	m.Mul(got, rows, in, 0, rows, NewScratch())
	equalBits(t, "laid out", got, want)
}
