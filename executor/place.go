package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

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

// put is what came of putting outputs in place.
type put struct {
	print   cache.Digest // fingerprint of the folder; zero when it is not what this run put there
	copies  int          // weight files that had to be copied
	already bool         // nothing was to be done
}

// link puts a record's outputs into the step's folder: built beside it and renamed, so that the folder is always a whole one. Weights are links into the
// cache, everything else is a copy that its owner may edit.
func (w worker) link(ctx context.Context, rec *cache.Record) (p put, err error) {
	folder := w.run.graph.Steps[w.id].Folder
	release, err := w.run.o.Cache.Lock(ctx, cache.SumBytes([]byte("folder\n"+folder)), func(string) {})
	if err != nil {
		return p, err
	}
	defer release()
	if err := w.mayReplace(folder, rec.Key); err != nil {
		return p, err
	}
	if err := w.openBuildDir(filepath.Dir(folder)); err != nil {
		return p, err
	}
	w.sweep(folder)
	if p.print, p.already = w.inPlaceAlready(rec); p.already {
		return p, nil
	}
	next := privateName(folder, "next")
	if err := os.Mkdir(next, 0o755); err != nil {
		return p, err
	}
	defer os.RemoveAll(next)
	if p.copies, err = w.linkAll(ctx, rec, next); err != nil {
		return p, err
	}
	made, err := os.Lstat(next)
	if err != nil {
		return p, err
	}
	if err := w.swap(rec, folder, next); err != nil {
		return p, err
	}
	p.print, err = Fingerprint(folder)
	if now, gone := os.Lstat(folder); gone != nil || !os.SameFile(made, now) { // another run's, where locks keep nobody out
		return put{copies: p.copies}, nil
	}
	return p, err
}

// inPlaceAlready finds a folder that holds a record's outputs, though its metadata is not as remembered: a hard link to a blob that another folder has as well changes when the other one does. Putting the
// outputs in place again would change the other one's, and so on with every build.
func (w worker) inPlaceAlready(rec *cache.Record) (print cache.Digest, ok bool) {
	s, c := w.run.graph.Steps[w.id], w.run.o.Cache
	if p := ReadProvenance(s.Folder); p == nil || p.Target != s.Target || p.Key != rec.Key || p.Tree != rec.Tree {
		return print, false
	}
	print, err := Fingerprint(s.Folder) // first: what is changed while we look is seen by the next run
	if err != nil || countFiles(s.Folder) != len(rec.Outputs) {
		return print, false
	}
	for _, o := range rec.Outputs {
		path := filepath.Join(s.Folder, filepath.FromSlash(o.Path))
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			return print, false
		}
		if blob, _, err := c.Blob(o.Digest); err != nil {
			return print, false
		} else if at, err := os.Lstat(blob); err == nil && os.SameFile(at, info) {
			continue
		}
		if d, _, err := c.FileDigest(path, nil); err != nil || d != o.Digest {
			return print, false
		}
	}
	return print, true
}

func countFiles(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() { // what cannot be read counts, too: the sum is then not as wanted
			n++
		}
		return nil
	})
	return n
}

// privateName is a name beside an output folder, on its file system. It is this run's own: where locks keep nobody out, another run may be making the same folder.
func privateName(folder, what string) string {
	return filepath.Join(filepath.Dir(folder), fmt.Sprintf(".%s.%s-%d-%d", filepath.Base(folder), what, os.Getpid(), rand.Uint32()))
}

// sweep removes what runs left beside an output folder when they were killed. The folder's lock says that it is nobody's; where locks say nothing, its age does.
func (w worker) sweep(folder string) {
	for _, name := range w.run.leftIn(filepath.Dir(folder)) {
		rest, ok := strings.CutPrefix(name, "."+filepath.Base(folder)+".")
		if what, _, _ := strings.Cut(rest, "-"); !ok || what != "next" && what != "old" {
			continue
		}
		dir := filepath.Join(filepath.Dir(folder), name)
		if info, err := os.Lstat(dir); err == nil && (w.run.o.Cache.LocksWork() || time.Since(info.ModTime()) > 24*time.Hour) {
			_ = os.RemoveAll(dir) // what cannot be removed is in nobody's way
		}
	}
}

// leftIn are the hidden names in a folder that outputs go to, as they were when this run first came there and took away what killed runs were writing: a folder of very many targets is read once.
func (r *run) leftIn(parent string) []string {
	r.leftLock.Lock()
	defer r.leftLock.Unlock()
	if names, ok := r.left[parent]; ok {
		return names
	}
	atomicfile.Sweep(parent)
	var names []string
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	r.left[parent] = names
	return names
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
func (w worker) swap(rec *cache.Record, folder, next string) error {
	if err := syncDirs(next, rec.Outputs); err != nil {
		return err
	}
	if err := w.writeProvenance(rec, folder); err != nil {
		return err
	}
	var err error
	for range 10 { // once, unless other runs do the same at this instant
		old := privateName(folder, "old")
		moved := os.Rename(folder, old)
		if moved != nil && !errors.Is(moved, fs.ErrNotExist) {
			return moved
		}
		if err = os.Rename(next, folder); err == nil {
			err = atomicfile.SyncDir(filepath.Dir(folder))
			if e := os.RemoveAll(old); err == nil {
				err = e
			}
			return err
		}
		if moved == nil && os.Rename(old, folder) == nil { // it stays as it was
			return err
		}
		_ = os.RemoveAll(old)
		if _, e := os.Lstat(folder); e != nil {
			return err
		}
	}
	return err
}

// syncDirs makes the names in a new folder last, before it takes the place of one that was whole.
func syncDirs(dir string, outputs []cache.Output) error {
	synced := map[string]bool{}
	for _, o := range outputs {
		sub := filepath.Dir(filepath.Join(dir, filepath.FromSlash(o.Path)))
		for ; !synced[sub] && len(sub) >= len(dir); sub = filepath.Dir(sub) {
			synced[sub] = true
			if err := atomicfile.SyncDir(sub); err != nil {
				return err
			}
		}
	}
	return nil
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
	w.run.leftIn(build)
	ignore := filepath.Join(build, ".gitignore")
	if _, err := os.Lstat(ignore); err == nil {
		return nil
	}
	return atomicfile.Write(ignore, []byte("*\n"), 0o644)
}
