// Package snapshot remembers what a program looked at, so that a later one sees in one go whether anything of it has changed.
//
// A snapshot is a list of paths with the metadata that each had (device, inode, size, mtime, ctime), or the fact that nothing was there, and an answer that holds as long as all of it is so. Nothing is read but
// metadata. It is a shortcut and never the truth: a snapshot that is lost, damaged, or of anything that may have moved while it was taken is none, and the long way gives the same answer.
package snapshot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// magic names the format. Another version is no snapshot.
const magic = "mlxbuild-snapshot 3\n"

// A snapshot on disk is blocks of one size, each with its own checksum, so that every core reads, checks and looks at some of them. (With one checksum, reading and checking were done before anything was looked at: a tenth of the time
// of 240,000 entries.) In a block are: magic, its number, how many blocks there are, entries, zeros, and the checksum of all that. An entry is its state, the length of its name, the name, and where the state has one the tuple;
// lengths are varints, other numbers little-endian. The answer is the first entry of the first block. It is searched by nobody, so no map or slice of its entries is made.
const (
	blockSize  = 16 << 10
	blockStart = len(magic) + 4 + 4
	blockEnd   = blockSize - crc32.Size
)

// castagnoli is the checksum that file systems use for the same end, CRC-32C: it has to notice damage, not an enemy, who could write the snapshot as well. SHA-256 took a twentieth of the time.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is what was found at a path, or what else an entry is.
type state byte

const (
	end      state = iota // no more entries in this block
	answer                // the name is the answer
	folder                // names that follow are looked at from there
	absent                // nothing, links followed
	followed              // something with this tuple, links followed
	itself                // something with this tuple, which may be a link
	noFile                // something that is not a regular file, links followed: only that counts
	states
)

// hasTuple reports whether a tuple belongs to the state.
func (s state) hasTuple() bool { return s == followed || s == itself }

// tuple is a file's identity and age: device, inode, size, mtime and ctime in nanoseconds.
type tuple [5]int64

const tupleSize = 5 * 8

// blocksAWorker is how many blocks are worth a thread of their own: one has some 250 entries, each half a microsecond; starting a thread takes some fifty.
const blocksAWorker = 2

// Same reports whether everything is as it was in a snapshot of so many bytes, and the answer that was given then. Blocks are looked at on every core: the kernel is what takes the time, and it takes two calls at once.
func Same(r io.ReaderAt, size int64) (said []byte, same bool) {
	blocks := size / blockSize
	if blocks < 1 || blocks*blockSize != size || blocks > 1<<31 {
		return nil, false
	}
	var next atomic.Int64
	var differs atomic.Bool
	work := func() {
		block := make([]byte, blockSize)
		for i := next.Add(1) - 1; i < blocks && !differs.Load(); i = next.Add(1) - 1 {
			rest := readBlock(r, block, i, blocks)
			if i == 0 {
				var e entry
				if e, rest = nextEntry(rest); e.state == answer {
					said = bytes.Clone(e.name)
				} else {
					rest = nil
				}
			}
			if rest == nil || !allSame(rest) {
				differs.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(int64(runtime.GOMAXPROCS(0)), 1+(blocks-1)/blocksAWorker) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if differs.Load() {
		return nil, false
	}
	return said, true
}

// readBlock gives the entries of a block; nil when it is not that block of such a snapshot.
func readBlock(r io.ReaderAt, block []byte, number, blocks int64) []byte {
	if n, _ := r.ReadAt(block, number*blockSize); n < blockSize {
		return nil
	}
	if crc32.Checksum(block[:blockEnd], castagnoli) != binary.LittleEndian.Uint32(block[blockEnd:]) || !bytes.Equal(appendStart(nil, number, blocks), block[:blockStart]) {
		return nil
	}
	return block[blockStart:blockEnd]
}

func appendStart(to []byte, number, blocks int64) []byte {
	to = append(to, magic...)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(to, uint32(number)), uint32(blocks))
}

// entry is one name that was looked at.
type entry struct {
	name  []byte
	state state
	tuple tuple
}

// nextEntry takes an entry from the front of a block. Behind the last it is end, with nothing behind it; rest is nil where none can be.
func nextEntry(block []byte) (e entry, rest []byte) {
	if len(block) == 0 {
		return entry{}, []byte{}
	}
	e.state = state(block[0])
	if e.state == end {
		return entry{}, []byte{}
	}
	n, width := binary.Uvarint(block[1:])
	if e.state >= states || width <= 0 || n > uint64(len(block)-1-width) {
		return entry{}, nil
	}
	e.name, rest = block[1+width:][:n], block[1+width+int(n):]
	if !e.state.hasTuple() {
		return e, rest
	}
	if len(rest) < tupleSize {
		return entry{}, nil
	}
	for i := range e.tuple {
		e.tuple[i] = int64(binary.LittleEndian.Uint64(rest[8*i:]))
	}
	return e, rest[tupleSize:]
}

func (e entry) append(to []byte) []byte {
	to = append(binary.AppendUvarint(append(to, byte(e.state)), uint64(len(e.name))), e.name...)
	if e.state.hasTuple() {
		for _, v := range e.tuple {
			to = binary.LittleEndian.AppendUint64(to, uint64(v))
		}
	}
	return to
}

// format writes a snapshot. It is nil where an answer or a name is too long for a block.
func format(said []byte, folders map[string][]entry) []byte {
	w := writer{payloads: [][]byte{nil}}
	w.add(entry{state: answer, name: said}, nil)
	joinSmall(folders)
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		from := &entry{state: folder, name: []byte(dir)}
		if len(folders[dir]) > 0 {
			w.add(*from, nil)
		}
		for _, e := range folders[dir] {
			w.add(e, from)
		}
	}
	return w.blocks()
}

// worthOpening is how many names a folder must have to be opened for: opening it costs as much as looking at three files.
const worthOpening = 4

// joinSmall has names in a folder with few be looked at from the one above it.
func joinSmall(folders map[string][]entry) {
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(folders))) {
		above, name := split(dir)
		if above == dir || len(folders[dir]) >= worthOpening {
			continue
		}
		for _, e := range folders[dir] {
			e.name = append([]byte(name+"/"), e.name...)
			folders[above] = append(folders[above], e)
		}
		delete(folders, dir)
	}
}

// writer fills blocks with entries.
type writer struct {
	payloads [][]byte
	tooLong  bool
}

// add an entry of a folder that the block must know; nil where it is of none.
func (w *writer) add(e entry, from *entry) {
	raw, last := e.append(nil), &w.payloads[len(w.payloads)-1]
	if len(*last)+len(raw) > blockEnd-blockStart {
		w.payloads = append(w.payloads, nil)
		last = &w.payloads[len(w.payloads)-1]
		if from != nil {
			*last = from.append(*last)
		}
		w.tooLong = w.tooLong || len(*last)+len(raw) > blockEnd-blockStart
	}
	*last = append(*last, raw...)
}

func (w *writer) blocks() []byte {
	if w.tooLong {
		return nil
	}
	out := make([]byte, 0, len(w.payloads)*blockSize)
	for i, payload := range w.payloads {
		block := make([]byte, blockEnd)
		copy(block[copy(block, appendStart(nil, int64(i), int64(len(w.payloads)))):], payload)
		out = binary.LittleEndian.AppendUint32(append(out, block...), crc32.Checksum(block, castagnoli))
	}
	return out
}

// split a path into its folder and its name there.
func split(path string) (dir, name string) {
	return filepath.Dir(path), filepath.Base(path)
}
