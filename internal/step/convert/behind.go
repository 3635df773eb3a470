package convert

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// behind hashes a file in order while its blocks are written out of order: it knows how far the file is whole and reads up to there, from the page cache, where the bytes still are.
type behind struct {
	mu    sync.Mutex
	cond  *sync.Cond
	whole int64           // everything before is written
	ahead map[int64]int64 // written blocks behind a gap: begin -> end
	ended bool
	err   error
}

func newBehind(s safetensors.Shard) *behind {
	b := &behind{whole: int64(len(s.Header)), ahead: map[int64]int64{}}
	b.cond = sync.NewCond(&b.mu)
	return b
}

// wrote notes a block.
func (b *behind) wrote(at, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead[at] = at + n
	for {
		end, ok := b.ahead[b.whole]
		if !ok || end == b.whole {
			break
		}
		delete(b.ahead, b.whole)
		b.whole = end
	}
	b.cond.Signal()
}

// stop says that no more blocks come.
func (b *behind) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.cond.Signal()
}

// hash returns the digest of the file's size bytes. When the writers end before the file is whole it sets err.
func (b *behind) hash(f *os.File, size int64) cache.Digest {
	h := sha256.New()
	buf := make([]byte, blockBytes)
	for at := int64(0); at < size; {
		end := b.wait(at)
		if end <= at {
			b.err = fmt.Errorf("BUG: the file is whole up to byte %d of %d", at, size)
			return cache.Digest{}
		}
		for at < end {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			h.Write(buf[:n])
			at += int64(n)
			if err == nil && n == 0 || err == io.EOF && at < end {
				err = io.ErrUnexpectedEOF
			}
			if err != nil && err != io.EOF {
				b.err = err
				return cache.Digest{}
			}
		}
	}
	return cache.Digest(h.Sum(nil))
}

// wait for more than at bytes of the file to be whole.
func (b *behind) wait(at int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.whole <= at && !b.ended {
		b.cond.Wait()
	}
	return b.whole
}
