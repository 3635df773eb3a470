package fetch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Hub is the way to models on the Hub: how it is reached, and where what was fetched lies. There is one for a run of the program; Close removes its folders of links.
type Hub struct {
	Cache    *cache.Cache // where fetched files lie, whatever cache a run keeps its results in
	Settings func() (hub.Settings, error)
	Options  hub.Options
	Version  string // of mlxbuild, for records
	Machine  string

	mu       sync.Mutex
	opened   *hub.Client
	settings *hub.Settings
	views    map[string]string // by name of the view
	stages   []*cache.Stage
}

// Close removes what was laid out.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.stages {
		s.Remove()
	}
	h.stages, h.views = nil, nil
}

// parts is where downloads are until they are proved.
func (h *Hub) parts() string { return filepath.Join(h.Cache.Dir(), "parts") }

func (h *Hub) knows() (hub.Settings, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settings == nil {
		s, err := h.Settings()
		if err != nil {
			return s, err
		}
		h.settings = &s
	}
	return *h.settings, nil
}

// client is made at first need: a build that fetches nothing asks for no token.
func (h *Hub) client() (*hub.Client, error) {
	s, err := h.knows()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.opened == nil {
		h.opened = hub.New(s, h.Options)
	}
	return h.opened, nil
}

// locate finds a file's content by metadata alone: in the cache, or in Hugging Face's when it was hashed before.
func (h *Hub) locate(m spec.Model, f spec.PinnedFile) (file string, ok bool) {
	if file, size, err := h.Cache.Blob(f.SHA256); err == nil && size == f.Size {
		return file, true
	}
	file, ok = h.cached(m, f)
	if !ok {
		return "", false
	}
	d, _, ok := h.Cache.KnownFileDigest(file)
	return file, ok && d == f.SHA256
}

// adopt hashes what Hugging Face's cache has under a file's name: it is used in place when it is what the lock says.
func (h *Hub) adopt(m spec.Model, f spec.PinnedFile) bool {
	file, ok := h.cached(m, f)
	if !ok {
		return false
	}
	d, _, err := h.Cache.FileDigest(file, nil)
	return err == nil && d == f.SHA256
}

func (h *Hub) cached(m spec.Model, f spec.PinnedFile) (file string, ok bool) {
	s, err := h.knows()
	if err != nil {
		return "", false // told when something has to be fetched
	}
	repo, err := hub.ParseRepo(m.Source.Ref)
	if err != nil {
		return "", false
	}
	return s.Cached(repo, m.Pin.Commit, hub.File{Path: f.Path, Size: f.Size, SHA256: cache.Digest(f.SHA256).String()})
}

// view lays a model out: a private folder with a link to each file under its name.
func (h *Hub) view(m spec.Model) (dir string, err error) {
	return h.layOut("model "+Tree(m.Pin).String(), m, func(f spec.PinnedFile, dst string) error {
		src, ok := h.locate(m, f)
		if !ok {
			return &cache.Error{What: fmt.Sprintf("%s of %s has just disappeared from the cache", f.Path, m.Asked()), Do: "run again; `mlxbuild cache verify` looks for damage"}
		}
		return h.link(src, f, dst)
	})
}

// plannable is a folder that shows a model's config and headers: the model itself when it is at hand, else the small files and weight files that are empty behind their headers. Only plans read the
// latter; what runs takes the folder that Read has made.
func (h *Hub) plannable(m spec.Model) (dir string, ok bool) {
	if h == nil || m.Pin == nil {
		return "", false
	}
	whole := true
	for _, f := range m.Pin.Files {
		if _, ok := h.locate(m, f); !ok {
			whole = false
			if neededToPlan(f.Path) || isWeights(f.Path) && h.header(f) == nil {
				return "", false
			}
		}
	}
	var err error
	if whole {
		dir, err = h.view(m)
	} else if runtime.GOOS != "windows" { // where a file with a hole takes the room of a whole one
		dir, err = h.hollow(m)
	}
	return dir, err == nil && dir != ""
}

// neededToPlan are the small files that are read when a folder is opened.
func neededToPlan(name string) bool {
	return name == "config.json" || name == "generation_config.json" || name == "hf_quant_config.json" || name == safetensors.IndexName
}

// hollow is a view with holes in the place of what is not at hand.
func (h *Hub) hollow(m spec.Model) (dir string, err error) {
	return h.layOut("plan "+Tree(m.Pin).String(), m, func(f spec.PinnedFile, dst string) error {
		if src, ok := h.locate(m, f); ok {
			return h.link(src, f, dst)
		}
		file, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := file.Write(h.header(f)); err != nil {
			return err
		}
		return file.Truncate(f.Size)
	})
}

// layOut makes a folder once.
func (h *Hub) layOut(name string, m spec.Model, put func(f spec.PinnedFile, dst string) error) (dir string, err error) {
	h.mu.Lock()
	dir, ok := h.views[name]
	h.mu.Unlock()
	if ok {
		return dir, nil
	}
	stage, err := h.Cache.NewStage()
	if err != nil {
		return "", err
	}
	_, _ = h.Cache.AddBytes([]byte(listing(m.Pin))) // so that `plan` and `explain` can name the files that changed; without it they say less
	base := path.Base(m.Source.Ref)
	for _, f := range m.Pin.Files {
		dst := stage.Path(base + "/" + f.Path)
		err := os.MkdirAll(filepath.Dir(dst), 0o755) // Path does it too, and does not say what hindered it
		if err == nil {
			err = put(f, dst)
		}
		if err != nil {
			stage.Remove()
			return "", err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.views == nil {
		h.views = map[string]string{}
	}
	h.views[name], h.stages = stage.Path(base), append(h.stages, stage)
	return h.views[name], nil
}

// link makes a symbolic link, or where the system has none for everybody, another name or a copy.
func (h *Hub) link(src string, f spec.PinnedFile, dst string) error {
	if os.Symlink(src, dst) == nil {
		return nil
	}
	if _, _, err := h.Cache.Blob(f.SHA256); err == nil {
		_, err := h.Cache.Place(f.SHA256, dst, false)
		return err
	}
	if os.Link(src, dst) == nil {
		return nil
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// Headers of weight files are kept apart, so that a plan is complete before anything large is fetched, and after it was evicted. They are found by the digest of the whole file.
func headerMemo(f spec.PinnedFile) cache.Digest {
	return cache.SumBytes(append([]byte("header\n"), f.SHA256[:]...))
}

// header of a weight file, nil when it is not known.
func (h *Hub) header(f spec.PinnedFile) []byte {
	d, ok := h.Cache.Memo(headerMemo(f))
	if !ok {
		return nil
	}
	raw, err := h.Cache.ReadBlob(d, safetensors.MaxHeader+8)
	if err != nil {
		return nil
	}
	return raw
}

// rememberHeader keeps the header of a weight file that is at hand.
func (h *Hub) rememberHeader(f spec.PinnedFile, file string) error {
	if !isWeights(f.Path) {
		return nil
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	header, err := safetensors.ParseHeader(in, f.Size)
	if err != nil {
		return nil // whoever opens the model says what is wrong with it
	}
	return h.keepHeader(f, header.Raw)
}

func (h *Hub) keepHeader(f spec.PinnedFile, raw []byte) error {
	if have := h.header(f); bytes.Equal(have, raw) {
		return nil
	}
	d, err := h.Cache.AddBytes(raw)
	if err == nil {
		h.Cache.SetMemo(headerMemo(f), d)
	}
	return err
}
