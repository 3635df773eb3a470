package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A large file from a server of this machine, with real limits. hash-ms is what the hash takes after the last byte was written: what proving the content adds to a download.
func BenchmarkDownload(b *testing.B) {
	data := content(256 << 20)
	h := newHub(b, map[string][]byte{"model.safetensors": data})
	f := lfsFile("model.safetensors", data)
	want, err := hex.DecodeString(f.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range []struct {
		name        string
		unproved    bool
		connections int
	}{{"proved", false, 8}, {"unproved", true, 8}, {"proved-1", false, 1}, {"unproved-1", true, 1}} {
		b.Run(mode.name, func(b *testing.B) {
			c := h.client(b, Settings{}, Options{Connections: mode.connections})
			c.limits = defaultLimits
			if mode.unproved {
				c.prove = func(dl *download, _ context.Context) error {
					copy(dl.sum[:], want)
					return nil
				}
			}
			b.SetBytes(f.Size)
			for b.Loop() {
				d := newPlace(b)
				if _, err := c.Download(b.Context(), repo, commit, f, d); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := os.RemoveAll(filepath.Dir(d.Path)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// The hash alone, of the same bytes in a file, as sha256sum does it.
func BenchmarkHash(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(path, content(256<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(256 << 20)
	for b.Loop() {
		in, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(sha256.New(), struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		in.Close()
	}
}
