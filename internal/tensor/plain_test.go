package tensor

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
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
		for _, kind := range []codesKind{pairs, wide} {
			for _, columns := range []int{4, 8, 60, 64, 68, 128, 132, 256} {
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
