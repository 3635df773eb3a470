package source

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// A file that streams by in pieces of any size has the listing that reading it gives; one that does not come whole has none.
func TestHasher(t *testing.T) {
	dir := oracle.TinyStories(t)
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := folder.Digests(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 8, 9, 4096, 1 << 20, len(data)} {
		h := NewHasher(int64(len(data)))
		for rest := data; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			h.Write(rest[:min(size, len(rest))])
		}
		if len(h.sums) != len(want.Tensors) {
			t.Fatalf("in pieces of %d: %d of %d tensors", size, len(h.sums), len(want.Tensors))
		}
		for i, tensor := range h.header.Tensors {
			if h.sums[i] != want.Tensors[tensor.Name] {
				t.Fatalf("in pieces of %d: %s has another digest", size, tensor.Name)
			}
		}
	}
	for _, cut := range []int{0, 5, 100, len(data) - 1} {
		h := NewHasher(int64(len(data)))
		h.Write(data[:cut])
		if h.header != nil && len(h.sums) == len(h.header.Tensors) {
			t.Errorf("cut at %d it has a listing", cut)
		}
	}
	h := NewHasher(int64(len(data)))
	h.Write(append([]byte{255, 255, 255, 255, 255, 255, 255, 255}, data...))
	if !h.lost {
		t.Error("a header of 2^64 bytes was waited for")
	}
	h = NewHasher(int64(len(data)))
	h.Write(data)
	if h.Lost(); h.header != nil || len(h.sums) > 0 {
		t.Error("what was thrown away has a listing")
	}
	h.Write(data)
	if h.header != nil {
		t.Error("it begins again after what it saw was thrown away")
	}
}
