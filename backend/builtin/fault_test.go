//go:build unix

package builtin

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// TestCut cuts the weights of a model that is loaded: an error, and the process lives.
func TestCut(t *testing.T) {
	for _, scheme := range []quant.Scheme{{}, {Mode: quant.Affine, Bits: 4, GroupSize: 64}} {
		for _, compute := range Computes {
			dir := quantized(t, oracle.TinyStories(t), uniformOrNone(scheme))
			m := mustLoadIn(t, New(), dir, compute)
			h, err := OpenHead(dir, compute)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			if err := os.Truncate(files[0], 4096); err != nil {
				t.Fatal(err)
			}
			var cut *CutError
			if _, err := m.Logits(t.Context(), someTokens, nil); !errors.As(err, &cut) || cut.Dir != dir {
				t.Errorf("%s in %s: logits: %v", scheme, compute, err)
			}
			if _, err := m.Generate(t.Context(), [][]int32{someTokens}, backend.GenerateOptions{MaxTokens: 2}, nil); !errors.As(err, &cut) {
				t.Errorf("%s in %s: text: %v", scheme, compute, err)
			}
			if err := h.Logits(make([]float32, h.Vocabulary()), make([]float32, h.Hidden())); !errors.As(err, &cut) {
				t.Errorf("%s in %s: the head: %v", scheme, compute, err)
			}
		}
	}
}

// TestWritten writes to the weights of a model that is loaded: what it computes then may be anything, and is refused. A file that takes the place of another changes nothing.
func TestWritten(t *testing.T) {
	for _, compute := range Computes {
		dir := quantized(t, oracle.TinyStories(t), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
		m := mustLoadIn(t, New(), dir, compute)
		files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(files[0], files[0]+".old"), os.WriteFile(files[0], content[:100], 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Logits(t.Context(), someTokens, nil); err != nil {
			t.Errorf("%s: after a file was replaced: %v", compute, err)
		}
		if err := errors.Join(os.Rename(files[0]+".old", files[0]), os.WriteFile(files[0], content, 0o644)); err != nil {
			t.Fatal(err)
		}
		var cut *CutError
		if _, err := m.Logits(t.Context(), someTokens, nil); !errors.As(err, &cut) {
			t.Errorf("%s: logits: %v", compute, err)
		}
		if _, err := m.Generate(t.Context(), [][]int32{someTokens}, backend.GenerateOptions{MaxTokens: 2}, nil); !errors.As(err, &cut) {
			t.Errorf("%s: text: %v", compute, err)
		}
	}
}

func uniformOrNone(s quant.Scheme) func(string, int64) quant.Scheme {
	if s.Mode == "" {
		return func(string, int64) quant.Scheme { return s }
	}
	return uniform(s)
}
