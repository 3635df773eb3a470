package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hint"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
)

// stateFile is a file that a run leaves for the next one. read says what is wrong with how a damaged one is read; it may be refused, be as nothing, or say what it says now.
type stateFile struct {
	name  string
	path  string
	whole []byte
	read  func(data []byte) string
	slow  bool // reading is much work: it has fewer random damages
}

// state damages state files: cut at every length, each bit flipped, and many bytes at random.
func (s *soak) state() (*findings, error) {
	dir := filepath.Join(s.work, "state")
	defer removeAll(dir)
	files, err := s.stateFiles(dir)
	if err != nil {
		return nil, err
	}
	f := s.newFindings("files", "damages")
	total := 1_000_000
	if s.sample > 0 {
		total = s.sample
	}
	for i := range files {
		own := *s
		if !s.ends.IsZero() { // the same time for each of those that are left
			own.ends = time.Now().Add(time.Until(s.ends) / time.Duration(len(files)-i))
		}
		f.add("files", 1)
		if err := own.damageState(f, &files[i], total/len(files), rand.New(rand.NewPCG(s.seed, uint64(i)))); err != nil {
			return f, fmt.Errorf("%s: %w", files[i].name, err)
		}
	}
	return f, nil
}

func (s *soak) damageState(f *findings, file *stateFile, random int, rng *rand.Rand) error {
	if problem := file.read(file.whole); problem != "" {
		return errors.New("undamaged: " + problem)
	}
	step := 1
	if file.slow {
		random /= 20
		if s.sample > 0 {
			step = max(1, len(file.whole)/100)
		}
	}
	for what, data := range damages(file.whole, step, random, rng) {
		if s.over() {
			break
		}
		if err := os.WriteFile(file.path, data, 0o644); err != nil {
			return err
		}
		f.add("damages", 1)
		if problem := file.read(data); problem != "" {
			f.bad("%s, %s: %s", file.name, what, problem)
		}
	}
	return os.WriteFile(file.path, file.whole, 0o644)
}

// damages of a file: cut at every length, each bit flipped, and then so many at random.
func damages(whole []byte, step, random int, rng *rand.Rand) iter.Seq2[string, []byte] {
	return func(yield func(what string, data []byte) bool) {
		for at := 0; at < len(whole); at += step {
			if !yield(fmt.Sprint("cut at ", at), whole[:at]) {
				return
			}
			for bit := range 8 {
				flipped := bytes.Clone(whole)
				flipped[at] ^= 1 << bit
				if !yield(fmt.Sprintf("bit %d of byte %d flipped", bit, at), flipped) {
					return
				}
			}
		}
		for range random {
			if what, data := mangle(rng, whole); !yield(what, data) {
				return
			}
		}
	}
}

// mangle damages several bytes: what disks, crashes and editors do.
func mangle(rng *rand.Rand, whole []byte) (string, []byte) {
	data := bytes.Clone(whole)
	if len(data) == 0 {
		return "grown", []byte{byte(rng.IntN(256))}
	}
	from := rng.IntN(len(data))
	to := from + 1 + rng.IntN(min(len(data)-from, 4096))
	switch rng.IntN(7) {
	case 0:
		for i := range 1 + rng.IntN(16) {
			data[rng.IntN(len(data))] = byte(rng.IntN(256) + i)
		}
		return "bytes changed", data
	case 1:
		clear(data[from:to])
		return fmt.Sprintf("zeros from %d to %d", from, to), data
	case 2:
		return fmt.Sprintf("without %d to %d", from, to), append(data[:from], data[to:]...)
	case 3:
		return fmt.Sprintf("%d to %d twice", from, to), append(data[:to:to], whole[from:]...)
	case 4:
		for i := from; i < to; i++ {
			data[i] = byte(rng.IntN(256))
		}
		return fmt.Sprintf("noise from %d to %d", from, to), data
	case 5:
		other := rng.IntN(len(data))
		data[from], data[other] = data[other], data[from]
		return fmt.Sprintf("bytes %d and %d in each other's place", from, other), data
	}
	data = data[:from]
	for range rng.IntN(4096) {
		data = append(data, 0)
	}
	return fmt.Sprintf("zeros from %d on", from), data
}

// stateFiles makes one of each.
func (s *soak) stateFiles(dir string) ([]stateFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cacheDir := filepath.Join(dir, "cache")
	c, err := cache.Open(cacheDir, cache.Options{})
	if err != nil {
		return nil, err
	}
	outputs := [][]byte{[]byte("some output"), []byte("another")}
	rec, err := storeStep(c, "a step", outputs)
	if err != nil {
		return nil, err
	}
	var facts []cache.Digest
	for i := range 5 {
		facts = append(facts, cache.SumBytes([]byte{byte(i)}))
		c.SetMemo(facts[i], cache.SumBytes([]byte{byte(i), 1}))
	}
	build := filepath.Join(dir, "build")
	if err := os.Mkdir(build, 0o755); err != nil {
		return nil, err
	}
	c.AddRoot(build, []cache.Digest{rec.Key})
	if err := c.Close(); err != nil {
		return nil, err
	}
	key := rec.Key.String()
	roots, err := filepath.Glob(filepath.Join(cacheDir, "leases", "root-*"))
	if err != nil || len(roots) != 1 {
		return nil, fmt.Errorf("%d root files: %v", len(roots), err)
	}
	stages, err := s.stages()
	if err != nil {
		return nil, err
	}
	provenance, err := os.ReadFile(executor.ProvenanceFile(filepath.Join(stages["built"].dir, "build", "m", "q4")))
	if err != nil {
		return nil, err
	}
	files := []stateFile{
		{name: "record", path: filepath.Join(cacheDir, "records", key[:2], key)},
		{name: "memo", path: filepath.Join(cacheDir, "stat")},
		{name: "snapshot", path: filepath.Join(dir, "snapshot"), whole: fixSnapshot([]byte(snapshotBody))},
		{name: "root", path: roots[0], slow: true},
		{name: "lease", path: filepath.Join(cacheDir, "leases", "1-2"), whole: []byte(strings.Repeat(key+"\n", 3)), slow: true},
		{name: "version", path: filepath.Join(cacheDir, "VERSION")},
		{name: "blob", path: filepath.Join(cacheDir, "blobs", rec.Outputs[0].Digest.String()[:2], rec.Outputs[0].Digest.String())},
		{name: "provenance", path: executor.ProvenanceFile(filepath.Join(dir, "q4")), whole: provenance},
		{name: "accepted", path: filepath.Join(dir, judge.AcceptedName), whole: []byte(`{"target":"m/q4","validation":"v","metric":"kld_mean","value":0.0123,"machine":"any","tokens":"` + key + `","runtime":"builtin","compute":"float32"}` + "\n")},
		{name: "lock", path: filepath.Join(dir, lock.Name), whole: exampleLock()},
		{name: "results", path: filepath.Join(dir, "results.jsonl"), whole: []byte(`{"schema":1,"kind":"generate","name":"g","target":"m/q4","key":"` + key + `","seconds":0.5,"machine":"linux/amd64","value":{"a":[1,2]}}` + "\n")},
	}
	readers := map[string]func(whole, data []byte) string{
		"record": func(whole, data []byte) string {
			if r, ok := c.Record(rec.Key); ok && (!bytes.Equal(data, whole) || r.KeyText != rec.KeyText) {
				return "a damaged record is believed"
			}
			return ""
		},
		"memo": func(whole, data []byte) string {
			again, err := cache.Open(cacheDir, cache.Options{})
			if err != nil {
				return err.Error()
			}
			for i, k := range facts {
				if v, ok := again.Memo(k); ok && v != cache.SumBytes([]byte{byte(i), 1}) {
					return "a wrong fact"
				}
			}
			return ""
		},
		"snapshot": func(whole, data []byte) string {
			if _, same := snapshot.Same(bytes.NewReader(data), int64(len(data))); same != bytes.Equal(data, whole) {
				return "a damaged snapshot is believed, or a whole one is not"
			}
			return ""
		},
		"version": func(whole, data []byte) string {
			again, err := cache.Open(cacheDir, cache.Options{})
			var e *cache.Error
			if err != nil && (!errors.As(err, &e) || e.Hint() == "") {
				return err.Error()
			}
			if err == nil && !again.Complete(rec) {
				return "an output is lost"
			}
			return ""
		},
		"blob": func(whole, data []byte) string {
			if b, err := c.ReadBlob(rec.Outputs[0].Digest, 1<<20); err == nil && !bytes.Equal(b, outputs[0]) {
				return "wrong bytes"
			}
			return ""
		},
		"provenance": func(whole, data []byte) string {
			p := executor.ReadProvenance(filepath.Join(dir, "q4"))
			if p == nil && bytes.Equal(data, whole) {
				return "it is not read"
			}
			return ""
		},
		"accepted": func(whole, data []byte) string {
			_, err := judge.ReadAccepted(filepath.Join(dir, judge.AcceptedName))
			return hinted(err)
		},
		"lock": func(whole, data []byte) string {
			l, err := lock.Parse(lock.Name, data)
			if err != nil {
				return hinted(err)
			}
			if again, err := lock.Parse(lock.Name, l.Format()); err != nil || lock.Diff(l, again) != nil {
				return "what was read is not what is written"
			}
			return ""
		},
		"results": func(whole, data []byte) string {
			_, err := result.Read(filepath.Join(dir, "results.jsonl"))
			return hinted(err)
		},
	}
	held := func(whole, data []byte) string { // whatever it says, a collection protects more or less, and nothing else
		_, err := c.GC(cache.GCOptions{MaxSize: 1 << 40, DryRun: true})
		if err != nil {
			return err.Error()
		}
		if !c.Complete(rec) {
			return "an output is lost"
		}
		return ""
	}
	readers["root"], readers["lease"] = held, held
	for i := range files {
		file := &files[i]
		if file.whole == nil {
			if file.whole, err = os.ReadFile(file.path); err != nil {
				return nil, err
			}
		}
		if err := os.Remove(file.path); err != nil && !os.IsNotExist(err) { // blobs are read-only
			return nil, err
		}
		if err := os.WriteFile(file.path, file.whole, 0o644); err != nil {
			return nil, err
		}
		read := readers[file.name]
		file.read = func(data []byte) string {
			if file.name == "blob" { // one that was found wrong has been taken away
				if err := os.WriteFile(file.path, data, 0o644); err != nil {
					return err.Error()
				}
			}
			return read(file.whole, data)
		}
	}
	return files, nil
}

// hinted says when an error does not say what to do.
func hinted(err error) string {
	if err != nil && hint.Of(err) == "" {
		return "no hint: " + err.Error()
	}
	return ""
}

func exampleLock() []byte {
	l := lock.New()
	commit := strings.Repeat("0123456789", 4)
	l.Set("hf:org/name@main", lock.Pin{Kind: "model", Commit: commit, Type: "llama"}, []lock.File{
		{Path: "config.json", Size: 658, SHA256: cache.SumBytes([]byte("c"))}, {Path: "model.safetensors", Size: 1 << 33, SHA256: cache.SumBytes([]byte("m"))}})
	l.Set("hf:datasets/org/data", lock.Pin{Kind: "dataset", Commit: commit, Type: "-"}, []lock.File{{Path: "a b.txt", Size: 1, SHA256: cache.SumBytes([]byte("a"))}})
	l.Tools["mlx"] = "0.32.4"
	return l.Format()
}
