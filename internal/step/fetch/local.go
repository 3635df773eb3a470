package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// local is a folder on this machine, read in place.
type local struct{ dir string }

func (l local) Dir() string   { return l.dir }
func (l local) After() string { return "hashing" }

// Ready is true: what is read in place is there.
func (l local) Ready(*cache.Cache) bool { return true }

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

// Watch names what the fingerprint is made of.
func (l local) Watch(t *snapshot.Taker) bool {
	t.Listing(l.dir)
	t.Listing(filepath.Join(l.dir, "additional_chat_templates"))
	return true
}

// Read hashes what has changed. The listing of roles and digests is kept in the cache under its own digest, so that `explain` can name changed files.
func (l local) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	print, newest, err := fingerprint(l.dir)
	if err != nil {
		return cache.Digest{}, err
	}
	settled := cache.Settle(newest)
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
		return tree, &source.Error{What: l.dir + " changed while it was read", Do: "run again when it is complete"}
	}
	if settled {
		e.Cache.SetMemo(print, tree)
	}
	return tree, nil
}

// Check hashes what has changed since, which is nothing when all is well.
func (l local) Check(ctx context.Context, c *cache.Cache, proved cache.Digest) error {
	folder, err := source.OpenAny(l.dir)
	if err != nil {
		return err
	}
	digests, err := folder.Digests(ctx, c, nil)
	if err == nil && cache.SumBytes([]byte(source.Listing(digests.Inputs))) != proved {
		err = &source.Error{What: l.dir + " changed while the build ran", Do: "run again when it is complete"}
	}
	return err
}

// fingerprint of the folder's names and metadata, and when the newest of its files was changed last.
func fingerprint(dir string) (print cache.Digest, newest time.Time, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "source\n%s\n", dir)
	err = walk(dir, func(rel string, info os.FileInfo) {
		k := cache.StatKey(info)
		fmt.Fprintf(h, "%s\x00", rel)
		h.Write(k[:])
		if t := cache.LastChange(info); t.After(newest) {
			newest = t
		}
	})
	return cache.Digest(h.Sum(nil)), newest, err
}

// walk visits the files of a model folder: its own and those of additional_chat_templates/.
func walk(dir string, visit func(rel string, info os.FileInfo)) error {
	for _, sub := range []string{"", "additional_chat_templates"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && (sub == "" || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)) {
			return err
		}
		for _, e := range entries {
			info, err := os.Stat(filepath.Join(dir, sub, e.Name()))
			switch {
			case errors.Is(err, fs.ErrNotExist): // a link to nowhere
			case err != nil: // a print without it would stand for a folder without it
				return err
			case info.Mode().IsRegular():
				visit(filepath.ToSlash(filepath.Join(sub, e.Name())), info)
			}
		}
	}
	return nil
}
