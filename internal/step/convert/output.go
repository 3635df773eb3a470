package convert

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// output is one file that is written out of order and hashed in order, by those who write it: whoever writes the bytes that come next hashes them, while they stand in the processor's cache, and whoever has to leave bytes behind
// a gap leaves them to the others, who look at them in the file. Nobody else hashes, so that of many files written at once none falls behind. The file is open from its first block until it is hashed, so that a model of very many shards
// does not need as many open files.
type output struct {
	shard safetensors.Shard
	path  string
	once  sync.Once
	file  *os.File

	mu   sync.Mutex
	turn *sync.Cond
	err  error // of opening, or of reading back
	// Everything before these is hashed; is hashed, or somebody is about to; is written.
	hashed, claimed, whole int64
	// Written parts behind a gap, joined where they touch, so that there are few of them whatever the file's size: begin -> end, and back.
	ends, begins map[int64]int64

	// Of who has claimed what comes next:
	sum     hash.Hash
	view    *safetensors.Mapping // of the file; nil = it is read back
	back    []byte               // what is read back
	flushed int64                // everything before was sent to the disk
}

func newOutput(s safetensors.Shard, path string) *output {
	o := &output{shard: s, path: path, sum: sha256.New(), ends: map[int64]int64{}, begins: map[int64]int64{}}
	o.turn = sync.NewCond(&o.mu)
	return o
}

// open makes the file, with its header.
func (o *output) open() {
	if o.file, o.err = os.OpenFile(o.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); o.err != nil {
		return
	}
	if _, o.err = o.file.WriteAt(o.shard.Header, 0); o.err != nil {
		o.file.Close()
		return
	}
	o.view = safetensors.Written(o.file, o.shard.Size)
	o.sum.Write(o.shard.Header)
	o.hashed = int64(len(o.shard.Header))
	o.claimed, o.whole = o.hashed, o.hashed
}

// write writes a block to its place, and hashes it when it is next.
func (o *output) write(b []byte, at int64) error {
	o.once.Do(o.open)
	if err := o.failure(); err != nil {
		return err
	}
	if _, err := o.file.WriteAt(b, at); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	end := at + int64(len(b))
	o.wrote(at, end)
	if at == o.claimed && end > at { // those before it are hashed, or are being hashed by others at this instant
		o.claimed = end
		for o.hashed < at && o.err == nil {
			o.turn.Wait()
		}
		if o.err == nil {
			o.hash(end, func() error { o.sum.Write(b); return nil })
		}
	}
	o.catchUp(blockBytes) // not all of it: another file may need this worker more
	return o.err
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// wrote notes a part of the file.
func (o *output) wrote(begin, end int64) {
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
		return
	}
	o.ends[begin], o.begins[end] = end, begin
}

// hash has claimed bytes added, whose turn it is, up to end. What is hashed is sent to the disk, so that syncing the file at the end is quick.
func (o *output) hash(end int64, add func() error) {
	o.mu.Unlock()
	err := add()
	if end-o.flushed >= flushBytes || end == o.shard.Size {
		flush(o.file, o.flushed, end-o.flushed)
		o.view.Release(o.flushed, end)
		o.flushed = end
	}
	o.mu.Lock()
	defer o.turn.Broadcast()
	if o.err == nil {
		o.err = err
	}
	if o.hashed = end; end == o.shard.Size {
		o.close()
	}
}

// close the file.
func (o *output) close() {
	o.view.Close()
	if err := o.file.Close(); o.err == nil {
		o.err = err
	}
}

// flushBytes is how much is sent to the disk at a time.
const flushBytes = 8 << 20

// backBytes is how much is hashed of the file at a time: little enough to stay in the processor's cache.
const backBytes = 256 << 10

// catchUp hashes what was left behind a gap that is closed, up to about most bytes, unless somebody else is at it.
func (o *output) catchUp(most int64) {
	for o.err == nil && most > 0 && o.claimed == o.hashed && o.hashed < o.whole {
		begin, end := o.hashed, min(o.hashed+backBytes, o.whole)
		o.claimed = end
		o.hash(end, func() error { return o.again(begin, end) })
		most -= end - begin
	}
}

// again hashes a part of the file: in place where it is mapped.
func (o *output) again(begin, end int64) error {
	if o.view != nil {
		cut, _ := safetensors.Faults(func() error { o.sum.Write(o.view.Part(begin, end)); return nil })
		if cut {
			return fmt.Errorf("%s became shorter while it was written", o.path)
		}
		return nil
	}
	if o.back == nil {
		o.back = make([]byte, backBytes)
	}
	b := o.back[:end-begin]
	if _, err := o.file.ReadAt(b, begin); err != nil {
		return fmt.Errorf("%s cannot be read back: %w", o.path, err)
	}
	o.sum.Write(b)
	return nil
}

// finish returns the digest of the file, which is written by now.
func (o *output) finish() (cache.Digest, error) {
	o.once.Do(o.open)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.catchUp(o.shard.Size)
	if o.err == nil && o.hashed < o.shard.Size {
		o.err = fmt.Errorf("%s is not complete", o.path)
	}
	if o.err != nil {
		return cache.Digest{}, o.err
	}
	return cache.Digest(o.sum.Sum(nil)), nil
}

// stop closes the file, whether or not it is whole. Nobody may be writing it.
func (o *output) stop() {
	o.once.Do(func() {})
	if o.file != nil {
		o.close()
	}
}
