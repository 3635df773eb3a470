package sha

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// atEachLevel runs a test with the kernels of each level that this processor runs.
func atEachLevel(t *testing.T, test func(t *testing.T)) {
	for _, l := range cpu.Levels() {
		t.Run(string(l), func(t *testing.T) {
			before := blocks
			defer func() { blocks = before }()
			blocks = blocksOf(l)
			test(t)
		})
	}
}

// check hashes sixteen streams in parts of so many blocks, and ends of their own, and compares with crypto/sha256.
func check(t *testing.T, data []byte, stride int, parts []int, end int) {
	t.Helper()
	h := New()
	at := 0
	for _, p := range parts {
		n := p * BlockSize
		h.Write(cut(data, stride, at, n))
		at += n
	}
	for i := range Streams {
		rest := min(end+i, stride-at)
		one := h.Stream(i)
		one.Write(data[i*stride+at:][:rest])
		if got, want := [32]byte(one.Sum(nil)), sha256.Sum256(data[i*stride:][:at+rest]); got != want {
			t.Fatalf("stream %d of %v blocks and %d bytes: %x, want %x", i, parts, rest, got, want)
		}
	}
}

// cut takes n bytes of each stream; they lie stride apart.
func cut(data []byte, stride, at, n int) *[Streams][]byte {
	var streams [Streams][]byte
	for i := range streams {
		streams[i] = data[i*stride+at:][:n]
	}
	return &streams
}

func TestStreams(t *testing.T) {
	atEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, parts := range [][]int{{}, {0}, {1}, {2}, {1, 1, 3}, {40, 0, 7}} {
			for _, end := range []int{0, 1, 55, 63, 64, 200} {
				stride := 60*BlockSize + r.IntN(100)
				data := make([]byte, Streams*stride)
				for i := range data {
					data[i] = byte(r.Uint32())
				}
				check(t, data, stride, parts, end)
			}
		}
	})
}

func FuzzStreams(f *testing.F) {
	f.Add([]byte("abc"), uint8(1), uint8(2), uint8(5))
	f.Add([]byte{0xff}, uint8(0), uint8(9), uint8(64))
	f.Fuzz(func(t *testing.T, seed []byte, first, second, end uint8) {
		stride := (int(first)+int(second))*BlockSize + int(end)
		data := make([]byte, Streams*stride)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
			if len(seed) > 0 {
				data[i] ^= seed[i%len(seed)]
			}
		}
		check(t, data, stride, []int{int(first), int(second)}, int(end))
	})
}

func BenchmarkStreams(b *testing.B) {
	const stride = 64<<10 + BlockSize
	data := make([]byte, Streams*stride)
	for _, l := range cpu.Levels() {
		b.Run(fmt.Sprintf("16 at once/%s", l), func(b *testing.B) {
			before := blocks
			defer func() { blocks = before }()
			blocks = blocksOf(l)
			h := New()
			streams := cut(data, stride, 0, 64<<10)
			b.SetBytes(Streams * 64 << 10)
			for b.Loop() {
				h.Write(streams)
			}
		})
	}
	b.Run("one", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			sha256.Sum256(data)
		}
	})
}
