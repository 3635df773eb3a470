package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// racy is how old a file must be, when hashing starts, for its metadata to stand for its content afterwards: file systems' clocks tick every few milliseconds, and a second
// write in the same tick leaves no trace.
const racy = 20 * time.Millisecond

// Settle waits until a file that was last changed at this time is old enough to be known by its metadata once it is hashed. It is false for a time that has not come yet, by a clock that is
// wrong: such a file is hashed each time.
func Settle(changed time.Time) bool {
	age := time.Since(changed)
	if age >= 0 && age <= racy {
		time.Sleep(racy - age + time.Millisecond)
	}
	return age >= 0
}

// LastChange is when a file's content or metadata was changed last: ctime, or mtime where that is later, as on file systems that do not keep ctime. A mtime that has not come yet was set by somebody, which ctime tells the time of.
func LastChange(info os.FileInfo) time.Time {
	t := tupleOf(info)
	changed, written := time.Unix(0, t.ctime), time.Unix(0, t.mtime)
	if t.ctime == 0 || written.After(changed) && !written.After(time.Now()) {
		return written
	}
	return changed
}

// statTuple is what identifies a file's state.
type statTuple struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // ns
}

func (t statTuple) key(withCtime bool) Digest {
	var b [8 + 5*8]byte
	copy(b[:], "stat----")
	if !withCtime {
		copy(b[:], "statnoct")
		t.ctime = 0
	}
	for i, v := range []uint64{t.dev, t.ino, uint64(t.size), uint64(t.mtime), uint64(t.ctime)} {
		binary.LittleEndian.PutUint64(b[8+8*i:], v)
	}
	return SumBytes(b[:])
}

// StatKey is the digest of a file's device, inode, size, mtime and ctime, both in nanoseconds.
func StatKey(info os.FileInfo) Digest { return tupleOf(info).key(true) }

// RawStatKey is StatKey of a file that was looked at by other means than os.Stat; times in nanoseconds.
func RawStatKey(dev, ino uint64, size, mtime, ctime int64) Digest {
	return statTuple{dev, ino, size, mtime, ctime}.key(true)
}

// KnownFileDigest is the digest of a file that was hashed before and not touched since. It reads metadata only.
func (c *Cache) KnownFileDigest(path string) (Digest, int64, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return Digest{}, 0, false
	}
	d, ok := c.Memo(StatKey(info))
	return d, info.Size(), ok
}

// FileDigest hashes a file, unless it is known. progress is told of the bytes read; it may be nil.
func (c *Cache) FileDigest(path string, progress func(int64)) (Digest, int64, error) {
	if d, size, ok := c.KnownFileDigest(path); ok {
		return d, size, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Digest{}, 0, err
	}
	if !before.Mode().IsRegular() {
		return Digest{}, 0, fmt.Errorf("%s is not a file", path)
	}
	settled := Settle(LastChange(before))
	d, n, err := hashFile(f, progress)
	if err != nil {
		return Digest{}, 0, err
	}
	after, err := f.Stat()
	if err != nil {
		return Digest{}, 0, err
	}
	if StatKey(before) != StatKey(after) || n != before.Size() {
		return Digest{}, 0, fmt.Errorf("%s changed while it was read", path)
	}
	if err := OnDisk(f); err != nil {
		return Digest{}, 0, err
	}
	if settled {
		c.SetMemo(StatKey(before), d)
	}
	return d, n, nil
}

// OnDisk makes sure that what was just read of a file does not only stand in memory: its metadata may be on the disk before its bytes are, and after a power cut the one would stand for the other. For
// most files there is nothing to do. File systems and systems that cannot say count as sure: they would make every build read everything.
func OnDisk(f *os.File) error {
	if err := f.Sync(); errors.Is(err, syscall.EIO) || err != nil && isFull(err) {
		return fmt.Errorf("the disk cannot keep %s: %w", f.Name(), err)
	}
	return nil
}

// NoteFile remembers the digest of a file that the caller has just written itself.
func (c *Cache) NoteFile(path string, d Digest) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	c.SetMemo(StatKey(info), d)
	return nil
}

// SumReader is the digest of all that r gives.
func SumReader(r io.Reader) (Digest, error) {
	d, _, err := hashFile(r, nil)
	return d, err
}

// buffers of hashFile: most files of a cache are small, and a new buffer costs more than they do.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

func hashFile(r io.Reader, progress func(int64)) (Digest, int64, error) {
	h := sha256.New()
	room := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(room)
	buf := room[:]
	var total int64
	for {
		n, err := r.Read(buf)
		h.Write(buf[:n])
		total += int64(n)
		if progress != nil && n > 0 {
			progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return Digest(h.Sum(nil)), total, nil
		}
		if err != nil {
			return Digest{}, total, err
		}
	}
}
