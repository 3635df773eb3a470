package bandwidth

import (
	"math/rand/v2"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// TestFold holds the loop of each level to the plain one, and both to seeing a change of any byte.
func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, l := range cpu.Levels() {
		t.Run(string(l), func(t *testing.T) {
			fold := foldOf(l)
			for _, blocks := range []int{0, 1, 2, 3, 17, 100} {
				b := make([]byte, 3+blocks*block)[3:] // aligned to nothing
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				want := foldPlain(b)
				if got := fold(b); got != want {
					t.Fatalf("%d blocks fold to %x, want %x", blocks, got, want)
				}
				for i := range b {
					b[i] ^= 0x40
					if got := fold(b); got != want^0x40<<(i%8*8) {
						t.Fatalf("of %d blocks byte %d changes %x to %x", blocks, i, want, got)
					}
					b[i] ^= 0x40
				}
			}
		})
	}
}

func TestRead(t *testing.T) {
	m, err := New(3, 1<<20+100)
	if err != nil {
		t.Fatal(err)
	}
	if m.Bytes() != 3<<20 {
		t.Errorf("%d bytes", m.Bytes())
	}
	if rate, err := m.Read(); err != nil || rate <= 0 {
		t.Errorf("%g bytes a second, %v", rate, err)
	}
	m.parts[2][1<<20-1]++
	if rate, err := m.Read(); err == nil {
		t.Errorf("a byte that is not what was written was read at %g bytes a second", rate)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkRead reads memory in two threads at each level.
func BenchmarkRead(b *testing.B) {
	m, err := New(2, 256<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for _, l := range cpu.Levels() {
		b.Run(string(l), func(b *testing.B) {
			before := fold
			defer func() { fold = before }()
			fold = foldOf(l)
			best := 0.0
			for b.Loop() {
				rate, err := m.Read()
				if err != nil {
					b.Fatal(err)
				}
				best = max(best, rate)
			}
			b.ReportMetric(best/1e9, "GB/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
