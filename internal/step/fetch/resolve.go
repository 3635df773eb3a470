package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Resolve asks the Hub what a source is today: the commit, the files of it that are needed, and the SHA-256 of each. Small files that the Hub knows only by their git id are fetched for it, checked by that id,
// and kept; so are the headers of weight files, for plans.
func (h *Hub) Resolve(ctx context.Context, m spec.Model) (*spec.Pin, hub.Info, error) {
	repo, err := hub.ParseRepo(m.Source.Ref)
	if err != nil {
		return nil, hub.Info{}, err
	}
	client, err := h.client()
	if err != nil {
		return nil, hub.Info{}, err
	}
	info, err := client.Info(ctx, repo, m.Revision)
	if err != nil {
		return nil, info, err
	}
	if err := usable(repo, info); err != nil {
		return nil, info, err
	}
	files, err := client.Files(ctx, repo, info.Commit)
	if err == nil {
		err = complete(repo, info, files)
	}
	if err != nil {
		return nil, info, err
	}
	r := resolver{hub: h, client: client, repo: repo, commit: info.Commit}
	files, err = r.choose(ctx, files)
	if err != nil {
		return nil, info, err
	}
	pin, err := r.pin(ctx, files)
	return pin, info, err
}

// Refused is a repository that is there and cannot be used.
type Refused struct{ What, Do string }

func (e *Refused) Error() string { return e.What }

// Hint says what to do.
func (e *Refused) Hint() string { return e.Do }

// commitForm is the only form that a commit has in a lock and in addresses made from it.
var commitForm = lazyregexp.New(`^[0-9a-f]{40}$`)

// usable refuses what must not be taken in silence: a name that now leads to another repository may have been taken over.
func usable(repo hub.Repo, info hub.Info) error {
	switch {
	case info.ID != repo.ID:
		return &Refused{fmt.Sprintf("%s is now called %s", repo, info.ID), "if that is the model you mean, write hf:" + hub.Repo{Kind: repo.Kind, ID: info.ID}.String() + " in the recipe"}
	case info.Disabled:
		return &Refused{fmt.Sprintf("the Hub has disabled %s", repo), "its page on the Hub says why"}
	case !commitForm().MatchString(info.Commit):
		return &Refused{fmt.Sprintf("the Hub names no commit of %s", repo), "an empty repository has none"}
	}
	return nil
}

// complete holds a listing, which comes in pages that headers lead to, against the names that come with the commit: where a proxy takes the headers away, the list is short and looks whole.
func complete(repo hub.Repo, info hub.Info, files []hub.File) error {
	listed := map[string]bool{}
	for _, f := range files {
		listed[f.Path] = true
	}
	for _, name := range info.Files {
		if !listed[name] && wanted(name) {
			return &Refused{fmt.Sprintf("the Hub's listing of %s lacks %s", repo, name), "if HF_ENDPOINT or a proxy is set, it may take Link headers away; otherwise try again"}
		}
	}
	return nil
}

type resolver struct {
	hub    *Hub
	client *hub.Client
	repo   hub.Repo
	commit string
}

// wanted are the files that a conversion, a runtime or a copy needs; nothing that is code.
func wanted(name string) bool {
	dir, base := path.Split(name)
	switch {
	case dir == "additional_chat_templates/":
		return strings.HasSuffix(base, ".jinja")
	case dir != "":
		return false
	}
	return isWeights(base) || neededToPlan(base) || strings.HasSuffix(base, "config.json") || source.TakesAlong(base)
}

// choose the files that are needed, and refuse repositories that have no model of the kind that is read here.
func (r *resolver) choose(ctx context.Context, files []hub.File) (out []hub.File, err error) {
	var names []string
	for _, f := range files {
		if wanted(f.Path) {
			out, names = append(out, f), append(names, f.Path)
		}
	}
	if more, err := r.indexed(ctx, out); err != nil {
		return nil, err
	} else if len(more) > 0 {
		for _, f := range files {
			if slices.Contains(more, f.Path) && !slices.Contains(names, f.Path) {
				out, names = append(out, f), append(names, f.Path)
			}
		}
	}
	if err := hub.CheckPaths(names); err != nil {
		return nil, err
	}
	if !slices.Contains(names, "config.json") {
		return nil, &Refused{fmt.Sprintf("%s has no config.json", r.repo), noModel(files)}
	}
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".safetensors") }) {
		return nil, &Refused{fmt.Sprintf("%s has no model*.safetensors", r.repo), noModel(files)}
	}
	return out, nil
}

// indexed are weight files that the index names, whatever they are called.
func (r *resolver) indexed(ctx context.Context, files []hub.File) (names []string, err error) {
	i := slices.IndexFunc(files, func(f hub.File) bool { return f.Path == safetensors.IndexName })
	if i < 0 {
		return nil, nil
	}
	data, err := r.small(ctx, files[i])
	if err != nil {
		return nil, err
	}
	index, err := jsonx.ParseObject(data)
	if err != nil {
		return nil, &Refused{fmt.Sprintf("%s of %s is not JSON: %v", safetensors.IndexName, r.repo, err), "choose another revision of the model"}
	}
	weights, _ := index.Object("weight_map")
	if weights == nil {
		return nil, nil
	}
	for _, tensor := range weights.Keys() {
		if name, ok := weights.String(tensor); ok && path.Base(name) == name && strings.HasSuffix(name, ".safetensors") {
			names = append(names, name)
		}
	}
	return names, nil
}

// noModel says what a repository has instead.
func noModel(files []hub.File) string {
	kinds := []struct{ suffix, what string }{{".gguf", "GGUF files"}, {".bin", "PyTorch .bin files"}, {".pth", "PyTorch files"}, {".onnx", "ONNX files"}}
	for _, k := range kinds {
		if slices.ContainsFunc(files, func(f hub.File) bool { return strings.HasSuffix(f.Path, k.suffix) }) {
			return "it has " + k.what + ", which this version does not read; many models have a repository with safetensors too"
		}
	}
	if len(files) == 0 {
		return "it is empty"
	}
	return "mlxbuild reads repositories with config.json and model*.safetensors at the top"
}

// maxSmall is more than the Hub lets a file have that is not in LFS.
const maxSmall = 64 << 20

// small fetches a small file, checked by what the Hub's listing says of it, and keeps it.
func (r *resolver) small(ctx context.Context, f hub.File) ([]byte, error) {
	if d, ok := r.knownAs(f); ok {
		if data, err := r.hub.Cache.ReadBlob(d, maxSmall); err == nil {
			return data, nil
		}
	}
	if f.Size > maxSmall {
		return nil, &Refused{fmt.Sprintf("%s of %s has %d bytes, too many for such a file", f.Path, r.repo, f.Size), "if its page on the Hub shows another size, try again; else choose another revision of the model"}
	}
	data, err := r.client.Bytes(ctx, r.repo, r.commit, f, maxSmall)
	if err != nil {
		return nil, err
	}
	d, err := r.hub.Cache.AddBytes(data)
	if err == nil && f.SHA256 == "" {
		r.hub.Cache.SetMemo(gitMemo(f), d)
	}
	return data, err
}

// knownAs is a file's SHA-256: the Hub's word, or for a plain git file what was found when it was fetched and proved by its git id.
func (r *resolver) knownAs(f hub.File) (cache.Digest, bool) {
	if f.SHA256 == "" {
		return r.hub.Cache.Memo(gitMemo(f))
	}
	d, err := cache.ParseDigest(f.SHA256)
	return d, err == nil
}

func gitMemo(f hub.File) cache.Digest {
	return cache.SumBytes(fmt.Appendf(nil, "git blob\n%s %d", f.GitSHA1, f.Size))
}

// atATime is how many small requests of one model run together.
const atATime = 8

// pin learns the SHA-256 of every file.
func (r *resolver) pin(ctx context.Context, files []hub.File) (*spec.Pin, error) {
	pin := &spec.Pin{Commit: r.commit, ModelType: "-", Files: make([]spec.PinnedFile, len(files))}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	room := make(chan struct{}, atATime)
	var kind string
	for i, f := range files {
		wg.Add(1)
		go func() {
			defer wg.Done()
			room <- struct{}{}
			defer func() { <-room }()
			if ctx.Err() != nil {
				return
			}
			pinned, config, err := r.file(ctx, f)
			if err != nil {
				cancel(err)
				return
			}
			if pin.Files[i] = pinned; f.Path == "config.json" {
				kind = config
			}
		}()
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if kind != "" {
		pin.ModelType = kind
	}
	sort.Slice(pin.Files, func(i, j int) bool { return pin.Files[i].Path < pin.Files[j].Path })
	return pin, nil
}

// file is one file's pin; of config.json also the model_type.
func (r *resolver) file(ctx context.Context, f hub.File) (p spec.PinnedFile, modelType string, err error) {
	p = spec.PinnedFile{Path: f.Path, Size: f.Size}
	if f.SHA256 != "" {
		d, err := cache.ParseDigest(f.SHA256)
		if err != nil {
			return p, "", &Refused{fmt.Sprintf("the Hub's listing of %s has no digest for %s: %v", r.repo, f.Path, err), "if HF_ENDPOINT is set, it may be no whole Hub; otherwise try again"}
		}
		p.SHA256 = d
	}
	if f.SHA256 == "" || neededToPlan(f.Path) {
		data, err := r.small(ctx, f)
		if err != nil {
			return p, "", err
		}
		p.SHA256, p.Size = cache.SumBytes(data), int64(len(data))
		if f.Path == "config.json" {
			modelType = typeOf(data)
		}
	}
	if isWeights(f.Path) {
		err = r.peek(ctx, f, p)
	}
	return p, modelType, err
}

func typeOf(config []byte) string {
	o, err := jsonx.ParseObject(config)
	if err != nil {
		return "" // who opens the model says what is wrong with it
	}
	return source.ModelType(o)
}

// firstBytes of a weight file hold the header of most.
const firstBytes = 256 << 10

// peek keeps a weight file's header for plans. Nothing has proved it yet, and nothing but forecasts is made of it; so what does not come is done without. But a file that is not as the listing says, in
// its size for one, is no file to pin.
func (r *resolver) peek(ctx context.Context, f hub.File, p spec.PinnedFile) error {
	if f.Size < 8 {
		return nil
	}
	if _, err := safetensors.ParseHeader(bytes.NewReader(r.hub.header(p)), f.Size); err == nil { // it is known, and of a file of this size
		return nil
	}
	data, err := r.start(ctx, f, min(firstBytes, f.Size))
	if err != nil || len(data) < 8 {
		return err
	}
	length := binary.LittleEndian.Uint64(data)
	if length > safetensors.MaxHeader || int64(length) > f.Size-8 {
		return nil
	}
	if want := int64(8 + length); int64(len(data)) < want {
		if data, err = r.start(ctx, f, want); err != nil || int64(len(data)) < want {
			return err
		}
	}
	if _, err := safetensors.ParseHeader(bytes.NewReader(data), f.Size); err == nil {
		_ = r.hub.keepHeader(p, data[:8+length]) // what cannot be kept is asked for again
	}
	return nil
}

// start brings the first bytes of a file, none where they cannot be had. Its error is a file that is another than the listing says.
func (r *resolver) start(ctx context.Context, f hub.File, n int64) ([]byte, error) {
	data, err := r.client.Start(ctx, r.repo, r.commit, f, n)
	if err != nil && hub.ClassOf(err) != hub.Protocol {
		return nil, nil
	}
	return data, err
}
