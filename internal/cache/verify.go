package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
)

// Damage is one thing that is wrong.
type Damage struct {
	Path string `json:"path"` // in the cache folder
	What string `json:"what"`
}

// VerifyOptions of Verify.
type VerifyOptions struct {
	Sample   float64     // share of blobs to hash, 0 and 1 = all
	Progress func(int64) // told of bytes hashed, from several goroutines
}

// VerifyReport says what was checked and what is wrong.
type VerifyReport struct {
	Blobs   int      `json:"blobs"`
	Records int      `json:"records"`
	Bytes   int64    `json:"bytes"`
	Damages []Damage `json:"damages"`
}

// Verify hashes blobs on all cores, whatever is remembered of them, and reads every record. It changes nothing.
func (c *Cache) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	r := VerifyReport{Damages: []Damage{}}
	var todo []stored
	err := c.eachFile("blobs", func(d Digest, path string, info os.FileInfo) bool {
		if o.Sample > 0 && o.Sample < 1 && rand.Float64() >= o.Sample {
			return true
		}
		todo = append(todo, stored{digest: d, path: path, size: info.Size()})
		return true
	})
	if err != nil {
		return r, err
	}
	var mu sync.Mutex
	damaged := func(path, what string) {
		mu.Lock()
		defer mu.Unlock()
		rel, err := filepath.Rel(c.dir, path)
		if err != nil {
			rel = path
		}
		r.Damages = append(r.Damages, Damage{filepath.ToSlash(rel), what})
	}
	hashAll(ctx, todo, o.Progress, damaged)
	for _, b := range todo {
		r.Blobs++
		r.Bytes += b.size
	}
	if err := c.verifyRecords(&r, damaged); err != nil {
		return r, err
	}
	c.verifyStray(damaged)
	sort.Slice(r.Damages, func(i, j int) bool { return r.Damages[i].Path < r.Damages[j].Path })
	return r, ctx.Err()
}

func hashAll(ctx context.Context, todo []stored, progress func(int64), damaged func(path, what string)) {
	var wg sync.WaitGroup
	next := make(chan stored)
	for range runtime.GOMAXPROCS(0) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for b := range next {
				if what := checkBlob(b, progress); what != "" {
					damaged(b.path, what)
				}
			}
		}()
	}
	for _, b := range todo {
		if ctx.Err() != nil {
			break
		}
		next <- b
	}
	close(next)
	wg.Wait()
}

func checkBlob(b stored, progress func(int64)) string {
	f, err := os.Open(b.path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	d, _, err := hashFile(f, progress)
	if err != nil {
		return err.Error()
	}
	if d != b.digest {
		return "its content is not what its name says"
	}
	return ""
}

func (c *Cache) verifyRecords(r *VerifyReport, damaged func(path, what string)) error {
	return c.eachFile("records", func(d Digest, path string, _ os.FileInfo) bool {
		r.Records++
		rec, what := readRecord(path, d)
		if what == newerRecord {
			return true
		}
		if what != "" {
			damaged(path, what)
			return true
		}
		for _, out := range rec.Outputs {
			if info, err := os.Lstat(c.path("blobs", out.Digest)); err != nil || info.Size() != out.Size {
				damaged(path, fmt.Sprintf("%s of %s is not there whole", out.Path, rec.Step))
				return true
			}
		}
		return true
	})
}

// verifyStray finds files whose names are no digests, or that lie in the wrong folder: a blob that was renamed or moved.
func (c *Cache) verifyStray(damaged func(path, what string)) {
	for _, sub := range []string{"blobs", "records"} {
		_ = filepath.WalkDir(filepath.Join(c.dir, sub), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") { // what begins with a dot is being written
				return nil
			}
			d, err := ParseDigest(e.Name())
			if err != nil || c.path(sub, d) != path {
				damaged(path, "does not belong here")
			}
			return nil
		})
	}
}

// RepairReport says what was taken out and what will be made again.
type RepairReport struct {
	Removed  []Damage `json:"removed"`
	Rebuilds []string `json:"rebuilds"` // names of steps
}

// Repair takes out what Verify finds, and the records that named it, so that the next build makes exactly that again.
func (c *Cache) Repair(ctx context.Context) (RepairReport, error) {
	rep := RepairReport{Removed: []Damage{}, Rebuilds: []string{}}
	found, err := c.Verify(ctx, VerifyOptions{})
	if err != nil {
		return rep, err
	}
	for _, d := range found.Damages {
		path := filepath.Join(c.dir, filepath.FromSlash(d.Path))
		if key, err := ParseDigest(filepath.Base(path)); err == nil {
			if rec, what := readRecord(path, key); what == "" {
				rep.Rebuilds = append(rep.Rebuilds, rec.Step)
			}
		}
		if err := remove(path, false); err != nil {
			return rep, err
		}
		rep.Removed = append(rep.Removed, d)
	}
	return rep, c.dropIncomplete(&rep)
}

// dropIncomplete removes records whose blobs have just been taken out.
func (c *Cache) dropIncomplete(rep *RepairReport) error {
	return c.eachFile("records", func(d Digest, path string, _ os.FileInfo) bool {
		rec, what := readRecord(path, d)
		if what != "" {
			return true
		}
		for _, out := range rec.Outputs {
			if _, err := os.Lstat(c.path("blobs", out.Digest)); err != nil {
				rep.Rebuilds = append(rep.Rebuilds, rec.Step)
				_ = os.Remove(path)
				return true
			}
		}
		return true
	})
}
