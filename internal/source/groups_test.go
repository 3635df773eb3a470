package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Whatever the sizes of tensors, and however many are hashed at once, each has its own digest and is counted once; a file that ends too early is an error.
func TestHashTensors(t *testing.T) {
	for _, cores := range []int{1, 3} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		r := rand.New(rand.NewPCG(5, uint64(cores)))
		var tensors []safetensors.Tensor
		var data []byte
		for i := range 130 {
			n := []int{0, 1, 63, 64, 65, 2 * chunk, 3*chunk - 70 + i, 3*chunk + i, 4 * chunk}[r.IntN(9)]
			tensors = append(tensors, safetensors.Tensor{Begin: int64(len(data)), End: int64(len(data) + n)})
			data = append(data, make([]byte, n)...)
		}
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		path := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		mapped := safetensors.InPlace(path, int64(len(data)))
		defer mapped.Close()
		for _, mapping := range []*safetensors.Mapping{nil, mapped} {
			var counted atomic.Int64
			sums, err := hashTensors(context.Background(), bytes.NewReader(data), mapping, tensors, func(n int64) { counted.Add(n) })
			if err != nil || counted.Load() != int64(len(data)) {
				t.Fatalf("%v; %d of %d bytes were counted", err, counted.Load(), len(data))
			}
			for i, x := range tensors {
				if sums[i] != cache.Digest(sha256.Sum256(data[x.Begin:x.End])) {
					t.Errorf("tensor %d of %d bytes has another digest", i, x.Bytes())
				}
			}
		}
		if err := os.Truncate(path, int64(len(data)/2)); err != nil {
			t.Fatal(err)
		}
		for _, mapping := range []*safetensors.Mapping{nil, mapped} {
			_, err := hashTensors(context.Background(), bytes.NewReader(data[:len(data)/2]), mapping, tensors, nil)
			if err == nil || !strings.Contains(err.Error(), "became shorter") {
				t.Errorf("a file that is too short: %v", err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := hashTensors(ctx, bytes.NewReader(data), nil, tensors, nil); err == nil {
			t.Error("cancelled, it went on")
		}
	}
}
