package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A large file from a server of this machine, with real limits, as fast as it goes and at the speed of a good network, with its content proved and not.
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
		pace        int64 // bytes a second of the whole server; 0: as fast as it can
	}{{"proved", false, 8, 0}, {"unproved", true, 8, 0}, {"proved-1", false, 1, 0}, {"unproved-1", true, 1, 0}, {"proved-200MB", false, 8, 200e6}, {"unproved-200MB", true, 8, 200e6}} {
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
				h.pace(mode.pace)
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

// pace holds the server to a speed from now on.
func (h *testHub) pace(speed int64) {
	if speed == 0 {
		h.setHold(nil)
		return
	}
	start, from := time.Now(), h.total()
	h.setHold(func() {
		due := time.Duration(float64(h.total()-from) / float64(speed) * float64(time.Second))
		if ahead := due - time.Since(start); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
	})
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
