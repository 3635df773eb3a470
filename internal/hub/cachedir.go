package hub

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// Hugging Face's own cache: models--org--name/{refs,blobs,snapshots}, blobs named by ETag (SHA-256 or git hash), and snapshots/<commit>/<path> as links to them.

// folder of a repository in the cache.
func (s Settings) folder(r Repo) string {
	return filepath.Join(s.CacheDir, r.Kind+"--"+strings.ReplaceAll(r.ID, "/", "--"))
}

// Cached finds a file of a repository in Hugging Face's own cache, by its name there and its size. Its content is not looked at: their client does not check it either.
// commit may be empty; with it a file is found whose blob has another name than f knows, by the link of that commit.
func (s Settings) Cached(r Repo, commit string, f File) (name string, ok bool) {
	if s.CacheDir == "" || r.check() != nil || f.check() != nil || CheckPath(f.Path) != nil {
		return "", false
	}
	if checkCommit(commit) == nil {
		if name, ok := s.inside(r, filepath.Join(s.folder(r), "snapshots", commit, filepath.FromSlash(f.Path)), f.Size); ok {
			return name, true
		}
	}
	if name, ok := s.inside(r, filepath.Join(s.folder(r), "blobs", f.oid()), f.Size); ok {
		return name, true
	}
	snapshots := filepath.Join(s.folder(r), "snapshots") // where there are no links the files are here
	entries, err := os.ReadDir(snapshots)
	if err != nil {
		return "", false
	}
	for _, e := range entries[:min(len(entries), maxSnapshots)] {
		at := filepath.Join(snapshots, e.Name(), filepath.FromSlash(f.Path))
		if info, err := os.Lstat(at); err != nil || !info.Mode().IsRegular() {
			continue // a link leads to a blob of another name
		}
		if name, ok := s.inside(r, at, f.Size); ok {
			return name, true
		}
	}
	return "", false
}

const maxSnapshots = 1000

// inside follows links (newer caches share blobs between repositories by them) to a regular file of that size, which must be in the cache or where the repository's folder itself leads to.
func (s Settings) inside(r Repo, at string, size int64) (string, bool) {
	name, err := filepath.EvalSymlinks(at)
	if err != nil {
		return "", false
	}
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		return "", false
	}
	top, err := filepath.EvalSymlinks(s.CacheDir)
	if err != nil {
		return "", false
	}
	if below(top, name) {
		return name, true
	}
	own, err := filepath.EvalSymlinks(s.folder(r)) // people move repositories to other disks
	return name, err == nil && below(own, name)
}

func below(dir, name string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && filepath.IsLocal(rel)
}

// WriteCache puts files of a commit into Hugging Face's own cache, so that its programs find them, offline too. files are paths and local files whose content is checked already;
// of says their hashes. Each file comes whole or not at all, what is right already stays, and the name of the revision comes last.
func (s Settings) WriteCache(r Repo, revision, commit string, files map[string]string, of []File) error {
	if err := checkWrite(r, revision, commit, files); err != nil {
		return err
	}
	if err := os.MkdirAll(s.folder(r), 0o755); err != nil {
		return cacheError(s.CacheDir, err)
	}
	if err := tagCache(s.CacheDir); err != nil {
		return cacheError(s.CacheDir, err)
	}
	root, err := os.OpenRoot(s.folder(r)) // no link in it leads us out
	if err != nil {
		return cacheError(s.CacheDir, err)
	}
	defer root.Close()
	w := cacheWriter{s, r, root}
	for _, f := range of {
		local, wanted := files[f.Path]
		if !wanted {
			continue
		}
		if err := errors.Join(f.check(), w.put(f, local, "snapshots/"+commit+"/"+f.Path)); err != nil {
			return cacheError(s.CacheDir, err)
		}
	}
	if revision == "" || revision == commit {
		return nil
	}
	err = w.write("refs/"+revision, func(f *os.File) error {
		_, err := f.WriteString(commit)
		return err
	})
	return cacheError(s.CacheDir, err)
}

func checkWrite(r Repo, revision, commit string, files map[string]string) error {
	if err := r.check(); err != nil {
		return err
	}
	if err := checkCommit(commit); err != nil {
		return err
	}
	if revision != "" {
		if err := CheckPath(revision); err != nil {
			return err
		}
	}
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return CheckPaths(paths)
}

func cacheError(dir string, err error) error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case isFull(err):
		return &Error{Class: Full, What: "the Hugging Face cache at " + dir + " cannot be written", Do: "make room, or set HF_HUB_CACHE to a folder on another disk", Err: err}
	}
	return &Error{What: "the Hugging Face cache at " + dir + " cannot be written", Do: "check its permissions, or set HF_HUB_CACHE to another folder", Err: err}
}

const cacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by huggingface_hub.\n"

// tagCache tells backup programs that it is a cache.
func tagCache(dir string) error {
	name := filepath.Join(dir, "CACHEDIR.TAG")
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	return atomicfile.Write(name, []byte(cacheTag), 0o644)
}

// cacheWriter writes below the folder of one repository.
type cacheWriter struct {
	s    Settings
	r    Repo
	root *os.Root
}

// put a file among the blobs and link it into the snapshot.
func (w cacheWriter) put(f File, local, snapshot string) error {
	blob := "blobs/" + f.oid()
	fill := func(out *os.File) error { return copyFile(out, local, f) }
	if !w.right(blob, f) {
		if err := w.write(blob, fill); err != nil {
			return err
		}
	}
	target := strings.Repeat("../", strings.Count(snapshot, "/")) + blob
	if at, err := w.root.Readlink(filepath.FromSlash(snapshot)); err == nil && filepath.ToSlash(at) == target {
		return nil
	}
	if err := w.link(target, snapshot); err == nil {
		return nil
	}
	if w.right(snapshot, f) { // no links here
		return nil
	}
	return w.write(snapshot, fill)
}

// right reports whether a file that is there has the right content. Their client leaves files with wrong content too.
func (w cacheWriter) right(name string, f File) bool {
	at, ok := w.s.inside(w.r, filepath.Join(w.s.folder(w.r), filepath.FromSlash(name)), f.Size)
	if !ok {
		return false
	}
	in, err := os.Open(at)
	if err != nil {
		return false
	}
	defer in.Close()
	return proved(in, f)
}

// proved reads a file and compares its hash.
func proved(in io.Reader, f File) bool {
	h := hasher(f)
	n, err := io.Copy(h, io.LimitReader(in, f.Size+1))
	return err == nil && n == f.Size && hex.EncodeToString(h.Sum(nil)) == f.oid()
}

func copyFile(out *os.File, local string, f File) error {
	in, err := os.Open(local)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != f.Size {
		err = fmt.Errorf("%s has %d bytes, not the %d of %s", local, n, f.Size, clean(f.Path))
	}
	return err
}

// write a file: beside the blobs first, then into its place.
func (w cacheWriter) write(name string, fill func(*os.File) error) error {
	temp, err := w.temp(name)
	if err != nil {
		return err
	}
	out, err := w.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err = fill(out); err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return w.place(temp, name, err)
}

func (w cacheWriter) link(target, name string) error {
	temp, err := w.temp(name)
	if err != nil {
		return err
	}
	return w.place(temp, name, w.root.Symlink(filepath.FromSlash(target), temp))
}

// temp is a new name, in the form of their client's unfinished files so that it cleans them up too; the folder of the final name is made.
func (w cacheWriter) temp(name string) (string, error) {
	for _, dir := range []string{"blobs", path.Dir(name)} {
		if err := w.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return "", err
		}
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return filepath.Join("blobs", fmt.Sprintf("%s.%x.incomplete", path.Base(name), random)), nil
}

// place renames what was made well, and takes away what was not.
func (w cacheWriter) place(temp, name string, err error) error {
	if err == nil {
		err = w.root.Rename(temp, filepath.FromSlash(name))
	}
	if err != nil {
		_ = w.root.Remove(temp)
		return err
	}
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := w.root.Open(filepath.FromSlash(path.Dir(name)))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
