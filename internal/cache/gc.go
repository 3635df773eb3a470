package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// Stats of a cache.
type Stats struct {
	Dir       string `json:"dir"`
	Blobs     int    `json:"blobs"`
	BlobBytes int64  `json:"blob_bytes"`
	Records   int    `json:"records"`
	PartBytes int64  `json:"part_bytes"` // of downloads that have begun
	MaxSize   int64  `json:"max_size"`
}

// Stats counts what is there.
func (c *Cache) Stats() (Stats, error) {
	s := Stats{Dir: c.dir}
	err := c.eachFile("blobs", func(_ Digest, _ string, info os.FileInfo) bool {
		s.Blobs++
		s.BlobBytes += info.Size()
		return true
	})
	if err != nil {
		return s, err
	}
	err = c.eachFile("records", func(Digest, string, os.FileInfo) bool { s.Records++; return true })
	parts, _ := os.ReadDir(filepath.Join(c.dir, "parts")) // without the folder there are none
	for _, p := range parts {
		if info, err := p.Info(); err == nil {
			s.PartBytes += info.Size()
		}
	}
	s.MaxSize = c.cap(s.BlobBytes)
	return s, err
}

// cap is the size that the cache may have: what was asked for, else the smaller of 20 % of the disk and what leaves 20 GiB free, at least 5 GiB.
func (c *Cache) cap(now int64) int64 {
	if c.maxSize > 0 {
		return c.maxSize
	}
	free, total := freeBytes(c.dir)
	if total == 0 {
		return 20 << 30
	}
	return max(min(total/5, free+now-20<<30), 5<<30)
}

// GCOptions of a collection.
type GCOptions struct {
	MaxSize int64 // bytes to shrink to; 0 = the cap
	DryRun  bool
}

// GCReport says what went.
type GCReport struct {
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"`
	Records   int   `json:"records"`
	BytesLeft int64 `json:"bytes_left"`
	Held      int   `json:"held"` // blobs that leases and build folders protect
}

// grace is how long a blob may be without a record: its step is being finished.
const grace = time.Hour

// smallBlob is the size below which a blob without a record is kept as long as a memo: listings of sources and tables of tensors, which facts in the memo lead to.
const smallBlob = 4 << 20

// stored is a blob as collection sees it.
type stored struct {
	digest Digest
	path   string
	size   int64
	worth  float64 // seconds to make a byte of it again; what costs least goes first
	used   time.Time
	orphan bool
}

// GC shrinks the cache: first what no record names, then by what is cheapest to make again, then by age. What leases and build folders hold stays.
func (c *Cache) GC(o GCOptions) (GCReport, error) {
	var r GCReport
	release, err := c.Lock(context.Background(), SumBytes([]byte("gc")), func(string) {})
	if err != nil {
		return r, err
	}
	defer release()
	c.sweepStages()
	c.sweepLocks()
	c.sweepTemporary()
	blobs, records, err := c.survey()
	if err != nil {
		return r, err
	}
	held := c.heldBlobs(records)
	var total int64
	for _, b := range blobs {
		total += b.size
	}
	limit := o.MaxSize
	if limit == 0 {
		limit = c.cap(total)
	}
	sort.SliceStable(blobs, func(i, j int) bool {
		a, b := blobs[i], blobs[j]
		if a.orphan != b.orphan {
			return a.orphan
		}
		if a.worth != b.worth {
			return a.worth < b.worth
		}
		return a.used.Before(b.used)
	})
	named := map[Digest][]*Record{}
	for _, rec := range records {
		for _, out := range rec.Outputs {
			named[out.Digest] = append(named[out.Digest], rec)
		}
	}
	pruned := map[Digest]bool{}
	for _, b := range blobs {
		switch {
		case held[b.digest]:
			r.Held++
			continue
		case b.orphan && time.Since(b.used) < grace, b.orphan && b.size < smallBlob && time.Since(b.used) < memoDays*24*time.Hour:
			continue
		case !b.orphan && total <= limit:
			continue
		}
		for _, rec := range named[b.digest] { // first: a record that names nothing would be damage, were this the last that the run does
			if pruned[rec.Key] {
				continue
			}
			pruned[rec.Key] = true
			r.Records++
			if err := remove(c.path("records", rec.Key), o.DryRun); err != nil {
				return r, err
			}
		}
		if err := remove(b.path, o.DryRun); err != nil {
			return r, err
		}
		r.Blobs++
		r.Bytes += b.size
		total -= b.size
	}
	r.BytesLeft = total
	return r, nil
}

// remove a file that another run may have removed as well.
func remove(path string, dryRun bool) error {
	if dryRun {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweepTemporary removes files that killed runs were writing. Writing takes them away too, but only where something is written again.
func (c *Cache) sweepTemporary() {
	atomicfile.Sweep(c.dir)
	for _, sub := range []string{"blobs", "records"} {
		groups, err := os.ReadDir(filepath.Join(c.dir, sub))
		if err != nil {
			continue
		}
		for _, g := range groups {
			atomicfile.Sweep(filepath.Join(c.dir, sub, g.Name()))
		}
	}
}

// survey reads every record and every blob's metadata.
func (c *Cache) survey() ([]stored, []*Record, error) {
	var records []*Record
	worth := map[Digest]float64{}
	err := c.Records(func(r *Record) bool {
		records = append(records, r)
		var bytes int64
		for _, out := range r.Outputs {
			bytes += out.Size
		}
		for _, out := range r.Outputs {
			worth[out.Digest] = max(worth[out.Digest], r.Seconds/float64(bytes+1))
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	var blobs []stored
	err = c.eachFile("blobs", func(d Digest, path string, info os.FileInfo) bool {
		w, named := worth[d]
		blobs = append(blobs, stored{digest: d, path: path, size: info.Size(), worth: w, used: info.ModTime(), orphan: !named})
		return true
	})
	return blobs, records, err
}

// heldBlobs are the blobs that leases name, and those of records that leases or build folders name.
func (c *Cache) heldBlobs(records []*Record) map[Digest]bool {
	held := c.held()
	for _, r := range records {
		if held[r.Key] {
			for _, out := range r.Outputs {
				held[out.Digest] = true
			}
		}
	}
	return held
}

// Reserve makes room for so many bytes before a step writes them: it evicts what it may, and says when that is not enough.
func (c *Cache) Reserve(bytes int64) error {
	free, total := freeBytes(c.dir)
	if total == 0 {
		return nil
	}
	const spare = 64 << 20 // the file system's own needs
	if bytes+spare > free {
		s, err := c.Stats()
		if err != nil {
			return err
		}
		if _, err := c.GC(GCOptions{MaxSize: max(1, s.BlobBytes-(bytes+spare-free))}); err != nil {
			return err
		}
		if free, _ = freeBytes(c.dir); bytes+spare > free {
			return &Error{What: fmt.Sprintf("not enough room for the result: it needs %d MB beside the %d MB that are left to the file system, and the disk of %s has %d MB free", bytes/1e6+1, spare/1_000_000, c.dir, free/1e6),
				Do: "free some room, or set MLXBUILD_CACHE to a folder on another disk"}
		}
		return nil
	}
	return c.reserveCap(bytes)
}

// reserveCap keeps the cache under its cap. A single result above the cap is allowed: never below what the running plan needs. The cache is measured once; after that what this process adds
// is counted.
func (c *Cache) reserveCap(bytes int64) error {
	c.measure.Lock()
	defer c.measure.Unlock()
	if !c.measured {
		s, err := c.Stats()
		if err != nil {
			return err
		}
		c.measured, c.size, c.limit = true, s.BlobBytes, s.MaxSize
	}
	c.size += bytes
	if c.size <= c.limit {
		return nil
	}
	r, err := c.GC(GCOptions{MaxSize: max(1, c.limit-bytes)})
	c.size = r.BytesLeft + bytes
	return err
}
