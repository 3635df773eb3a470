package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// corrupt damages a cache, one thing at a time, and wants verify to find each damage and nothing else, repair to take out what was damaged and nothing else, and the step that has to be made again to be
// the one that it belonged to.
func (s *soak) corrupt() (*findings, error) {
	total := 100_000
	if s.sample > 0 {
		total = s.sample
	}
	f := s.newFindings("corruptions", "found", "repairs")
	started := time.Now()
	const caches = 16 // small ones, so that verify of one is quick
	err := s.each(caches, func(i int, dir string) error {
		rng := rand.New(rand.NewPCG(s.seed, uint64(i)))
		v, err := newVictim(dir, rng)
		if err != nil {
			return err
		}
		for range (total + caches - 1) / caches {
			if s.overAfter(started, 30) {
				return nil
			}
			if err := v.corrupt(f, rng); err != nil {
				return err
			}
		}
		return nil
	})
	return f, err
}

// victim is a cache that is damaged and mended again and again.
type victim struct {
	c       *cache.Cache
	dir     string
	outputs map[string][][]byte // by step
	records []*cache.Record
}

func newVictim(dir string, rng *rand.Rand) (*victim, error) {
	c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{})
	if err != nil {
		return nil, err
	}
	v := &victim{c: c, dir: dir, outputs: map[string][][]byte{}}
	shared := bytes.Repeat([]byte("shared"), 500)
	for i := range 4 {
		name := fmt.Sprint("step ", i)
		outputs := [][]byte{make([]byte, 4096+rng.IntN(9000)), make([]byte, 1+rng.IntN(200))}
		for _, b := range outputs {
			for i := range b {
				b[i] = byte(rng.IntN(255)) + 1
			}
		}
		if i < 2 {
			outputs = append(outputs, shared)
		}
		v.outputs[name] = outputs
		r, err := storeStep(c, name, outputs)
		if err != nil {
			return nil, err
		}
		v.records = append(v.records, r)
	}
	return v, nil
}

// files of the cache that a corruption can be done to.
func (v *victim) files() ([]string, error) {
	blobs, err := filepath.Glob(filepath.Join(v.dir, "cache", "blobs", "*", "*"))
	if err != nil {
		return nil, err
	}
	records, err := filepath.Glob(filepath.Join(v.dir, "cache", "records", "*", "*"))
	return append(blobs, records...), err
}

func (v *victim) corrupt(f *findings, rng *rand.Rand) error {
	files, err := v.files()
	if err != nil {
		return err
	}
	path := files[rng.IntN(len(files))]
	what, err := damageFile(rng, path, files)
	if err != nil {
		return err
	}
	damaged := map[string]bool{path: true}
	f.add("corruptions", 1)
	rel := strings.TrimPrefix(path, v.dir+"/")
	report, err := v.c.Verify(context.Background(), cache.VerifyOptions{})
	if err != nil {
		return err
	}
	gone := what == "deleted" && strings.Contains(rel, "records") // a record that is not there is a step that was never made: nothing is damaged
	if len(report.Damages) == 0 && !gone {
		f.bad("%s of %s was not found", what, rel)
	} else {
		f.add("found", 1)
	}
	wantSteps := v.stepsOf(path)
	repaired, err := v.c.Repair(context.Background())
	if err != nil {
		return err
	}
	f.add("repairs", 1)
	for _, r := range repaired.Removed {
		if p := filepath.Join(v.dir, "cache", filepath.FromSlash(r.Path)); !damaged[p] && !v.recordOf(p, wantSteps) && what != "another blob's bytes" {
			f.bad("%s of %s: repair took out %s as well", what, rel, r.Path)
		}
	}
	return v.makeAgain(f, what+" of "+rel, wantSteps)
}

// makeAgain makes what is missing, as a build would, and compares.
func (v *victim) makeAgain(f *findings, where string, want []string) error {
	for i, r := range v.records {
		have, ok := v.c.Record(r.Key)
		if ok && v.c.Complete(have) {
			continue
		}
		if !slices.Contains(want, r.Step) {
			f.bad("%s: %s has to be made again, and it was whole", where, r.Step)
		}
		again, err := storeStep(v.c, r.Step, v.outputs[r.Step])
		if err != nil {
			return err
		}
		v.records[i] = again
	}
	report, err := v.c.Verify(context.Background(), cache.VerifyOptions{})
	if err != nil {
		return err
	}
	if len(report.Damages) > 0 || report.Records != len(v.records) {
		f.bad("%s: after repair and a build: %d records, %v", where, report.Records, report.Damages)
	}
	return nil
}

// stepsOf are the steps that a file belongs to.
func (v *victim) stepsOf(path string) (steps []string) {
	for _, r := range v.records {
		mine := r.Key.String() == filepath.Base(path)
		for _, o := range r.Outputs {
			mine = mine || o.Digest.String() == filepath.Base(path)
		}
		if mine {
			steps = append(steps, r.Step)
		}
	}
	return steps
}

func (v *victim) recordOf(path string, steps []string) bool {
	for _, r := range v.records {
		if r.Key.String() == filepath.Base(path) && slices.Contains(steps, r.Step) {
			return true
		}
	}
	return false
}

// damageFile does one corruption to a file: in place where that is how it happens, so that the cache's memory of its metadata is put to the test, else by a new file.
func damageFile(rng *rand.Rand, path string, others []string) (what string, err error) {
	whole, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	data := bytes.Clone(whole)
	at := rng.IntN(len(data))
	switch rng.IntN(8) {
	case 0:
		what = "a bit flipped"
		data[at] ^= 1 << rng.IntN(8)
	case 1:
		what = "a cut"
		data = data[:at]
	case 2:
		what = "bytes behind the end"
		data = append(data, whole[:1+rng.IntN(len(whole))]...)
	case 3:
		what = "a page of zeros"
		from := at / 512 * 512
		clear(data[from:min(from+512, len(data))])
	case 4:
		what = "deleted"
		return what, os.Remove(path)
	case 5:
		what = "another blob's bytes"
		other := others[rng.IntN(len(others))]
		for other == path {
			other = others[rng.IntN(len(others))]
		}
		if data, err = os.ReadFile(other); err != nil {
			return "", err
		}
	case 6:
		what = "zeros only"
		clear(data)
	case 7:
		what = "noise"
		for i := at; i < min(at+64, len(data)); i++ {
			data[i] += byte(1 + rng.IntN(255))
		}
	}
	if bytes.Equal(data, whole) {
		return damageFile(rng, path, others)
	}
	if rng.IntN(2) == 0 {
		if err := os.Remove(path); err != nil {
			return "", err
		}
	} else if err := os.Chmod(path, 0o644); err != nil {
		return "", err
	}
	return what, os.WriteFile(path, data, 0o444)
}
