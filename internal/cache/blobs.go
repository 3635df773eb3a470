package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// ErrMissing says that a blob is not there, or was not what its name says and has been moved away.
var ErrMissing = errors.New("not in the cache")

// Blob finds a blob that can be trusted: its path and size. One whose metadata is not as remembered is hashed first.
func (c *Cache) Blob(d Digest) (path string, size int64, err error) {
	if path, size, ok := c.KnownBlob(d); ok {
		return path, size, nil
	}
	path = c.path("blobs", d)
	info, err := os.Lstat(path)
	if err != nil {
		return "", 0, missing(err)
	}
	if !info.Mode().IsRegular() {
		return "", 0, ErrMissing
	}
	return c.prove(d, path)
}

// KnownBlob finds a blob that can be trusted as it is, for those who have something cheaper to do than to hash it.
func (c *Cache) KnownBlob(d Digest) (path string, size int64, ok bool) {
	path = c.path("blobs", d)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", 0, false
	}
	known, ok := c.Memo(StatKey(info))
	return path, info.Size(), ok && known == d
}

// missing is a blob that the operating system does not give: why, where that is more than that it is not there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrMissing
	}
	return fmt.Errorf("%w: %w", ErrMissing, err)
}

// prove hashes a blob whose state this machine has not seen. Wrong content is moved away, and so is what the disk cannot keep.
func (c *Cache) prove(d Digest, path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, missing(err)
	}
	defer f.Close()
	got, n, err := hashFile(f, nil)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read %s from the cache: %w", d.Short(), err)
	}
	if got != d {
		if err := removeSame(f, path); err != nil {
			return "", 0, fmt.Errorf("%s is damaged and cannot be removed: %w", path, err)
		}
		return "", 0, ErrMissing
	}
	if err := OnDisk(f); err != nil { // the system tells of lost bytes once, and goes on giving them from memory: the next sync would say that all is well
		return "", 0, errors.Join(err, removeSame(f, path))
	}
	return path, n, c.NoteFile(path, d)
}

// removeSame removes the file that was read, and not one that another run has put into its place meanwhile.
func removeSame(f *os.File, path string) error {
	read, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(path); err == nil && !os.SameFile(read, now) {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// AddFile takes over a finished file of a stage whose digest was computed while it was written: synced, made read-only, renamed into place, the folder synced.
func (c *Cache) AddFile(path string, d Digest) error {
	if _, _, err := c.Blob(d); err == nil {
		return os.Remove(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return c.full(path, err)
	}
	if err := os.Chmod(path, 0o444); err != nil {
		return err
	}
	dst := c.path("blobs", d)
	if err := c.rename(path, dst); err != nil {
		return err
	}
	return c.NoteFile(dst, d)
}

func (c *Cache) rename(from, to string) error {
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return c.full(dir, err)
	}
	if err := os.Rename(from, to); err != nil {
		return c.full(to, err)
	}
	return atomicfile.SyncDir(dir)
}

// AddBytes stores a small blob that is only ever read by ReadBlob, which checks it. It is not synced: after a power cut it may be gone, and is made again.
func (c *Cache) AddBytes(b []byte) (Digest, error) {
	d := SumBytes(b)
	path := c.path("blobs", d)
	if have, err := readSmall(path, int64(len(b))); err == nil && SumBytes(have) == d {
		return d, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return d, c.full(path, err)
	}
	if err := atomicfile.WriteLoose(path, b, 0o444); err != nil {
		return d, c.full(path, err)
	}
	return d, nil
}

// ReadBlob reads a blob of at most max bytes, and checks what it has read.
func (c *Cache) ReadBlob(d Digest, max int64) ([]byte, error) {
	path := c.path("blobs", d)
	data, err := readSmall(path, max)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	if SumBytes(data) != d {
		if _, _, err := c.prove(d, path); err != nil {
			return nil, err
		}
		return nil, ErrMissing
	}
	return data, nil
}

// LinkKind says how a blob was put in place.
type LinkKind string

// The ways of putting a blob in place.
const (
	Reflink  LinkKind = "reflink"  // shares the bytes until one side is written
	Hardlink LinkKind = "hardlink" // is the same, read-only file
	Copy     LinkKind = "copy"
)

// Place puts a blob's content at dst, by a new name and a rename: a reflink where the file system can, else a read-only hard link, else a copy. What is to be writable is
// never a hard link. A symbolic link at dst is replaced, not followed.
func (c *Cache) Place(d Digest, dst string, writable bool) (LinkKind, error) {
	src, _, err := c.Blob(d)
	if err != nil {
		return "", err
	}
	tmp := filepath.Join(filepath.Dir(dst), fmt.Sprintf(".%s.%d", filepath.Base(dst), os.Getpid()))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	defer os.Remove(tmp)
	mode := os.FileMode(0o444)
	if writable {
		mode = 0o644
	}
	kind, err := place(src, tmp, mode, writable)
	if err != nil {
		if _, gone := os.Lstat(src); errors.Is(gone, fs.ErrNotExist) { // collected since it was found
			return "", ErrMissing
		}
		return "", c.full(dst, err)
	}
	if err := os.Rename(tmp, dst); err != nil {
		return "", err
	}
	return kind, c.NoteFile(dst, d) // of a hard link it is the blob itself, whose ctime moved with it
}

func place(src, dst string, mode os.FileMode, writable bool) (LinkKind, error) {
	if reflink(src, dst, mode) == nil {
		return Reflink, nil
	}
	_ = os.Remove(dst)
	if !writable && os.Link(src, dst) == nil {
		return Hardlink, nil
	}
	return Copy, copyFile(src, dst, mode)
}

func copyFile(src, dst string, mode os.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// Stage is a private folder for what is being made.
type Stage struct {
	dir     string
	release func()
}

// NewStage makes a stage. It is removed by Remove, or, when its process has died, by the next one that makes a stage.
func (c *Cache) NewStage() (*Stage, error) {
	c.sweepStages()
	dir, err := os.MkdirTemp(filepath.Join(c.dir, "tmp"), fmt.Sprintf("%d-", os.Getpid()))
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.create(); err == nil {
			dir, err = os.MkdirTemp(filepath.Join(c.dir, "tmp"), fmt.Sprintf("%d-", os.Getpid()))
		}
	}
	if err != nil {
		return nil, c.full(c.dir, err)
	}
	release, err := c.lockFile(context.Background(), dir+".lock", func(string) {})
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &Stage{dir: dir, release: release}, nil
}

// Path of a file in the stage; name is slash-separated. Its folder is made.
func (s *Stage) Path(name string) string {
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	_ = os.MkdirAll(filepath.Dir(path), 0o755) // a failure shows when the file is made
	return path
}

// Remove the stage with what is left in it.
func (s *Stage) Remove() {
	_ = os.RemoveAll(s.dir)
	s.release()
}

// sweepStages removes stages whose process is gone: nobody holds their lock.
func (c *Cache) sweepStages() {
	c.stages.Lock()
	defer c.stages.Unlock()
	tmp := filepath.Join(c.dir, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(tmp, e.Name())
		info, err := e.Info()
		if err != nil {
			continue
		}
		if release, ok := c.abandoned(info, dir+".lock"); ok {
			_ = os.RemoveAll(dir)
			release()
		}
	}
}

// Explain adds to a disk-full error what a person needs to know; other errors come back as they are.
func (c *Cache) Explain(what string, err error) error { return c.full(what, err) }

// full is Explain for paths.
func (c *Cache) full(path string, err error) error {
	if !isFull(err) {
		return err
	}
	free, _ := freeBytes(c.dir)
	return &Error{What: fmt.Sprintf("the disk is full: %s could not be written, %d MB are free", path, free/1e6),
		Do: "free some room; mlxbuild cache gc --max-size 5GiB makes the cache smaller", Err: err}
}
