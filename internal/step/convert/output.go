package convert

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// output is one file that is written out of order and hashed in order: it knows how far the file is whole, and a hasher reads up to there, from the page cache, where the bytes still are. The
// file is open from its first block until it is hashed, so that a model of very many shards does not need as many open files.
type output struct {
	shard safetensors.Shard
	path  string
	once  sync.Once
	file  *os.File
	err   error // of opening
	done  chan struct{}

	mu    sync.Mutex
	cond  *sync.Cond
	whole int64 // everything before is written
	ended bool
	// Written parts behind a gap, joined where they touch, so that there are few of them whatever the file's size: begin -> end, and back.
	ends, begins map[int64]int64

	sum     cache.Digest // after done
	hashErr error
}

func newOutput(s safetensors.Shard, path string) *output {
	o := &output{shard: s, path: path, ends: map[int64]int64{}, begins: map[int64]int64{}, done: make(chan struct{})}
	o.cond = sync.NewCond(&o.mu)
	return o
}

// open makes the file, with its header, and starts the hasher.
func (o *output) open() {
	if o.file, o.err = os.OpenFile(o.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); o.err != nil {
		close(o.done)
		return
	}
	if _, o.err = o.file.WriteAt(o.shard.Header, 0); o.err != nil {
		o.file.Close()
		close(o.done)
		return
	}
	o.whole = int64(len(o.shard.Header))
	go func() {
		defer close(o.done)
		o.sum, o.hashErr = o.hash()
		if err := o.file.Close(); o.hashErr == nil {
			o.hashErr = err
		}
	}()
}

// write writes a block to its place.
func (o *output) write(b []byte, at int64) error {
	o.once.Do(o.open)
	if o.err != nil {
		return o.err
	}
	if _, err := o.file.WriteAt(b, at); err != nil {
		if errors.Is(err, os.ErrClosed) { // by the hasher, which knows what is wrong
			<-o.done
			err = errors.Join(o.hashErr, err)
		}
		return err
	}
	o.wrote(at, at+int64(len(b)))
	return nil
}

// wrote notes a part of the file.
func (o *output) wrote(begin, end int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before, ok := o.begins[begin]; ok {
		delete(o.begins, begin)
		begin = before
	}
	if after, ok := o.ends[end]; ok {
		delete(o.ends, end)
		end = after
	}
	if begin == o.whole {
		delete(o.ends, begin)
		delete(o.begins, end)
		o.whole = end
		o.cond.Signal()
		return
	}
	o.ends[begin], o.begins[end] = end, begin
}

// finish returns the digest of the file, which is written by now.
func (o *output) finish() (cache.Digest, error) {
	o.once.Do(o.open)
	<-o.done
	if o.err != nil {
		return cache.Digest{}, o.err
	}
	return o.sum, o.hashErr
}

// stop ends the hasher, whether or not the file is whole.
func (o *output) stop() {
	o.mu.Lock()
	o.ended = true
	o.cond.Signal()
	o.mu.Unlock()
	opened := true
	o.once.Do(func() { opened = false })
	if opened {
		<-o.done
	}
}

// hash follows the writers. What is hashed is sent to the disk, so that syncing the file at the end is quick.
func (o *output) hash() (cache.Digest, error) {
	h := sha256.New()
	buf := make([]byte, blockBytes)
	var flushed int64
	for at := int64(0); at < o.shard.Size; {
		end := o.wait(at)
		if end <= at {
			return cache.Digest{}, fmt.Errorf("%s is not complete", o.path)
		}
		for at < end {
			n, err := o.file.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			h.Write(buf[:n])
			at += int64(n)
			if n == 0 {
				return cache.Digest{}, fmt.Errorf("%s cannot be read back: %w", o.path, err)
			}
		}
		if at-flushed >= flushBytes {
			flush(o.file, flushed, at-flushed)
			flushed = at
		}
	}
	return cache.Digest(h.Sum(nil)), nil
}

// flushBytes is how much is sent to the disk at a time.
const flushBytes = 8 << 20

// wait for more than at bytes of the file to be whole.
func (o *output) wait(at int64) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.whole <= at && !o.ended {
		o.cond.Wait()
	}
	return o.whole
}
