package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Problem is one thing that is wrong with a folder.
type Problem struct {
	File string `json:"file"`
	What string `json:"what"`
	Note bool   `json:"note,omitempty"` // nothing is wrong, but something could not be checked
}

// String is the problem as people read it.
func (p Problem) String() string {
	if p.File == "" {
		return p.What
	}
	return p.File + ": " + p.What
}

// VerifyFolder checks a model folder: files against the digests of its manifest, the index against the headers, the headers against config.json, the quantization block against the shapes. Folders of others
// have no manifest; the rest is checked. It goes on after the first problem and finds all of them.
func VerifyFolder(ctx context.Context, dir string) []Problem {
	v := verifier{dir: dir, told: map[string]bool{}}
	v.manifest(ctx)
	if weights := v.files(); weights != nil {
		v.tensors(weights)
	}
	return v.problems
}

// maxManifest is more than the manifest of any model has.
const maxManifest = 256 << 20

type verifier struct {
	dir      string
	problems []Problem
	known    map[string]bool // files that the manifest names; nil without one
	told     map[string]bool // layers of which something was said already
}

// most is how many problems of one kind are told one by one.
const most = 10

// addAll tells problems of one kind: the first of them, and how many more there are.
func (v *verifier) addAll(file string, all []string) {
	for i, what := range all {
		if i == most {
			v.add(file, "%d more like these", len(all)-most)
			return
		}
		v.add(file, "%s", what)
	}
}

func (v *verifier) add(file, format string, args ...any) {
	v.problems = append(v.problems, Problem{File: file, What: fmt.Sprintf(format, args...)})
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
		v.add(ManifestName, "it has format %d, which a newer mlxbuild wrote; update mlxbuild to check the files against it", m.Format)
		return
	}
	if m.Format < 1 || len(m.Files) == 0 {
		v.add(ManifestName, "it is no manifest: it has no format and files")
		return
	}
	known := map[string]bool{ManifestName: true}
	damaged := map[string]bool{}
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
		damaged[f.Name] = err != nil || d != f.SHA256
		switch {
		case errors.Is(err, fs.ErrNotExist):
			v.add(f.Name, "it is missing")
		case err != nil:
			v.add(f.Name, "%v", err)
		case d != f.SHA256:
			v.add(f.Name, "its content is not what mlxbuild wrote (sha256 %s, not %s)", d.Short(), f.SHA256.Short())
		}
	}
	v.known = known
	v.stray(known)
	v.promised(m, damaged)
}

func hashPath(path string) (cache.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return cache.Digest{}, err
	}
	defer f.Close()
	return cache.SumReader(f)
}

// read are endings of files beside the weights that mlx-lm or transformers would read, or run.
var read = []string{".json", ".jinja", ".model", ".tiktoken", ".py", "merges.txt", "vocab.txt"}

// stray finds files that the manifest does not know and that would change what the model is. Others, such as a README, are their owner's.
func (v *verifier) stray(known map[string]bool) {
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case known[name] || strings.HasPrefix(name, ".") || e.IsDir():
		case isModel(name):
			v.add(name, "it is no part of this model, and mlx-lm would load it")
		case slices.ContainsFunc(read, func(end string) bool { return strings.HasSuffix(name, end) }) || strings.HasSuffix(name, ".safetensors"):
			v.add(name, "it is no part of this model: %s does not name it", ManifestName)
		}
	}
}

// isModel reports whether mlx-lm loads a file: model*.safetensors, whatever an index says.
func isModel(name string) bool {
	return strings.HasPrefix(name, "model") && strings.HasSuffix(name, ".safetensors")
}

// promised compares headers with the tensors that the manifest names, in files that are as they were written: then it is the manifest that is wrong.
func (v *verifier) promised(m Manifest, damaged map[string]bool) {
	var names, wrong []string
	for _, f := range m.Files {
		if strings.HasSuffix(f.Name, ".safetensors") {
			if damaged[f.Name] {
				return
			}
			names = append(names, f.Name)
		}
	}
	weights, errs := safetensors.OpenFiles(v.dir, names)
	if errs != nil {
		return // told when the weights are looked at
	}
	for name, want := range m.Tensors {
		if _, t, ok := weights.Find(name); !ok {
			wrong = append(wrong, fmt.Sprintf("it names tensor %s, which no file holds", name))
		} else if t.DType != want.DType || !sameShape(t.Shape, want.Shape) {
			wrong = append(wrong, fmt.Sprintf("it says that tensor %s is %s %v, and it is %s %v", name, want.DType, want.Shape, t.DType, t.Shape))
		}
	}
	for _, t := range weights.Tensors() {
		if _, ok := m.Tensors[t.Name]; !ok && len(m.Tensors) > 0 {
			wrong = append(wrong, fmt.Sprintf("it does not name tensor %s", t.Name))
		}
	}
	sort.Strings(wrong)
	v.addAll(ManifestName, wrong)
}
