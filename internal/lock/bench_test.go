package lock

import (
	"fmt"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// A lock of 100 models with ten files each, as a build with nothing to do reads it.
func BenchmarkParse(b *testing.B) {
	l := New()
	for m := range 100 {
		var files []File
		for f := range 10 {
			files = append(files, File{fmt.Sprintf("model-%05d-of-00010.safetensors", f), 5 << 30, cache.SumBytes(fmt.Append(nil, m, f))})
		}
		l.Set(fmt.Sprintf("hf:org/name-%d@main", m), Pin{Kind: "model", Commit: fmt.Sprintf("%040d", m), Type: "llama"}, files)
	}
	data := l.Format()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Parse(Name, data); err != nil {
			b.Fatal(err)
		}
	}
}
