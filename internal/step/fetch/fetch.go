// Package fetch plans where a model's files come from: a local folder is read in place and known by its content's digests. A Hugging Face source is planned, and
// its headers are used where a snapshot is at hand; fetching it is refused with what to do instead.
package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Kind plans one source step for each model that a target uses.
type Kind struct {
	// Snapshot finds a folder with a Hub model's config and headers, for planning only; nil when there is none.
	Snapshot func(m spec.Model) (dir string, ok bool)
}

// Name of the kind.
func (Kind) Name() string { return "source" }

// Plan adds the sources of all targets, and of folders that are validated or timed as they are.
func (k Kind) Plan(b step.Builder) spec.Diags {
	seen := map[string]bool{}
	for _, t := range b.Targets() {
		k.add(b, t.Model, seen)
	}
	for _, v := range b.Recipe().Validations {
		for _, m := range b.Recipe().Models {
			if m.Name == v.Folder || m.Name == v.Reference.Folder {
				k.add(b, m, seen)
			}
		}
	}
	for _, timed := range b.Recipe().Benchmarks {
		for _, m := range b.Recipe().Models {
			if timed.Folders { // such a recipe has no other models
				k.add(b, m, seen)
			}
		}
	}
	return nil
}

func (k Kind) add(b step.Builder, m spec.Model, seen map[string]bool) {
	if seen[m.Name] {
		return
	}
	seen[m.Name] = true
	s := step.Step{Kind: "source", Name: "source " + m.Name, Pos: m.Source.Pos, Pool: step.PoolCPU, Labels: step.Labels{"kind": "source", "model": m.Name}, Out: b.Artifact(step.ModelArtifact(m))}
	dir, _ := k.Dir(m)
	if m.Source.Kind == "path" {
		s.Source = local{dir}
	} else {
		s.Source = remote{m, dir}
	}
	b.Add(s)
}

// Dir is the folder where a model's headers can be read, and whether there is one.
func (k Kind) Dir(m spec.Model) (dir string, ok bool) {
	if m.Source.Kind == "path" {
		if abs, err := filepath.Abs(m.Source.Path); err == nil {
			return abs, true
		}
		return m.Source.Path, true
	}
	if k.Snapshot == nil {
		return "", false
	}
	return k.Snapshot(m)
}

// local is a folder on this machine, read in place.
type local struct{ dir string }

func (l local) Dir() string   { return l.dir }
func (l local) After() string { return "hashing" }

func (l local) Size() (total int64) {
	_ = walk(l.dir, func(_ string, info os.FileInfo) { total += info.Size() })
	return total
}

// Known looks the folder's fingerprint up: names and metadata of its files, symbolic links followed.
func (l local) Known(c *cache.Cache) (cache.Digest, bool) {
	print, _, err := fingerprint(l.dir)
	if err != nil {
		return cache.Digest{}, false
	}
	return c.Memo(print)
}

// Read hashes what has changed. The listing of roles and digests is kept in the cache under its own digest, so that `explain` can name changed files.
func (l local) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	started := time.Now()
	print, newest, err := fingerprint(l.dir)
	if err != nil {
		return cache.Digest{}, err
	}
	folder, err := source.OpenAny(l.dir)
	if err != nil {
		return cache.Digest{}, err
	}
	digests, err := folder.Digests(ctx, e.Cache, e.Progress)
	if err != nil {
		return cache.Digest{}, err
	}
	tree, err := e.Cache.AddBytes([]byte(source.Listing(digests.Inputs)))
	if err != nil {
		return tree, err
	}
	after, _, err := fingerprint(l.dir)
	if err != nil || after != print {
		return tree, errors.New(l.dir + " changed while it was read; run again when it is complete")
	}
	if started.Sub(newest) > racy {
		e.Cache.SetMemo(print, tree)
	}
	return tree, nil
}

// racy is how old a file must be when hashing starts to be known by its metadata afterwards: a file system's clock ticks every few milliseconds, and a write in the same tick
// leaves no trace in it.
const racy = 20 * time.Millisecond

func fingerprint(dir string) (print cache.Digest, newest time.Time, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "source\n%s\n", dir)
	err = walk(dir, func(rel string, info os.FileInfo) {
		k := cache.StatKey(info)
		fmt.Fprintf(h, "%s\x00", rel)
		h.Write(k[:])
		if t := info.ModTime(); t.After(newest) {
			newest = t
		}
	})
	return cache.Digest(h.Sum(nil)), newest, err
}

// walk visits the files of a model folder: its own and those of additional_chat_templates/.
func walk(dir string, visit func(rel string, info os.FileInfo)) error {
	for _, sub := range []string{"", "additional_chat_templates"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && sub == "" {
			return err
		}
		for _, e := range entries {
			info, err := os.Stat(filepath.Join(dir, sub, e.Name()))
			if err == nil && info.Mode().IsRegular() {
				visit(filepath.ToSlash(filepath.Join(sub, e.Name())), info)
			}
		}
	}
	return nil
}

// remote is a Hub model. Its headers may be at hand in a snapshot; its weights are not.
type remote struct {
	model spec.Model
	dir   string
}

func (r remote) Dir() string                             { return r.dir }
func (r remote) Size() int64                             { return 0 }
func (r remote) After() string                           { return "fetch" }
func (r remote) Known(*cache.Cache) (cache.Digest, bool) { return cache.Digest{}, false }

func (r remote) Read(context.Context, *step.Env) (cache.Digest, error) {
	return cache.Digest{}, &NotYetError{r.model}
}

// NotYetError says that a Hub source cannot be fetched by this version.
type NotYetError struct{ Model spec.Model }

func (e *NotYetError) Error() string {
	return fmt.Sprintf("fetching hf:%s from the Hub comes in a later version", e.Model.Source.Ref)
}

// Hint is the way round.
func (e *NotYetError) Hint() string {
	return fmt.Sprintf("download it once (hf download %s --local-dir models/%s) and write source: path:models/%s", e.Model.Source.Ref, e.Model.Name, e.Model.Name)
}
