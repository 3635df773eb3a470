package hubtest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Repo is a repository of the Hub. Its methods may be called while the Hub serves it.
type Repo struct {
	hub      *Hub
	kind, id string // "models" or "datasets"; "org/name" or "name"

	private  bool
	disabled bool
	gate     string          // "", "auto", "manual"
	admitted map[string]bool // users on the list of a gated repository
	author   string
	commits  map[string]*commit
	refs     map[string]string // "refs/heads/main" and so on to commit
	serial   int
}

type commit struct {
	id, parent string
	title      string
	date       time.Time
	files      map[string]file
	trees      map[string]string // folders, "" for the root
}

// Repo returns a repository and makes it, empty, where there is none. Kind is "models" or "datasets".
func (h *Hub) Repo(kind, id string) *Repo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.repoOf(kind, id)
}

func (h *Hub) repoOf(kind, id string) *Repo {
	key := kind + "/" + id
	if r := h.repos[key]; r != nil {
		return r
	}
	delete(h.moved, key) // a name that was left can be taken again
	r := &Repo{hub: h, kind: kind, id: id, admitted: map[string]bool{}, commits: map[string]*commit{}, refs: map[string]string{}}
	r.author, _ = split(id)
	h.repos[key] = r
	return r
}

// ID is what the repository is called now.
func (r *Repo) ID() string {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	return r.id
}

// Commit adds files to what a branch has, and takes away those whose content is nil. It returns the new commit. A branch that
// is not there yet begins where main is.
func (r *Repo) Commit(branch string, files map[string][]byte) string {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	changes := map[string]*file{}
	for name, data := range files {
		if data == nil {
			changes[name] = nil
			continue
		}
		changes[name] = r.hub.file(name, content{data: data, size: int64(len(data))})
	}
	if main := r.refs["refs/heads/main"]; main != "" && r.refs[head(branch)] == "" {
		r.refs[head(branch)] = main
	}
	return r.commit(head(branch), "Change "+branch, changes)
}

// CommitDir makes a folder of files, with what is below it, the content of a branch. Files that are large are read from there whenever they are asked for.
func (r *Repo) CommitDir(branch, dir string) (string, error) {
	changes := map[string]*file{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		c := content{path: name, size: info.Size()}
		if c.size < 1<<20 {
			if c.data, err = os.ReadFile(name); err != nil {
				return err
			}
			c.path, c.size = "", int64(len(c.data))
		}
		f, err := r.hub.makeFile(filepath.ToSlash(rel), c)
		changes[filepath.ToSlash(rel)] = f
		return err
	})
	if err != nil {
		return "", err
	}
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if c := r.commits[r.refs[head(branch)]]; c != nil {
		for name := range c.files {
			if _, ok := changes[name]; !ok {
				changes[name] = nil
			}
		}
	}
	return r.commit(head(branch), "Add a folder", changes), nil
}

// Tag names a commit, or what a branch has now.
func (r *Repo) Tag(name, revision string) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if c := r.find(revision); c != nil {
		r.refs["refs/tags/"+name] = c.id
	}
}

// Private hides the repository from those who have no right to it: to them it does not exist.
func (r *Repo) Private(yes bool) { r.change(func() { r.private = yes }) }

// Disabled makes the Hub refuse the repository to everybody.
func (r *Repo) Disabled(yes bool) { r.change(func() { r.disabled = yes }) }

// Gate makes the files wait for an "auto" or "manual" grant; "" opens the gate. What the files are is told to everybody.
func (r *Repo) Gate(how string) { r.change(func() { r.gate = how }) }

// Admit puts users on the list of a gated or private repository.
func (r *Repo) Admit(users ...string) {
	r.change(func() {
		for _, u := range users {
			r.admitted[u] = true
		}
	})
}

// Rename gives the repository a new id. The old one redirects, until somebody takes it.
func (r *Repo) Rename(id string) { r.change(func() { r.rename(id) }) }

// Delete takes the repository away. Hub.Repo of the same id then makes a new one, as when a name is taken over by somebody else.
func (r *Repo) Delete() { r.change(func() { delete(r.hub.repos, r.kind+"/"+r.id) }) }

func (r *Repo) change(f func()) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	f()
}

func (r *Repo) rename(id string) {
	from, to := r.kind+"/"+r.id, r.kind+"/"+id
	delete(r.hub.repos, from)
	delete(r.hub.moved, to)
	r.hub.moved[from] = to
	r.hub.repos[to] = r
	r.id = id
	r.author, _ = split(id)
}

// Head returns the commit that a branch, tag, "refs/pr/N" or commit stands for, "" where there is none.
func (r *Repo) Head(revision string) string {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if c := r.find(revision); c != nil {
		return c.id
	}
	return ""
}

// Files returns the contents of all files of a revision, nil where there is none.
func (r *Repo) Files(revision string) (map[string][]byte, error) {
	r.hub.mu.Lock()
	c := r.find(revision)
	r.hub.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("%s has no revision %s", r.id, revision)
	}
	all := map[string][]byte{}
	for name, f := range c.files {
		data, err := f.bytes()
		if err != nil {
			return nil, err
		}
		all[name] = data
	}
	return all, nil
}

// find looks a revision up. The caller holds the lock.
func (r *Repo) find(revision string) *commit {
	if revision == "HEAD" {
		revision = "main"
	}
	for _, ref := range []string{revision, "refs/heads/" + revision, "refs/tags/" + revision} {
		if id := r.refs[ref]; id != "" {
			return r.commits[id]
		}
	}
	return r.commits[revision]
}

// head is the full name of a branch; what is a full name already stays.
func head(branch string) string {
	if strings.HasPrefix(branch, "refs/") {
		return branch
	}
	return "refs/heads/" + branch
}

// commit puts changes on top of a ref: nil takes a file away. The caller holds the lock.
func (r *Repo) commit(ref, title string, changes map[string]*file) string {
	next := map[string]file{}
	parent := r.commits[r.refs[ref]]
	if parent != nil {
		maps.Copy(next, parent.files)
	}
	for name, f := range changes {
		if f == nil {
			delete(next, name)
			continue
		}
		next[name] = *f
	}
	r.serial++
	c := &commit{title: title, files: next, trees: trees(next), date: time.Unix(1_700_000_000+int64(r.serial), 0).UTC()}
	text := "tree " + c.trees[""] + "\n"
	if parent != nil {
		c.parent = parent.id
		text += "parent " + parent.id + "\n"
	}
	who := fmt.Sprintf("Hub %d <hub@example.com> %d +0000", r.hub.o.Seed, c.date.Unix())
	text += "author " + who + "\ncommitter " + who + "\n\n" + title + "\n"
	c.id = object("commit", []byte(text))
	r.commits[c.id] = c
	r.refs[ref] = c.id
	return c.id
}

// file is makeFile of what is in memory, which cannot fail.
func (h *Hub) file(name string, c content) *file {
	f, err := h.makeFile(name, c)
	if err != nil {
		panic(err)
	}
	return f
}

// makeFile computes the ids of a file.
func (h *Hub) makeFile(name string, c content) (*file, error) {
	id, sha, err := c.hashes()
	if err != nil {
		return nil, err
	}
	f := &file{path: name, sha1: id, content: c}
	if h.isLFS(name, c.size) {
		f.sha1, f.sha256 = object("blob", pointer(sha, c.size)), sha
	}
	return f, nil
}

// isLFS says whether a file is stored outside git: by its name or by its size, never an empty one.
func (h *Hub) isLFS(name string, size int64) bool {
	if size == 0 {
		return false
	}
	byName := slices.Contains([]string{".safetensors", ".bin", ".gguf", ".model", ".pt", ".pth", ".onnx", ".npz"}, path.Ext(name))
	return byName || size > h.o.LFSOver
}

// sorted returns the files of a commit in the order of their paths.
func (c *commit) sorted() []file {
	return slices.SortedFunc(maps.Values(c.files), func(a, b file) int { return strings.Compare(a.path, b.path) })
}
