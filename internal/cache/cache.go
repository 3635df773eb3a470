// Package cache keeps what steps made: blobs by content, records by key, and a memo of facts that are cheap to lose.
//
// It promises that what it returns is right: killed at any instant, disk full, two processes at once, a flipped bit, the next look finds the whole old state or the whole new
// one, or nothing. It may be used by any number of processes of one machine; not over a network file system without locks.
//
// On disk (the folder of MLXBUILD_CACHE, else the user's cache folder + /mlxbuild):
//
//	VERSION CACHEDIR.TAG README
//	blobs/ab/<sha256>     content, read-only
//	records/ab/<key>      JSON: key text, outputs by digest, result, log, duration
//	tmp/<pid>-<random>/   staging, one process each, held by a lock
//	locks/<key>.lock      held while a step is made; die with their process
//	leases/               what running plans need, and which build folders hold outputs
//	stat                  the memo: one checksummed file
//	snapshots/            what builds with nothing to do looked at; their own
//	parts/ runtimes/      for downloads and runtimes
//
// A blob is trusted when its metadata (device, inode, size, mtime, ctime) is as it was when its content was hashed on this machine; anything else is hashed before its first use.
package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// Version of the folder's layout.
const Version = 1

// Options of Open.
type Options struct {
	MaxSize int64 // bytes; 0 = MLXBUILD_CACHE_SIZE, else by the disk
}

// Cache is an open cache folder. Its methods may be called from many goroutines.
type Cache struct {
	dir     string
	maxSize int64
	memo    memo
	stages  sync.Mutex

	measure  sync.Mutex // of what follows: see reserveCap
	measured bool
	size     int64
	limit    int64

	locks     sync.Once // see LocksWork
	locksWork bool
}

// Error is a cache that cannot be used, with what to do.
type Error struct {
	What, Do string
	Err      error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.What + ": " + e.Err.Error()
	}
	return e.What
}

// Unwrap is the operating system's error.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// DefaultDir is where the cache is when nothing else is said.
func DefaultDir() (string, error) {
	if dir := os.Getenv("MLXBUILD_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", &Error{What: "there is no place for the cache", Do: "set MLXBUILD_CACHE to a folder", Err: err}
	}
	return filepath.Join(base, "mlxbuild"), nil
}

// Open opens a cache folder, making it where there is none. dir "" is DefaultDir.
func Open(dir string, o Options) (*Cache, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultDir(); err != nil {
			return nil, err
		}
	}
	c := &Cache{dir: dir, maxSize: o.MaxSize}
	c.memo.path = filepath.Join(dir, "stat")
	if err := c.checkVersion(); err != nil {
		return nil, err
	}
	if c.maxSize == 0 {
		if text := os.Getenv("MLXBUILD_CACHE_SIZE"); text != "" {
			size, err := ParseSize(text)
			if err != nil {
				return nil, &Error{What: "MLXBUILD_CACHE_SIZE " + text, Do: "write it like 50GiB", Err: err}
			}
			c.maxSize = size
		}
	}
	return c, nil
}

// Dir is the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// StatePaths are the files that say what the folder is and what is remembered of it. While they are as they were, what is known of files is what it was.
func (c *Cache) StatePaths() []string { return []string{filepath.Join(c.dir, "VERSION"), c.memo.path} }

// Close saves the memo.
func (c *Cache) Close() error { return c.memo.save(c) }

// checkVersion reads the layout's version; a new folder gets it, with the files that tell people and backup programs what it is.
func (c *Cache) checkVersion() error {
	path := filepath.Join(c.dir, "VERSION")
	data, err := readSmall(path, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return c.create()
	}
	if err != nil {
		return &Error{What: "the cache at " + c.dir + " cannot be read", Do: "mend its permissions, or set MLXBUILD_CACHE to another folder", Err: err}
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	switch {
	case err != nil, n < Version: // damaged, or older: everything in the folder carries its own format number
		return c.create()
	case n > Version:
		return &Error{What: fmt.Sprintf("the cache at %s was made by a newer mlxbuild (layout %d; this one knows %d)", c.dir, n, Version),
			Do: "update mlxbuild, or set MLXBUILD_CACHE to another folder; if there never was a newer one, " + path + " is damaged: remove it, what it stands for is checked by itself"}
	}
	return nil
}

const readme = `This is the cache of mlxbuild. It may be deleted at any time: the next build makes what it needs again.
mlxbuild cache stats shows what is in it, mlxbuild cache gc makes it smaller. MLXBUILD_CACHE names another place.
`

func (c *Cache) create() error {
	for _, sub := range []string{"blobs", "records", "parts", "tmp", "locks", "leases", "runtimes"} {
		if err := os.MkdirAll(filepath.Join(c.dir, sub), 0o755); err != nil {
			return &Error{What: "no cache can be made at " + c.dir, Do: "set MLXBUILD_CACHE to a folder that can be written", Err: err}
		}
	}
	for name, text := range map[string]string{"README": readme, "CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of mlxbuild.\n"} {
		if err := atomicfile.Write(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
			return &Error{What: "no cache can be made at " + c.dir, Do: "set MLXBUILD_CACHE to a folder that can be written", Err: err}
		}
	}
	return atomicfile.Write(filepath.Join(c.dir, "VERSION"), []byte(strconv.Itoa(Version)+"\n"), 0o644)
}

// path of a blob, record or lock: sub/ab/abcdef...
func (c *Cache) path(sub string, d Digest) string {
	hex := d.String()
	return filepath.Join(c.dir, sub, hex[:2], hex)
}

// readSmall reads a file of at most max bytes.
func readSmall(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > max {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that it may have", path, info.Size(), max)
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if int64(n) == info.Size() {
		return data, nil
	}
	return data[:n], err
}

// ParseSize reads a size with a unit: 20GiB, 500MB, 1024. GB is 1e9 bytes, GiB 2^30.
func ParseSize(text string) (int64, error) {
	units := []struct {
		name string
		n    int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*float64(u.n) > 1e18 {
			return 0, fmt.Errorf("%q is not a size", text)
		}
		return int64(v * float64(u.n)), nil
	}
	return 0, fmt.Errorf("%q is not a size", text)
}
