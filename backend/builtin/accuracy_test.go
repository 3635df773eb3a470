package builtin

import (
	"fmt"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// TestAccuracy states what each arithmetic costs: the largest error of a logit against float64 on the same folder, as a share of the largest logit.
func TestAccuracy(t *testing.T) {
	for _, m := range []struct {
		name, dir string
		tokens    []int32
		bounds    map[backend.Compute]float64
	}{
		{"tiny", oracle.TinyStories(t), someTokens, map[backend.Compute]float64{backend.Float32: 3e-6, backend.Fast: 1e-3, backend.Int8: 6e-2}},
		{"SmolLM2", oracle.SmolLM2(t), smolPrompts[0], map[backend.Compute]float64{backend.Float32: 1e-5, backend.Fast: 5e-3, backend.Int8: 3e-1}},
	} {
		for _, s := range []quant.Scheme{{Mode: quant.Affine, Bits: 4, GroupSize: 64}, {Mode: quant.Affine, Bits: 8, GroupSize: 64}} {
			dir := quantized(t, m.dir, uniform(s))
			exact := logitsIn(t, dir, m.tokens, backend.Float64)
			for compute, bound := range m.bounds {
				worst := 0.0
				for i, row := range logitsIn(t, dir, m.tokens, compute) {
					worst = max(worst, distanceOf(row, exact[i]))
				}
				t.Logf("%s, %s, %s: %.2g", m.name, s, compute, worst)
				if !(worst <= bound) {
					t.Errorf("%s, %s, %s: an error of %.2g of the largest logit", m.name, s, compute, worst)
				}
			}
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
