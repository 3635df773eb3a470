package fetch

import (
	"context"
	"fmt"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// MaxText is the largest corpus that is fetched, in bytes.
const MaxText = 256 << 20

// Text is the step that brings a corpus here.
func (k Kind) Text(c spec.Corpus) step.Step {
	return step.Step{Pool: step.PoolNet, Source: &text{hub: k.Hub, corpus: c}}
}

// text is one file, of a data set on the Hub or at an address, known by its content.
type text struct {
	hub    *Hub
	corpus spec.Corpus
}

// file is what is pinned; ok is false where nothing is yet. Of an address the size is not known: 0.
func (t *text) file() (f spec.PinnedFile, ok bool) {
	if t.corpus.Source.Kind == "https" {
		return spec.PinnedFile{Path: t.corpus.Path, SHA256: t.corpus.SHA256}, true
	}
	if t.corpus.Pin == nil || len(t.corpus.Pin.Files) != 1 {
		return f, false
	}
	return t.corpus.Pin.Files[0], true
}

// Known is what the recipe or the lock says.
func (t *text) Known(*cache.Cache) (cache.Digest, bool) {
	f, ok := t.file()
	return f.SHA256, ok
}

// Watch has nothing to name: recipe and lock say what it is.
func (t *text) Watch(*snapshot.Taker) bool {
	_, ok := t.file()
	return ok
}

// Ready reports whether it is in the cache.
func (t *text) Ready(*cache.Cache) bool { return t.Dir() != "" }

// Dir is the file itself, once it is in the cache.
func (t *text) Dir() string {
	f, ok := t.file()
	if !ok || t.hub == nil {
		return ""
	}
	path, _, err := t.hub.Cache.Blob(f.SHA256)
	if err != nil {
		return ""
	}
	return path
}

// Size that would have to be fetched.
func (t *text) Size() int64 {
	if f, _ := t.file(); t.Dir() == "" {
		return f.Size
	}
	return 0
}

// After is empty when it is at hand.
func (t *text) After() string {
	_, ok := t.file()
	switch {
	case !ok:
		return "lock and fetch"
	case t.Dir() == "":
		return "fetch"
	}
	return ""
}

// Check looks whether it is as it was.
func (t *text) Check(context.Context, *cache.Cache, cache.Digest) error {
	if t.Dir() == "" {
		return fmt.Errorf("the corpus %s went away while it was used; run again", t.corpus.Name)
	}
	return nil
}

// Read fetches it.
func (t *text) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	f, ok := t.file()
	if !ok || t.hub == nil {
		return cache.Digest{}, fmt.Errorf("BUG: the corpus %s was to be fetched, and is not pinned", t.corpus.Name)
	}
	e.Hold(f.SHA256)
	if f.Size > MaxText {
		return cache.Digest{}, &Refused{fmt.Sprintf("the corpus %s has %d bytes; %d are allowed", t.corpus.Name, f.Size, MaxText), "take a part of it: a file of its own"}
	}
	started, c := time.Now(), t.hub.Cache
	if t.corpus.Source.Kind == "hf" {
		m := spec.Model{Name: "corpus " + t.corpus.Name, Source: t.corpus.Source, Pin: t.corpus.Pin}
		r := &remote{hub: t.hub, model: m}
		if err := r.fetch(ctx, e, r.missing()); err != nil {
			return cache.Digest{}, err
		}
		return f.SHA256, r.record(started)
	}
	client, err := t.hub.client()
	if err != nil {
		return cache.Digest{}, err
	}
	data, err := client.Get(ctx, t.corpus.Source.Ref, f.SHA256, MaxText)
	if err != nil {
		return cache.Digest{}, err
	}
	e.Progress(int64(len(data)))
	if _, err := c.AddBytes(data); err != nil {
		return cache.Digest{}, err
	}
	f.Size = int64(len(data))
	r := &remote{hub: t.hub, model: spec.Model{Name: "corpus " + t.corpus.Name, Source: t.corpus.Source, Pin: &spec.Pin{Files: []spec.PinnedFile{f}}}}
	return f.SHA256, r.record(started)
}

// ResolveText asks the Hub for the file of a data set, at a revision or, where that is empty, as it is today.
func (h *Hub) ResolveText(ctx context.Context, c spec.Corpus, revision string) (*spec.Pin, hub.Info, error) {
	repo, err := hub.ParseRepo(c.Source.Ref)
	if err != nil {
		return nil, hub.Info{}, err
	}
	client, err := h.client()
	if err != nil {
		return nil, hub.Info{}, err
	}
	info, err := client.Info(ctx, repo, revision)
	if err == nil {
		err = usable(repo, info)
	}
	if err != nil {
		return nil, info, err
	}
	files, err := client.Files(ctx, repo, info.Commit)
	if err != nil {
		return nil, info, err
	}
	for _, f := range files {
		if f.Path != c.File {
			continue
		}
		if err := hub.CheckPath(f.Path); err != nil {
			return nil, info, err
		}
		r := resolver{hub: h, client: client, repo: repo, commit: info.Commit}
		pin, err := r.pin(ctx, []hub.File{f})
		return pin, info, err
	}
	return nil, info, noFile(c, files)
}

func noFile(c spec.Corpus, files []hub.File) error {
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
	}
	e := &Refused{What: fmt.Sprintf("%s has no file %s", c.Asked(), c.File)}
	if near := spec.Closest(c.File, names); near != "" {
		e.Do = "did you mean " + near + "?"
	}
	return e
}
