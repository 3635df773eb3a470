package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Lease protects what a running plan needs from eviction. It dies with its process.
type Lease struct {
	mu      sync.Mutex
	file    *os.File
	path    string
	release func()
}

// Lease starts a lease on keys of records and digests of blobs.
func (c *Cache) Lease(digests []Digest) (*Lease, error) {
	dir := filepath.Join(c.dir, "leases")
	f, err := os.CreateTemp(dir, fmt.Sprintf("%d-", os.Getpid()))
	if os.IsNotExist(err) {
		if err = c.create(); err == nil {
			f, err = os.CreateTemp(dir, fmt.Sprintf("%d-", os.Getpid()))
		}
	}
	if err != nil {
		return nil, c.full(dir, err)
	}
	release, err := c.lockFile(context.Background(), f.Name()+".lock", func(string) {})
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	l := &Lease{file: f, path: f.Name(), release: release}
	l.Add(digests...)
	return l, nil
}

// Add more. What cannot be written is not protected; the worst is that it is made again.
func (l *Lease) Add(digests ...Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, d := range digests {
		b.WriteString(d.String() + "\n")
	}
	_, _ = l.file.WriteString(b.String())
}

// Release ends the lease.
func (l *Lease) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Close()
	_ = os.Remove(l.path)
	l.release()
}

// AddRoot notes that outputs of records are linked in a build folder, so that they are kept while it is there. The file begins with the folder and only grows; a key that stands in it twice
// says nothing new.
func (c *Cache) AddRoot(buildDir string, keys []Digest) {
	path := filepath.Join(c.dir, "leases", "root-"+SumBytes([]byte(buildDir)).String())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return // what is not noted may be evicted, and is then made again
	}
	defer f.Close()
	text := ""
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		text = buildDir + "\n"
	}
	for _, k := range keys {
		text += k.String() + "\n"
	}
	_, _ = f.WriteString(text)
}

// readRoot reads the keys of a root file about a build folder that is still there.
func readRoot(path string) []Digest {
	data, err := readSmall(path, 16<<20)
	if err != nil {
		return nil
	}
	dir, rest, _ := strings.Cut(string(data), "\n")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil
	}
	return parseDigests(rest)
}

func parseDigests(text string) (out []Digest) {
	for _, line := range strings.Split(text, "\n") {
		if d, err := ParseDigest(line); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// held collects what leases and roots protect, and removes leases of dead processes and roots of folders that are gone.
func (c *Cache) held() map[Digest]bool {
	out := map[Digest]bool{}
	dir := filepath.Join(c.dir, "leases")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), ".lock") {
			continue
		}
		if strings.HasPrefix(e.Name(), "root-") {
			keys := readRoot(path)
			for _, k := range keys {
				out[k] = true
			}
			if keys == nil {
				_ = os.Remove(path)
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // just released
		}
		if release, ok := c.abandoned(info, path+".lock"); ok {
			_ = os.Remove(path)
			release()
			continue
		}
		if data, err := readSmall(path, 64<<20); err == nil {
			for _, d := range parseDigests(string(data)) {
				out[d] = true
			}
		}
	}
	return out
}
