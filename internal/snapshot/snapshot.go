// Package snapshot remembers what a program looked at, so that a later one sees in one go whether anything of it has changed.
//
// A snapshot is a list of paths with the metadata that each had (device, inode, size, mtime, ctime), or the fact that nothing was there, and an answer that holds as long as all of it is so. Nothing is read but
// metadata. It is a shortcut and never the truth: a snapshot that is lost, damaged, or of anything that may have moved while it was taken is none, and the long way gives the same answer.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// magic names the format. Another version is no snapshot.
const magic = "mlxbuild-snapshot 1\n"

// state is what was found at a path.
type state byte

const (
	absent   state = iota // nothing, links followed
	followed              // something with this tuple, links followed
	itself                // something with this tuple, which may be a link
	noFile                // something that is not a regular file, links followed: only that counts
	states
)

// tuple is a file's identity and age: device, inode, size, mtime and ctime in nanoseconds.
type tuple [5]int64

const tupleSize = 5 * 8

// Snapshot is what was seen in one folder after the other.
//
// On disk it is: magic, the length of the answer, the answer, then blocks; at the end the SHA-256 of all that. A block is its length, the length of a folder's path, the path, and for each name looked at from
// there a state, the length of the name, the name, and where the state has one the tuple, little-endian. Lengths are varints. It is searched by nobody, so it is read once from its beginning to its end, and no map
// or slice of its entries is made.
type Snapshot struct {
	answer []byte
	blocks [][]byte // each as on disk
}

// blockEntries is how many names a block has at most, so that every core gets its part of a large folder.
const blockEntries = 256

// Parse takes a snapshot apart; nil when anything is wrong with it.
func Parse(data []byte) *Snapshot {
	if len(data) < len(magic)+sha256.Size || string(data[:len(magic)]) != magic {
		return nil
	}
	body, want := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], want) {
		return nil
	}
	r := reader{rest: body[len(magic):]}
	s := &Snapshot{answer: r.block()}
	for len(r.rest) > 0 && !r.bad {
		s.blocks = append(s.blocks, r.block())
	}
	if r.bad {
		return nil
	}
	return s
}

// Answer that was given when everything was as it is in the snapshot.
func (s *Snapshot) Answer() []byte { return s.answer }

// entriesAWorker is how many metadata calls are worth a thread of their own: one takes half a microsecond, starting a thread some fifty.
const entriesAWorker = 500

// Same reports whether everything is as it was. Blocks are looked at on every core: the kernel is what takes the time, and it takes two calls at once.
func (s *Snapshot) Same() bool {
	size := 0
	for _, b := range s.blocks {
		size += len(b)
	}
	workers := min(runtime.GOMAXPROCS(0), 1+size/(entriesAWorker*(tupleSize+16)))
	var next atomic.Int64
	var moved atomic.Bool
	work := func() {
		for !moved.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(s.blocks) {
				return
			}
			if !blockIsSame(s.blocks[i]) {
				moved.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return !moved.Load()
}

// reader takes lengths and blocks from the front of a snapshot. After anything that cannot be, it is bad and gives nothing more.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) block() []byte {
	n, width := binary.Uvarint(r.rest)
	if width <= 0 || n > uint64(len(r.rest)-width) {
		r.rest, r.bad = nil, true
		return nil
	}
	return r.take(width + int(n))[width:]
}

// take n bytes.
func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.bad = nil, true
		return make([]byte, n)
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) entry() (e entry) {
	e.state = state(r.take(1)[0])
	e.name = string(r.block())
	if e.state == followed || e.state == itself {
		raw := r.take(tupleSize)
		for i := range e.tuple {
			e.tuple[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
		}
	}
	r.bad = r.bad || e.state >= states
	return e
}

// entry is one name that was looked at.
type entry struct {
	name  string
	state state
	tuple tuple
}

func (e entry) append(to []byte) []byte {
	to = appendBlock(append(to, byte(e.state)), []byte(e.name))
	if e.state == followed || e.state == itself {
		for _, v := range e.tuple {
			to = binary.LittleEndian.AppendUint64(to, uint64(v))
		}
	}
	return to
}

func appendBlock(to, block []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(block))), block...)
}

// format writes a snapshot.
func format(answer []byte, folders map[string][]entry) []byte {
	out := appendBlock([]byte(magic), answer)
	names := make([]string, 0, len(folders))
	for name := range folders {
		names = append(names, name)
	}
	slices.Sort(names)
	var block []byte
	for _, name := range names {
		for some := range slices.Chunk(folders[name], blockEntries) {
			block = appendBlock(block[:0], []byte(name))
			for _, e := range some {
				block = e.append(block)
			}
			out = appendBlock(out, block)
		}
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// split a path into its folder and its name there.
func split(path string) (dir, name string) {
	return filepath.Dir(path), filepath.Base(path)
}
