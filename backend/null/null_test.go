package null

import (
	"slices"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/backendtest"
)

func TestConformance(t *testing.T) { backendtest.Run(t, New(), t.TempDir()) }

func TestKnownResults(t *testing.T) {
	m, err := New().Load(t.Context(), t.TempDir(), backend.Float32)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Generate(t.Context(), [][]int32{{5, 1021}}, backend.GenerateOptions{MaxTokens: 9}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := got[0]
	if !slices.Equal(r.Tokens, []int32{1022, 1023, 0}) || r.FinishReason != backend.FinishStop || r.At[2] != 5*time.Millisecond {
		t.Errorf("%+v", r)
	}
}
