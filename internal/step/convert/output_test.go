package convert

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Whatever the order in which parts are written, and by how many, the digest is that of the file; also where files are not mapped.
func TestOutputInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for round := range 30 {
		content := make([]byte, 1+r.IntN(3*blockBytes))
		for i := range content {
			content[i] = byte(r.Uint32())
		}
		header := content[:r.IntN(min(100, len(content)))]
		var parts [][2]int
		for at := len(header); at < len(content); {
			n := 1 + r.IntN(min(len(content)-at, 1+len(content)/20))
			parts = append(parts, [2]int{at, at + n})
			at += n
		}
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		o := newOutput(safetensors.Shard{Name: "x", Header: header, Size: int64(len(content))}, filepath.Join(t.TempDir(), "x"))
		if round%2 == 1 {
			unmapped(o)
		}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := worker; i < len(parts); i += 4 {
					if err := o.write(content[parts[i][0]:parts[i][1]], int64(parts[i][0])); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		d, err := o.finish()
		if err != nil || d != sha256.Sum256(content) {
			t.Fatalf("digest %s, %v", d.Short(), err)
		}
		if len(o.ends)+len(o.begins) > 0 {
			t.Errorf("%d parts are left behind gaps", len(o.ends))
		}
	}
}

// A file that is not finished is not waited for.
func TestOutputStops(t *testing.T) {
	o := newOutput(safetensors.Shard{Name: "x", Header: []byte("h"), Size: 10}, filepath.Join(t.TempDir(), "x"))
	if err := o.write([]byte("abc"), 3); err != nil {
		t.Fatal(err)
	}
	o.stop()
	if _, err := o.finish(); err == nil {
		t.Error("a file with gaps has a digest")
	}
	newOutput(safetensors.Shard{Name: "y", Size: 10}, "").stop() // never opened
}

// unmapped has a file that is not written yet read back instead of mapped.
func unmapped(o *output) {
	o.once.Do(o.open)
	o.view.Close()
	o.view = nil
}

// A file that somebody cuts while it is written has no digest, and nothing crashes.
func TestOutputIsCut(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		o := newOutput(safetensors.Shard{Name: "x", Header: []byte("h"), Size: 1 << 20}, filepath.Join(t.TempDir(), "x"))
		if !mapped {
			unmapped(o)
		}
		content := make([]byte, 1<<20)
		if err := o.write(content[2:], 2); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(o.path, 2); err != nil {
			t.Fatal(err)
		}
		if err := o.write(content[1:2], 1); err == nil {
			t.Error("what was cut is hashed")
		}
		if _, err := o.finish(); err == nil || !strings.Contains(err.Error(), o.path) {
			t.Errorf("a file that was cut: %v", err)
		}
		o.stop()
	}
}
