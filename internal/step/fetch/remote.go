package fetch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// remote is a model on the Hub. With its pin, everything about it is known but the bytes themselves.
type remote struct {
	hub   *Hub
	model spec.Model

	measure sync.Once
	size    int64 // bytes that were missing when that was first asked for

	mu  sync.Mutex
	dir string // where Read has put it
}

// Tree of a pin: the SHA-256 of its listing, the same as that of any other tree of files.
func Tree(p *spec.Pin) cache.Digest { return cache.SumBytes([]byte(listing(p))) }

func listing(p *spec.Pin) string {
	var inputs []source.Input
	for _, f := range p.Files {
		inputs = append(inputs, source.Input{Role: f.Path, Digest: f.SHA256, Size: f.Size})
	}
	return source.Listing(inputs)
}

// Known is what the lock says.
func (r *remote) Known(*cache.Cache) (cache.Digest, bool) {
	if r.model.Pin == nil {
		return cache.Digest{}, false
	}
	return Tree(r.model.Pin), true
}

// Watch has nothing to name: what is pinned is known by the lock.
func (r *remote) Watch(*snapshot.Taker) bool { return r.model.Pin != nil }

// Ready is false until Read has laid the folder out, which takes no time when the files are at hand.
func (r *remote) Ready(*cache.Cache) bool { return r.Dir() != "" }

// Dir of links to the files, once Read has made it.
func (r *remote) Dir() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dir
}

// Size is what would have to be fetched. It stays while the files arrive: progress is told against it.
func (r *remote) Size() int64 {
	r.measure.Do(func() {
		for _, f := range r.missing() {
			r.size += f.Size
		}
	})
	return r.size
}

// After is empty when everything is at hand.
func (r *remote) After() string {
	switch {
	case r.model.Pin == nil:
		return "lock and fetch"
	case len(r.missing()) > 0:
		return "fetch"
	}
	return ""
}

func (r *remote) missing() (out []spec.PinnedFile) {
	if r.model.Pin == nil || r.hub == nil {
		return nil
	}
	for _, f := range r.model.Pin.Files {
		if _, ok := r.hub.locate(r.model, f); !ok {
			out = append(out, f)
		}
	}
	return out
}

// files that are fetched at a time. The client limits connections.
const filesAtATime = 4

// Read fetches what is not at hand and lays the folder out.
func (r *remote) Read(ctx context.Context, e *step.Env) (cache.Digest, error) {
	if r.hub == nil || r.model.Pin == nil {
		return cache.Digest{}, fmt.Errorf("BUG: %s was to be fetched, and is not pinned", r.model.Asked())
	}
	pin, c := r.model.Pin, r.hub.Cache
	for _, f := range pin.Files {
		e.Hold(f.SHA256)
	}
	missing := r.missing()
	if err := r.reserve(missing); err != nil {
		return cache.Digest{}, err
	}
	started := time.Now()
	if err := r.fetch(ctx, e, missing); err != nil {
		return cache.Digest{}, c.Explain(r.model.Asked(), err)
	}
	tree := Tree(pin)
	if len(missing) > 0 {
		if err := r.record(started); err != nil {
			return tree, err
		}
	}
	dir, err := r.hub.view(r.model)
	if err == nil {
		err = r.sameType(dir)
	}
	if err != nil {
		return tree, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dir = dir
	return tree, nil
}

// sameType holds the lock's model_type, which keys are made of, against the config.
func (r *remote) sameType(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil // who opens the model says so
	}
	if is := typeOf(data); is != r.model.Pin.ModelType && (is != "" || r.model.Pin.ModelType != "-") {
		return &Refused{fmt.Sprintf("the lock says that %s is of model_type %s, and its config.json says %q", r.model.Asked(), r.model.Pin.ModelType, is), "bring back the last lock with git, or run `mlxbuild lock --update " + r.model.Name + "`"}
	}
	return nil
}

// reserve room for what will be fetched. What Hugging Face's cache has is used there, if it is right.
func (r *remote) reserve(files []spec.PinnedFile) error {
	var bytes int64
	for _, f := range files {
		if _, there := r.hub.cached(r.model, f); !there {
			bytes += f.Size - hub.Begun(r.hub.parts(), cache.Digest(f.SHA256).String())
		}
	}
	if bytes == 0 {
		return nil
	}
	return r.hub.Cache.Reserve(bytes)
}

// fetch files, several at a time; the first error ends all.
func (r *remote) fetch(ctx context.Context, e *step.Env, files []spec.PinnedFile) error {
	if len(files) == 0 {
		return nil
	}
	stage, err := r.hub.Cache.NewStage()
	if err != nil {
		return err
	}
	defer stage.Remove()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var once sync.Once
	waiting := func(holder string) {
		once.Do(func() { e.Message("waiting for " + holder + ", which fetches the same") })
	}
	room := make(chan struct{}, filesAtATime)
	for _, f := range files {
		wg.Add(1)
		go func() {
			defer wg.Done()
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			case <-ctx.Done():
				return
			}
			if err := r.file(ctx, e, stage, f, waiting); err != nil {
				cancel(err)
			}
		}()
	}
	wg.Wait()
	return context.Cause(ctx)
}

// file brings one file into the cache, or finds it in Hugging Face's.
func (r *remote) file(ctx context.Context, e *step.Env, stage *cache.Stage, f spec.PinnedFile, waiting func(holder string)) error {
	h, c := r.hub, r.hub.Cache
	release, err := c.Lock(ctx, cache.SumBytes(append([]byte("fetch\n"), f.SHA256[:]...)), waiting)
	if err != nil {
		return err
	}
	defer release()
	if _, ok := h.locate(r.model, f); ok { // another run has fetched it
		return nil
	}
	if _, there := h.cached(r.model, f); there {
		if h.adopt(r.model, f) {
			e.Message(f.Path + " is in Hugging Face's cache")
			return nil
		}
		e.Message(f.Path + " in Hugging Face's cache has other content than it should, and is not used (mlxbuild fetch --hf-cache mends it)")
	}
	client, err := h.client()
	if err != nil {
		return err
	}
	repo, err := hub.ParseRepo(r.model.Source.Ref)
	if err != nil {
		return err
	}
	sum := cache.Digest(f.SHA256)
	out := stage.Path(sum.String())
	tee := teeOf(f)
	got, err := client.Download(ctx, repo, r.model.Pin.Commit, hub.File{Path: f.Path, Size: f.Size, SHA256: sum.String()},
		hub.Download{Parts: h.parts(), Path: out, Progress: e.Progress, Tee: tee.writer()})
	if err != nil {
		return err
	}
	if got != f.SHA256 {
		return fmt.Errorf("BUG: %s was taken for %s and is %s", f.Path, sum.Short(), cache.Digest(got).Short())
	}
	if err := c.AddFile(out, sum); err != nil {
		return err
	}
	blob, _, err := c.Blob(sum)
	if err != nil {
		return err
	}
	tee.remember(c, blob, f)
	return h.rememberHeader(f, blob)
}

// record names the blobs, so that collection knows what they are and what it takes to have them again.
func (r *remote) record(started time.Time) error {
	c := r.hub.Cache
	k := cache.NewKey("fetch")
	var lines []string
	rec := &cache.Record{Step: "source " + r.model.Name, Started: started.UTC(), Seconds: time.Since(started).Seconds(), Tree: Tree(r.model.Pin), Machine: r.hub.Machine, Mlxbuild: r.hub.Version}
	for _, f := range r.model.Pin.Files {
		lines = append(lines, fmt.Sprintf("%d %s %s", f.Size, cache.Digest(f.SHA256), f.Path))
		if _, size, err := c.Blob(f.SHA256); err == nil { // others are Hugging Face's
			rec.Outputs = append(rec.Outputs, cache.Output{Path: f.Path, Digest: f.SHA256, Size: size, Mode: 0o644})
		}
	}
	k.Param("files", lines)
	rec.KeyText, rec.Key = k.Text(), k.Sum()
	var err error
	if rec.Result, err = json.Marshal(map[string]string{"source": r.model.Source.Kind + ":" + r.model.Source.Ref, "commit": r.model.Pin.Commit}); err != nil {
		return err
	}
	return c.AddRecord(rec)
}

// Check looks whether the files are as they were when they were proved.
func (r *remote) Check(_ context.Context, c *cache.Cache, _ cache.Digest) error {
	for _, f := range r.model.Pin.Files {
		path := filepath.Join(r.Dir(), filepath.FromSlash(f.Path))
		if d, _, ok := r.hub.Cache.KnownFileDigest(path); ok && d == f.SHA256 {
			continue
		}
		if d, _, err := r.hub.Cache.FileDigest(path, nil); err != nil || d != f.SHA256 {
			return &source.Error{What: fmt.Sprintf("%s of %s changed while the build ran", f.Path, r.model.Asked()), Do: "run again; `mlxbuild cache verify` looks for damage"}
		}
	}
	return nil
}

// Dependencies are the commit and each file of it, for provenance.
func (r *remote) Dependencies(*cache.Cache) []step.Dependency {
	pin := r.model.Pin
	if pin == nil {
		return nil
	}
	uri := "pkg:huggingface/" + r.model.Source.Ref + "@" + pin.Commit // a package URL; which Hub or mirror served it is not part of what it is
	out := []step.Dependency{{Name: r.model.Source.Ref, URI: uri, Digest: map[string]string{"gitCommit": pin.Commit}}}
	for _, f := range pin.Files {
		at := uri + "#" + (&url.URL{Path: f.Path}).EscapedPath()
		out = append(out, step.Dependency{Name: r.model.Source.Ref + "/" + f.Path, URI: at, Digest: map[string]string{"sha256": cache.Digest(f.SHA256).String()}})
	}
	return out
}

// tee hashes tensors while a weight file streams in, so that its listing is known without reading it again.
type tee struct{ hasher *source.Hasher }

func teeOf(f spec.PinnedFile) tee {
	if path.Ext(f.Path) != ".safetensors" {
		return tee{}
	}
	return tee{source.NewHasher(f.Size)}
}

func (t tee) writer() hub.Tee {
	if t.hasher == nil {
		return nil
	}
	return t.hasher
}

// remember the listing under the blob's metadata. Where the stream did not come through whole there is none, and the file is hashed when it is needed.
func (t tee) remember(c *cache.Cache, blob string, f spec.PinnedFile) {
	if t.hasher != nil {
		t.hasher.Remember(c, blob)
	}
}

// weights of a model are what a plan needs the headers of.
func isWeights(name string) bool {
	return strings.HasPrefix(name, "model") && strings.HasSuffix(name, ".safetensors")
}
