package builtin

import (
	"fmt"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// TestAccuracy states what each arithmetic costs: the largest error of a logit against float64 on the same folder, as a share of the largest logit. DESIGN.md has the figures of SmolLM2; no bound here is more than twice as much.
func TestAccuracy(t *testing.T) {
	affine := func(bits, group int) quant.Scheme {
		return quant.Scheme{Mode: quant.Affine, Bits: bits, GroupSize: group}
	}
	for _, m := range []struct {
		name, dir string
		tokens    []int32
		bounds    map[backend.Compute]float64
		schemes   []quant.Scheme
	}{
		{"tiny", oracle.TinyStories(t), someTokens, map[backend.Compute]float64{backend.Float32: 2e-6, backend.Fast: 6e-4, backend.Int8: 8e-2},
			[]quant.Scheme{affine(2, 32), affine(3, 64), affine(4, 32), affine(4, 64), affine(5, 64), affine(6, 32), affine(8, 64), mx(quant.MXFP4), mx(quant.MXFP8), mx(quant.NVFP4)}},
		{"SmolLM2", oracle.SmolLM2(t), smolPrompts[0], map[backend.Compute]float64{backend.Float32: 4e-6, backend.Fast: 4e-3, backend.Int8: 2e-1},
			[]quant.Scheme{affine(4, 64), affine(8, 64)}},
	} {
		for _, s := range m.schemes {
			accuracy(t, m.name+", "+s.String(), quantized(t, m.dir, uniform(s)), m.tokens, m.bounds)
		}
		if m.name == "tiny" {
			accuracy(t, m.name+", bfloat16", m.dir, m.tokens, m.bounds)
		}
	}
}

// mx is a mode's only scheme.
func mx(mode quant.Mode) quant.Scheme {
	s, _ := quant.Defaults(mode)
	return s
}

func accuracy(t *testing.T, what, dir string, tokens []int32, bounds map[backend.Compute]float64) {
	t.Helper()
	exact := logitsIn(t, dir, tokens, backend.Float64)
	for compute, bound := range bounds {
		worst := 0.0
		for i, row := range logitsIn(t, dir, tokens, compute) {
			worst = max(worst, distanceOf(row, exact[i]))
		}
		t.Logf("%s, %s: %.2g", what, compute, worst)
		if !(worst <= bound) {
			t.Errorf("%s, %s: an error of %.2g of the largest logit", what, compute, worst)
		}
	}
}

func logitsIn(t *testing.T, dir string, tokens []int32, compute backend.Compute) [][]float32 {
	t.Helper()
	rows, err := mustLoadIn(t, New(), dir, compute).Logits(t.Context(), tokens, nil)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", compute, err))
	}
	return rows
}
