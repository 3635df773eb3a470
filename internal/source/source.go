// Package source is a local model folder, opened and checked: its config as mlx-lm reads it, the headers of its weights, and the small files that a converted model takes along.
//
// Opening reads no weights. Everything in the folder is untrusted: nothing in it is run, and what would have to be run is refused.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Folder is an opened model folder.
type Folder struct {
	Dir     string
	Config  *jsonx.Object // as mlx-lm's load_config returns it
	Arch    arch.Arch
	Weights *safetensors.Folder
	Copies  []string // small files to take along, slash-separated, sorted
}

// Error is a folder that cannot be used, with what to do.
type Error struct{ What, Do string }

func (e *Error) Error() string { return e.What }

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// maxSmall is the largest small file: tokenizers of big vocabularies have some tens of MB.
const maxSmall = 256 << 20

// Open opens a folder.
func Open(dir string) (*Folder, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	config, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	a, err := findArch(config)
	if err != nil {
		return nil, err
	}
	if err := refuseCode(config); err != nil {
		return nil, err
	}
	weights, err := safetensors.OpenFolder(dir)
	if err != nil {
		return nil, &Error{What: fmt.Sprintf("%s: %v", dir, err), Do: weightsHint(err)}
	}
	copies, err := smallFiles(dir)
	if err != nil {
		return nil, err
	}
	return &Folder{Dir: dir, Config: config, Arch: a, Weights: weights, Copies: copies}, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{What: "there is no folder " + dir, Do: missingHint(dir)}
	}
	if err != nil {
		return &Error{What: fmt.Sprintf("the folder %s cannot be read: %v", dir, errors.Unwrap(err))}
	}
	if !info.IsDir() {
		return &Error{What: dir + " is a file, not a model folder", Do: "name the folder that holds config.json and model.safetensors"}
	}
	return nil
}

func missingHint(dir string) string {
	if base := filepath.Base(dir); base == "SmolLM2-135M-Instruct" {
		return "scripts/smollm2.sh makes it; or download it: hf download HuggingFaceTB/SmolLM2-135M-Instruct --local-dir " + dir
	}
	return "download the model into it: hf download ORG/NAME --local-dir " + dir
}

func weightsHint(err error) string {
	if strings.Contains(err.Error(), "cut off") || strings.Contains(err.Error(), "missing") {
		return "download the model again; a part of it did not arrive"
	}
	return "mlxbuild reads model*.safetensors of Hugging Face folders"
}

// ReadConfig reads config.json as mlx-lm's load_config does: tagged floats become numbers, and a truthy eos_token_id of generation_config.json replaces the config's.
func ReadConfig(dir string) (*jsonx.Object, error) {
	data, err := readSmall(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{What: dir + " has no config.json", Do: "a model folder has config.json, model.safetensors and tokenizer.json"}
	}
	if err != nil {
		return nil, err
	}
	config, err := jsonx.ParseObject(data)
	if err != nil {
		return nil, &Error{What: fmt.Sprintf("%s is not JSON: %v", filepath.Join(dir, "config.json"), err)}
	}
	untag(config)
	generation, err := readSmall(filepath.Join(dir, "generation_config.json"))
	if err != nil {
		return config, nil // none, or none that can be read: mlx-lm goes on without
	}
	if g, err := jsonx.ParseObject(generation); err == nil {
		if eos, ok := g.Get("eos_token_id"); ok && truthy(eos) {
			config.Set("eos_token_id", eos)
		}
	}
	return config, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSmall {
		return nil, &Error{What: fmt.Sprintf("%s has %d bytes or is not a file; that cannot be", path, info.Size())}
	}
	return os.ReadFile(path)
}

// untag turns transformers' {"__float__": "Infinity"} back into numbers.
func untag(v any) any {
	switch v := v.(type) {
	case *jsonx.Object:
		if tag, ok := v.String("__float__"); ok && v.Len() == 1 && (tag == "Infinity" || tag == "-Infinity" || tag == "NaN") {
			return jsonx.Number(tag)
		}
		for _, k := range v.Keys() {
			e, _ := v.Get(k)
			v.Set(k, untag(e))
		}
	case []any:
		for i := range v {
			v[i] = untag(v[i])
		}
	}
	return v
}

// truthy is Python's bool() of a JSON value.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case jsonx.Number:
		return v.Float() != 0
	case []any:
		return len(v) > 0
	case *jsonx.Object:
		return v.Len() > 0
	}
	return true
}

// ModelType of a config, "" when it has none.
func ModelType(config *jsonx.Object) string {
	t, _ := config.String("model_type")
	return t
}

func findArch(config *jsonx.Object) (arch.Arch, error) {
	kind := ModelType(config)
	if kind == "" {
		return arch.Arch{}, &Error{What: "config.json has no model_type", Do: "it should say which architecture the model has, such as llama"}
	}
	a, ok := all.Find(kind)
	if !ok {
		return arch.Arch{}, &Error{What: fmt.Sprintf("model_type %q is not supported; supported are %s", kind, strings.Join(all.ModelTypes(), ", ")),
			Do: "other architectures will be converted by the real mlx_lm.convert with `convert: {runtime: mlx}`, in a later version"}
	}
	return a, nil
}

// refuseCode refuses configs that want code of the repository to run. auto_map is only data: the architectures here need no code.
func refuseCode(config *jsonx.Object) error {
	if file, ok := config.Get("model_file"); ok && file != nil {
		return &Error{What: fmt.Sprintf("config.json wants code from the model's folder to be run (model_file: %v); mlxbuild never does that", file),
			Do: "if the architecture is a plain one of the supported, remove model_file from config.json"}
	}
	return nil
}

// smallFiles are tokenizer files, templates, generation_config.json and licences. Never *.py.
func smallFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if takesAlong(e.Name()) && isFile(filepath.Join(dir, e.Name())) {
			out = append(out, e.Name())
		}
	}
	more, _ := os.ReadDir(filepath.Join(dir, "additional_chat_templates"))
	for _, e := range more {
		if strings.HasSuffix(e.Name(), ".jinja") && isFile(filepath.Join(dir, "additional_chat_templates", e.Name())) {
			out = append(out, "additional_chat_templates/"+e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

func takesAlong(name string) bool {
	for _, pattern := range []string{"tokenizer*.json", "tokenizer*.model", "vocab*.json", "vocab*.txt", "merges*.txt", "*.model", "*.tiktoken", "special_tokens_map.json",
		"added_tokens.json", "*.jinja", "chat_template.json", "generation_config.json", "LICENSE*"} {
		if ok, _ := filepath.Match(pattern, name); ok && !strings.HasSuffix(name, ".py") {
			return true
		}
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
