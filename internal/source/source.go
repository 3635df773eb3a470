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
	"syscall"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Folder is an opened model folder.
type Folder struct {
	Dir     string
	Config  *jsonx.Object // see ReadConfig
	Arch    arch.Arch
	Weights *safetensors.Folder
	Copies  []string // small files to take along, slash-separated, sorted

	// read holds the digests of the small files that Config was read from. What is decided from them must not be built from others: see Digests.
	read map[string]cache.Digest
}

// Error is a folder that cannot be used, with what to do.
type Error struct{ What, Do string }

func (e *Error) Error() string { return e.What }

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// Open opens a folder of an architecture that this program knows.
func Open(dir string) (*Folder, error) { return open(dir, findArch) }

// OpenAny opens a folder of any architecture; Arch is left empty.
func OpenAny(dir string) (*Folder, error) {
	return open(dir, func(*jsonx.Object) (arch.Arch, error) { return arch.Arch{}, nil })
}

func open(dir string, find func(config *jsonx.Object) (arch.Arch, error)) (*Folder, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	read := map[string]cache.Digest{}
	config, err := readConfig(dir, read)
	if err != nil {
		return nil, err
	}
	a, err := find(config)
	if err != nil {
		return nil, err
	}
	if err := refuseCode(config); err != nil {
		return nil, err
	}
	weights, err := safetensors.OpenFolder(dir)
	if err != nil {
		return nil, &Error{What: weightsError(dir, err), Do: weightsHint(err)}
	}
	copies, err := smallFiles(dir)
	if err != nil {
		return nil, err
	}
	return &Folder{Dir: dir, Config: config, Arch: a, Weights: weights, Copies: copies, read: read}, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{What: "there is no folder " + dir, Do: missingHint(dir)}
	}
	if err != nil {
		return &Error{What: fmt.Sprintf("the folder %s cannot be read: %v", dir, errors.Unwrap(err)), Do: "mend its permissions, or its disk, then run the same command again"}
	}
	if !info.IsDir() {
		return &Error{What: dir + " is a file, not a model folder", Do: "name the folder that holds config.json and model.safetensors"}
	}
	return nil
}

// missingHint guesses what was meant: a folder beside it with nearly this name, a model of the Hub, or one that has still to be downloaded.
func missingHint(dir string) string {
	if other := nearFolder(dir); other != "" {
		return "did you mean " + other + "?"
	}
	if base := filepath.Base(dir); base == "SmolLM2-135M-Instruct" {
		return "write source: hf:HuggingFaceTB/SmolLM2-135M-Instruct to take it from the Hub, or make it with scripts/smollm2.sh"
	}
	return "write source: hf:ORG/NAME to take a model from the Hub, or download it: hf download ORG/NAME --local-dir " + dir
}

// nearFolder finds a model folder beside dir whose name differs in a few neighbouring letters, or only in case.
func nearFolder(dir string) string {
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		other := filepath.Join(filepath.Dir(dir), e.Name())
		if nearlyEqual(strings.ToLower(e.Name()), strings.ToLower(filepath.Base(dir))) && isFile(filepath.Join(other, "config.json")) {
			return other
		}
	}
	return ""
}

// nearlyEqual reports whether two names are the same but for one place of at most a quarter of their length.
func nearlyEqual(a, b string) bool {
	most := (len(a) + len(b)) / 8
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return max(len(a), len(b)) <= most
}

// weightsError names the folder once.
func weightsError(dir string, err error) string {
	var f *safetensors.FormatError
	if errors.As(err, &f) && f.File == dir {
		return dir + ": " + f.What
	}
	return fmt.Sprintf("%s: %v", dir, err)
}

func weightsHint(err error) string {
	if system := (*fs.PathError)(nil); errors.As(err, &system) {
		return "mend its permissions, or its disk, then run the same command again"
	}
	if text := err.Error(); strings.Contains(text, "cut off") || strings.Contains(text, "missing") {
		return "download the model again; a part of it did not arrive"
	}
	return "mlxbuild reads model*.safetensors of Hugging Face folders"
}

// ReadConfig reads a folder's config as mlx-lm's load_config and load_model do: tagged floats become numbers, a truthy eos_token_id of generation_config.json replaces the config's, and a missing
// quantization_config is taken from text_config or from NVIDIA's hf_quant_config.json.
func ReadConfig(dir string) (*jsonx.Object, error) { return readConfig(dir, map[string]cache.Digest{}) }

// readConfig notes in read what it has read.
func readConfig(dir string, read map[string]cache.Digest) (*jsonx.Object, error) {
	config, err := readObject(dir, "config.json", read)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noConfig(dir)
	}
	if err != nil {
		return nil, err
	}
	untag(config)
	var syntax *jsonx.SyntaxError
	generation, err := readObject(dir, "generation_config.json", read)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &syntax): // mlx-lm goes on without
	case err != nil:
		return nil, err
	default:
		if eos, ok := generation.Get("eos_token_id"); ok && truthy(eos) {
			config.Set("eos_token_id", eos)
		}
	}
	return config, findQuantization(dir, config, read)
}

// findQuantization looks where other tools keep a quantization_config.
func findQuantization(dir string, config *jsonx.Object, read map[string]cache.Digest) error {
	if _, ok := config.Get("quantization_config"); ok {
		return nil
	}
	if text, ok := config.Object("text_config"); ok {
		if q, ok := text.Get("quantization_config"); ok {
			config.Set("quantization_config", q)
			return nil
		}
	}
	q, err := readObject(dir, "hf_quant_config.json", read)
	if err == nil {
		config.Set("quantization_config", q)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func noConfig(dir string) error {
	entries, _ := os.ReadDir(dir)
	if len(entries) == 0 {
		return &Error{What: dir + " has no config.json: it is empty", Do: "download the model into it: hf download ORG/NAME --local-dir " + dir}
	}
	for _, e := range entries {
		if isFile(filepath.Join(dir, e.Name(), "config.json")) {
			return &Error{What: dir + " has no config.json", Do: "did you mean " + filepath.Join(dir, e.Name()) + "?"}
		}
		if strings.HasSuffix(e.Name(), ".gguf") {
			return &Error{What: fmt.Sprintf("%s has no config.json, only %s, which this version does not read", dir, e.Name()), Do: "download the model's Hugging Face folder instead"}
		}
	}
	return &Error{What: dir + " has no config.json", Do: "a model folder has config.json, model.safetensors and tokenizer.json"}
}

// readObject reads a small file that is one JSON object.
func readObject(dir, name string, read map[string]cache.Digest) (*jsonx.Object, error) {
	data, err := readSmall(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	read[name] = cache.SumBytes(data)
	o, err := jsonx.ParseObject(data)
	if err != nil {
		return nil, &notJSON{path: filepath.Join(dir, name), err: err}
	}
	return o, nil
}

// notJSON is a small file that is not a JSON object.
type notJSON struct {
	path string
	err  error
}

func (e *notJSON) Error() string { return fmt.Sprintf("%s is not JSON: %v", e.path, e.err) }
func (e *notJSON) Unwrap() error { return e.err }
func (e *notJSON) Hint() string  { return "download the file again, or correct it at this place" }

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{What: path + " is not a file"}
	}
	if info.Size() > jsonx.MaxSize {
		return nil, &Error{What: fmt.Sprintf("%s has %d bytes, too many for such a file", path, info.Size())}
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
	a, _ := all.Find(kind)
	return a, Supported(kind)
}

// Supported is an error where a model_type is none that this program knows.
func Supported(modelType string) error {
	if _, ok := all.Find(modelType); ok {
		return nil
	}
	return &Error{What: fmt.Sprintf("model_type %q is not supported; supported are %s", modelType, strings.Join(all.ModelTypes(), ", ")),
		Do: "`convert: {runtime: mlx}` has the real mlx_lm.convert do it"}
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
		if TakesAlong(e.Name()) {
			out = append(out, e.Name())
		}
	}
	more, err := os.ReadDir(filepath.Join(dir, "additional_chat_templates"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, err
	}
	for _, e := range more {
		if strings.HasSuffix(e.Name(), ".jinja") {
			out = append(out, "additional_chat_templates/"+e.Name())
		}
	}
	sort.Strings(out)
	return regular(dir, out)
}

// regular are those of the names that are files, or links to files. What cannot be looked at is an error: left out, it would be missing from the model without a word.
func regular(dir string, names []string) (out []string, err error) {
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // a link to nowhere
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			out = append(out, name)
		}
	}
	return out, nil
}

// taken are the small files that programs look for beside the weights.
var taken = [...]string{"tokenizer*", "vocab*", "merges*", "*.model", "*.tiktoken", "special_tokens_map.json", "added_tokens.json", "*.jinja", "chat_template.json",
	"generation_config.json", "LICENSE*"}

// TakesAlong reports whether a converted model takes a file of this name along as it is. Never *.py.
func TakesAlong(name string) bool {
	for _, never := range []string{".py", ".pyc", ".so", ".safetensors"} {
		if strings.HasSuffix(name, never) {
			return false
		}
	}
	for _, pattern := range taken {
		if ok, _ := filepath.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
