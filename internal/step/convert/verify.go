package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// Problem is one thing that is wrong with a folder.
type Problem struct {
	File string `json:"file"`
	What string `json:"what"`
}

// String is the problem as people read it.
func (p Problem) String() string {
	if p.File == "" {
		return p.What
	}
	return p.File + ": " + p.What
}

// VerifyFolder checks an MLX folder: files against the digests of its manifest, the index against the headers, the headers against config.json. Folders of others have no manifest; the rest is checked.
func VerifyFolder(ctx context.Context, dir string) []Problem {
	v := verifier{dir: dir}
	v.manifest(ctx)
	v.tensors()
	return v.problems
}

// maxManifest is more than the manifest of any model has.
const maxManifest = 256 << 20

type verifier struct {
	dir      string
	problems []Problem
}

func (v *verifier) add(file, format string, args ...any) {
	v.problems = append(v.problems, Problem{file, fmt.Sprintf(format, args...)})
}

// manifest compares every file with the digest that it was written with.
func (v *verifier) manifest(ctx context.Context) {
	var m Manifest
	path := filepath.Join(v.dir, ManifestName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || info.Size() > maxManifest {
		v.add(ManifestName, "it cannot be read, or has more than %d bytes", maxManifest)
		return
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		v.add(ManifestName, "it cannot be read: %v", err)
		return
	}
	if m.Format > ManifestFormat {
		v.add(ManifestName, "it has format %d, which a newer mlxbuild wrote", m.Format)
		return
	}
	known := map[string]bool{ManifestName: true}
	for _, f := range m.Files {
		known[f.Name] = true
		if ctx.Err() != nil {
			return
		}
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) {
			v.add(ManifestName, "it names %q, which is outside the folder", f.Name)
			continue
		}
		d, err := hashPath(filepath.Join(v.dir, filepath.FromSlash(f.Name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			v.add(f.Name, "it is missing")
		case err != nil:
			v.add(f.Name, "%v", err)
		case d != f.SHA256:
			v.add(f.Name, "its content is not what mlxbuild wrote (sha256 %s, not %s)", d.Short(), f.SHA256.Short())
		}
	}
	v.stray(known)
}

func hashPath(path string) (cache.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return cache.Digest{}, err
	}
	defer f.Close()
	return cache.SumReader(f)
}

// stray finds weight files that the manifest does not know: mlx-lm would load them too.
func (v *verifier) stray(known map[string]bool) {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") && !known[e.Name()] {
			v.add(e.Name(), "it is no part of this model, and mlx-lm would load it")
		}
	}
}

// tensors compares headers with the index and with what config.json asks for.
func (v *verifier) tensors() {
	weights, err := safetensors.OpenFolder(v.dir)
	if err != nil {
		v.add("", "%v", err)
		return
	}
	v.index(weights)
	config, err := source.ReadConfig(v.dir)
	if err != nil {
		v.add("config.json", "%v", err)
		return
	}
	a, ok := all.Find(source.ModelType(config))
	if !ok {
		v.add("config.json", "model_type %q is not one that mlxbuild knows; shapes were not checked", source.ModelType(config))
		return
	}
	for _, f := range weights.Files {
		for _, w := range f.Header.Warnings {
			v.add(f.Name, "%s", w)
		}
	}
	// A plain copy, decided but not written, asks everything of the folder that a conversion would: names, shapes, types and the quantization block.
	folder := &source.Folder{Dir: v.dir, Config: config, Arch: a, Weights: weights}
	if _, err := Decide(folder, Options{ShardSize: 1 << 62}); err != nil {
		v.add("", "%v", err)
	}
	v.block(config, weights)
}

// index compares total_size, which readers use to plan memory.
func (v *verifier) index(weights *safetensors.Folder) {
	data, err := os.ReadFile(filepath.Join(v.dir, safetensors.IndexName))
	if err != nil {
		if len(weights.Files) > 1 {
			v.add(safetensors.IndexName, "it is missing, and there are %d weight files", len(weights.Files))
		}
		return
	}
	var index struct {
		Metadata struct {
			Size *float64 `json:"total_size"`
		} `json:"metadata"`
	}
	var total int64
	for _, t := range weights.Tensors() {
		total += t.Bytes()
	}
	if json.Unmarshal(data, &index) == nil && index.Metadata.Size != nil && int64(*index.Metadata.Size) != total {
		v.add(safetensors.IndexName, "it says %.0f bytes, and the tensors have %d: it is stale", *index.Metadata.Size, total)
	}
}

// block finds layers that config.json says are quantized and the weights say are not, and the other way round.
func (v *verifier) block(config *jsonx.Object, weights *safetensors.Folder) {
	block, ok := config.Object("quantization")
	scaled := map[string]bool{}
	for _, t := range weights.Tensors() {
		if module, is := strings.CutSuffix(t.Name, ".scales"); is {
			scaled[module] = true
		}
	}
	if !ok {
		if len(scaled) > 0 {
			v.add("config.json", "it has no quantization, and %d layers of the weights are quantized", len(scaled))
		}
		return
	}
	var wrong []string
	for _, k := range block.Keys() {
		value, _ := block.Get(k)
		_, isLayer := value.(*jsonx.Object)
		if isLayer && !scaled[k] {
			wrong = append(wrong, k)
		}
	}
	sort.Strings(wrong)
	for _, k := range wrong {
		v.add("config.json", "it says that %s is quantized, and the weights have no scales for it", k)
	}
}
