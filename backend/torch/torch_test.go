package torch

import (
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

func runtime(t *testing.T) *worker.Runtime {
	t.Helper()
	r := New(worker.Finder{Flag: oracle.Python(t), Dir: filepath.Join(t.TempDir(), "runtimes")})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestConformance(t *testing.T) {
	r, src := runtime(t), oracle.TinyStories(t)
	t.Run("bf16", func(t *testing.T) { backendtest.RunWithin(t, r, src, 1e-5) })
	t.Run("4 bits", func(t *testing.T) {
		dir := t.TempDir()
		backendtest.Quantize(t, dir, src, func(string, int64) quant.Scheme { return quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64} })
		backendtest.RunWithin(t, r, dir, 1e-5)
	})
}
