package tensor

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// atEachLevel runs a test with the kernels of every level of this processor.
func atEachLevel(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, l := range cpu.Levels() {
		t.Run(string(l), func(t *testing.T) {
			before := active
			defer func() { active = before }()
			active = kernelsOf(l)
			f(t)
		})
	}
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

func TestPlain(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for _, columns := range []int{4, 8, 60, 64, 68, 128, 132, 256} {
			for _, tile := range tileSizes {
				n := panelsOf(shapeOf(tile))
				panelStride, stride := columns*panelRows+32, n*panelRows+5
				panels, x := randomFloats(rng, n*panelStride), randomFloats(rng, columns*tile)
				halves := make([]uint16, len(panels))
				wide := make([]float32, len(panels))
				for i := range halves {
					halves[i] = uint16(rng.Uint32()) &^ 0x4000 // no large ones, no NaN
					wide[i] = widenF16(halves[i])
				}
				got, want := make([]float32, tile*stride), make([]float32, tile*stride)
				for p := range n {
					mulPlain(want[p*panelRows:], stride, panels[p*panelStride:], x, tile, columns)
				}
				plainF32(got, stride, panels, panelStride, x, tile, columns)
				equalBits(t, "plainF32", got, want)
				for p := range n {
					mulPlain(want[p*panelRows:], stride, wide[p*panelStride:], x, tile, columns)
				}
				plainF16(got, stride, halves, panelStride, x, tile, columns)
				equalBits(t, "plainF16", got, want)
			}
		}
	})
}
