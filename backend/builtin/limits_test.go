package builtin

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// having is a runtime with so much memory.
func having(bytes int64) Runtime {
	return Runtime{workers: 2, memory: func() int64 { return bytes }}
}

// Weights that there is no memory for stay in their files, and the text is the same.
func TestLittleMemory(t *testing.T) {
	dir := quantized(t, oracle.SmolLM2(t), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	var texts []string
	var buffers int64
	for _, r := range []Runtime{{workers: 2}, having(0), having(100 << 20), having(40 << 20)} {
		m := mustLoadIn(t, r, dir, backend.Fast).(*model)
		buffers = m.Memory(backend.PhaseLoad) - m.info.WeightsBytes
		out, err := m.Generate(context.Background(), smolPrompts[:1], backend.GenerateOptions{MaxTokens: 4}, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, fmt.Sprint(out[0].Tokens))
		if texts[0] != texts[len(texts)-1] {
			t.Errorf("the texts are %s", texts)
		}
		if r.memory == nil || r.memory() == 0 {
			continue
		}
		laid := m.network.Bytes() - buffers
		if most := r.memory() / 8 * 7; laid < most/4 || laid+buffers > most {
			t.Errorf("of %d bytes weights took %d, and buffers %d", r.memory(), laid, buffers)
		}
		var e *tensor.MemoryError
		if _, err := m.Generate(context.Background(), [][]int32{make([]int32, 8000)}, backend.GenerateOptions{MaxTokens: 4}, nil); !errors.As(err, &e) {
			t.Errorf("8000 tokens in %d bytes: %v", r.memory(), err)
		}
		if _, err := m.Hidden(context.Background(), make([]int32, 8000)); !errors.As(err, &e) {
			t.Errorf("8000 tokens in %d bytes: %v", r.memory(), err)
		}
		if out, err = m.Generate(context.Background(), smolPrompts[:1], backend.GenerateOptions{MaxTokens: 4}, nil); err != nil || fmt.Sprint(out[0].Tokens) != texts[0] {
			t.Errorf("after that: %v, %v", out, err)
		}
	}
	var e *tensor.MemoryError
	if _, err := having(buffers).Load(context.Background(), dir, backend.Fast); !errors.As(err, &e) {
		t.Errorf("with memory for nothing but buffers: %v", err)
	}
}

// There are never more workers than processors to run them.
func TestNoMoreWorkersThanCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct{ asked, want int }{{1, 1}, {4 * runtime.NumCPU(), runtime.NumCPU()}} {
		runtime.GOMAXPROCS(c.asked)
		m := mustLoad(t, New(), oracle.TinyStories(t)).(*model)
		if got := m.pool.Workers(); got != c.want {
			t.Errorf("GOMAXPROCS=%d on %d processors: %d workers", c.asked, runtime.NumCPU(), got)
		}
	}
}
