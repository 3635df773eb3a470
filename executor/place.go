package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// ForeignFolderError is an output folder that mlxbuild may not replace.
type ForeignFolderError struct {
	Folder, What string
	Newer        bool // a newer mlxbuild made it
}

func (e *ForeignFolderError) Error() string { return e.Folder + " " + e.What }

// Hint says how to go on.
func (e *ForeignFolderError) Hint() string {
	if e.Newer {
		return "update mlxbuild, or choose another place; --force replaces it"
	}
	return "move it away, choose another name, or replace it with --force"
}

// unwritable says of a folder that cannot be written what to do; other errors come back as they are.
func unwritable(folder string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return &UnwritableError{folder, err}
	}
	return err
}

// UnwritableError is an output folder that cannot be made.
type UnwritableError struct {
	Folder string
	Err    error
}

func (e *UnwritableError) Error() string {
	return fmt.Sprintf("%s cannot be written: %v", e.Folder, e.Err)
}

// Unwrap is the operating system's error.
func (e *UnwritableError) Unwrap() error { return e.Err }

// Hint says how to go on.
func (e *UnwritableError) Hint() string {
	return "mend the permissions of " + filepath.Dir(e.Folder) + ", or choose another place; what was made is in the cache and will not be made again"
}

// mayReplace reports whether what lies at the output folder's place may be replaced: nothing, or what mlxbuild made for this target.
func (w worker) mayReplace(folder string, key cache.Digest) error {
	s := w.run.graph.Steps[w.id]
	info, err := os.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) || w.run.o.Force {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &ForeignFolderError{Folder: folder, What: "is in the way: it is a file, not a folder that mlxbuild made"}
	}
	p, newer := readProvenance(folder)
	if newer {
		return &ForeignFolderError{Folder: folder, What: "was made by a newer mlxbuild, as the provenance file beside it says", Newer: true}
	}
	if p == nil || p.Target != s.Target {
		if empty(folder) {
			return nil
		}
		return &ForeignFolderError{Folder: folder, What: "exists, and mlxbuild did not make it for this target"}
	}
	if here := filepath.Base(s.Recipe); p.Recipe != here && p.Recipe != "" && p.Key != key {
		if _, err := os.Stat(filepath.Join(filepath.Dir(w.buildDir()), p.Recipe)); err == nil {
			return &ForeignFolderError{Folder: folder, What: fmt.Sprintf("belongs to target %s of %s, which %s makes in another way", s.Target, p.Recipe, here)}
		}
	}
	return nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// link puts a record's outputs into the step's folder: built beside it and renamed, so that the folder is always a whole one. Weights are links into the
// cache, everything else is a copy that its owner may edit. It returns how many weight files had to be copied.
func (w worker) link(ctx context.Context, rec *cache.Record) (copies int, err error) {
	folder := w.run.graph.Steps[w.id].Folder
	release, err := w.run.o.Cache.Lock(ctx, cache.SumBytes([]byte("folder\n"+folder)), func(string) {})
	if err != nil {
		return 0, err
	}
	defer release()
	if err := w.mayReplace(folder, rec.Key); err != nil {
		return 0, err
	}
	parent := filepath.Dir(folder)
	if err := w.openBuildDir(parent); err != nil {
		return 0, err
	}
	next, old := filepath.Join(parent, "."+filepath.Base(folder)+".next"), filepath.Join(parent, "."+filepath.Base(folder)+".old")
	for _, stale := range []string{next, old} { // left by a run that was killed here; the lock says it is nobody's
		if err := os.RemoveAll(stale); err != nil {
			return 0, err
		}
	}
	defer os.RemoveAll(next)
	if copies, err = w.linkAll(ctx, rec, next); err != nil {
		return copies, err
	}
	return copies, w.swap(rec, folder, next, old)
}

// linkAll puts the outputs into a new folder, several at a time: each copy is synced, and the disk takes them together.
func (w worker) linkAll(ctx context.Context, rec *cache.Record, dir string) (copies int, err error) {
	type linked struct {
		kind cache.LinkKind
		err  error
	}
	results := make([]linked, len(rec.Outputs))
	var wg sync.WaitGroup
	room := make(chan struct{}, 8)
	for i, o := range rec.Outputs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			room <- struct{}{}
			defer func() { <-room }()
			if results[i].err = ctx.Err(); results[i].err == nil {
				results[i].kind, results[i].err = w.linkOne(o, filepath.Join(dir, filepath.FromSlash(o.Path)))
			}
		}()
	}
	wg.Wait()
	for i, r := range results {
		if r.err != nil {
			return copies, r.err
		}
		if r.kind == cache.Copy && isWeights(rec.Outputs[i].Path) {
			copies++
		}
	}
	return copies, nil
}

func (w worker) linkOne(o cache.Output, dst string) (cache.LinkKind, error) {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return "", err
	}
	return w.run.o.Cache.Place(o.Digest, dst, !isWeights(o.Path))
}

func isWeights(path string) bool { return strings.HasSuffix(path, ".safetensors") }

// swap makes next the folder. The provenance goes first: at any instant it names the folder that is there as mlxbuild's own.
func (w worker) swap(rec *cache.Record, folder, next, old string) error {
	if err := w.writeProvenance(rec, folder); err != nil {
		return err
	}
	err := os.Rename(folder, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, folder); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(folder)); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// openBuildDir makes the folder that outputs go to, and keeps a recipe's build folder out of git.
func (w worker) openBuildDir(parent string) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	build := w.buildDir()
	rel, err := filepath.Rel(build, parent)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil // a folder the user named; not ours to mark
	}
	ignore := filepath.Join(build, ".gitignore")
	if _, err := os.Lstat(ignore); err == nil {
		return nil
	}
	return atomicfile.Write(ignore, []byte("*\n"), 0o644)
}
