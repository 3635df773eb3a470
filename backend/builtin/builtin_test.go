package builtin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// uniform quantizes every matrix in one way.
func uniform(s quant.Scheme) func(string, int64) quant.Scheme {
	return func(_ string, cols int64) quant.Scheme {
		if cols%int64(s.GroupSize) != 0 {
			return quant.Scheme{}
		}
		return s
	}
}

// mixed has another scheme for each kind of module.
func mixed(module string, _ int64) quant.Scheme {
	switch {
	case strings.HasSuffix(module, "q_proj"):
		return quant.Scheme{}
	case strings.HasSuffix(module, "k_proj"):
		return quant.Scheme{Mode: quant.NVFP4, Bits: 4, GroupSize: 16}
	case strings.HasSuffix(module, "v_proj"):
		return quant.Scheme{Mode: quant.Affine, Bits: 6, GroupSize: 32}
	case strings.HasSuffix(module, "down_proj"):
		return quant.Scheme{Mode: quant.Affine, Bits: 3, GroupSize: 128}
	case strings.Contains(module, "embed"):
		return quant.Scheme{Mode: quant.MXFP8, Bits: 8, GroupSize: 32}
	}
	return quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}
}

func quantized(t testing.TB, src string, scheme func(string, int64) quant.Scheme) string {
	t.Helper()
	dir := t.TempDir()
	backendtest.Quantize(t, dir, src, scheme)
	return dir
}

func TestConformance(t *testing.T) {
	src := oracle.TinyStories(t)
	t.Run("bf16", func(t *testing.T) { backendtest.Run(t, New(), src) })
	t.Run("float64", func(t *testing.T) { backendtest.RunIn(t, New(), src, backend.Float64) })
	for _, s := range []quant.Scheme{{Mode: quant.Affine, Bits: 4, GroupSize: 64}, {Mode: quant.MXFP4, Bits: 4, GroupSize: 32}} {
		t.Run(fmt.Sprint(s), func(t *testing.T) { backendtest.Run(t, New(), quantized(t, src, uniform(s))) })
	}
	t.Run("mixed", func(t *testing.T) { backendtest.Run(t, New(), quantized(t, src, mixed)) })
	for _, compute := range []backend.Compute{backend.Fast, backend.Int8} {
		t.Run(string(compute), func(t *testing.T) { backendtest.RunIn(t, New(), quantized(t, src, mixed), compute) })
	}
}
