package source_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

const llama = `{"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 4, "num_attention_heads": 1, "vocab_size": 2, "rms_norm_eps": 1e-5}`

// weights is a safetensors file of one tensor.
func weights(name string) string {
	header := fmt.Sprintf(`{%q:{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, name)
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + "12345678"
}

func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model-1B")
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every folder that cannot be used says what is wrong and what to do.
func TestRefusals(t *testing.T) {
	index := func(file string) string {
		return fmt.Sprintf(`{"metadata": {}, "weight_map": {"a": %q, "b": "model-2.safetensors"}}`, file)
	}
	for _, c := range []struct {
		what       string
		files      map[string]string
		want, hint string
	}{
		{"empty", nil, "has no config.json: it is empty", "hf download"},
		{"no config", map[string]string{"README.md": ""}, "has no config.json", "a model folder has config.json"},
		{"one folder up", map[string]string{"snapshot/config.json": llama}, "has no config.json", "did you mean DIR/snapshot?"},
		{"gguf", map[string]string{"m.Q4_0.gguf": ""}, "has no config.json, only m.Q4_0.gguf, which this version does not read", "Hugging Face folder"},
		{"not JSON", map[string]string{"config.json": "{\n  \"model_type\" \"llama\"}"}, "config.json is not JSON: 2:16: a : is expected", "correct it"},
		{"no object", map[string]string{"config.json": "[]"}, "config.json is not JSON: 1:1: an object {...} is expected", "correct it"},
		{"config is a folder", map[string]string{"config.json/x": ""}, "config.json is not a file", ""},
		{"no model_type", map[string]string{"config.json": "{}"}, "config.json has no model_type", "which architecture"},
		{"another architecture", map[string]string{"config.json": `{"model_type": "gpt17"}`}, `model_type "gpt17" is not supported; supported are llama, mistral`, "convert: {runtime: mlx}"},
		{"wants code", map[string]string{"config.json": `{"model_type": "llama", "model_file": "m.py"}`}, "model_file: m.py", "remove model_file"},
		{"no weights", map[string]string{"config.json": llama}, "there is no model*.safetensors in it", "mlxbuild reads"},
		{"only .bin", map[string]string{"config.json": llama, "pytorch_model.bin": ""}, "only pytorch_model.bin, which this version does not read", "mlxbuild reads"},
		{"missing shard", map[string]string{"config.json": llama, "model.safetensors.index.json": index("model-1.safetensors"), "model-2.safetensors": weights("b")},
			"model-1.safetensors: this shard is missing", "download the model again"},
		{"index points outside", map[string]string{"config.json": llama, "model.safetensors.index.json": index("../model-1.safetensors"), "model-2.safetensors": weights("b")},
			"not a plain file name in the folder", "mlxbuild reads"},
		{"cut off", map[string]string{"config.json": llama, "model.safetensors": weights("a")[:65]}, "cut off", "download the model again"},
	} {
		dir := folder(t, c.files)
		_, err := source.Open(dir)
		var h interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
			continue
		}
		if c.hint != "" && (!errors.As(err, &h) || !strings.Contains(strings.ReplaceAll(h.Hint(), dir, "DIR"), c.hint)) {
			t.Errorf("%s: %v has not the hint %s", c.what, err, c.hint)
		}
	}
}

// A folder that is not there may be one beside it whose name is nearly the same.
func TestDidYouMean(t *testing.T) {
	dir := folder(t, map[string]string{"config.json": llama})
	for name, near := range map[string]bool{"model-1b": true, "model-2B": true, "model1B": true, "modle-1B": true, "another": false, "m": false} {
		_, err := source.Open(filepath.Join(filepath.Dir(dir), name))
		var h interface{ Hint() string }
		if !errors.As(err, &h) || strings.Contains(h.Hint(), "did you mean "+dir) != near {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := source.Open(filepath.Join(dir, "config.json")); err == nil || !strings.Contains(err.Error(), "is a file, not a model folder") {
		t.Errorf("%v", err)
	}
}

// The config is what mlx-lm's load_config and load_model make of it.
func TestReadConfig(t *testing.T) {
	for _, c := range []struct{ config, generation, want string }{
		{`{"eos_token_id": 1}`, `{"eos_token_id": [2, 3]}`, `{"eos_token_id": [2, 3]}`},
		{`{"eos_token_id": 1}`, `{"eos_token_id": 0}`, `{"eos_token_id": 1}`},
		{`{"eos_token_id": 1}`, `{"eos_token_id": []}`, `{"eos_token_id": 1}`},
		{`{"eos_token_id": 1}`, `{"eos_token_id": `, `{"eos_token_id": 1}`},
		{`{"a": {"__float__": "Infinity"}, "b": [{"__float__": "NaN"}], "c": {"__float__": "NaN", "d": 1}, "e": {"__float__": "x"}}`, ``,
			`{"a": Infinity, "b": [NaN], "c": {"__float__": "NaN", "d": 1}, "e": {"__float__": "x"}}`},
		{`{"text_config": {"quantization_config": {"quant_method": "awq"}}}`, ``,
			`{"text_config": {"quantization_config": {"quant_method": "awq"}}, "quantization_config": {"quant_method": "awq"}}`},
	} {
		files := map[string]string{"config.json": c.config}
		if c.generation != "" {
			files["generation_config.json"] = c.generation
		}
		got, err := source.ReadConfig(folder(t, files))
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		want, err := jsonx.Parse([]byte(c.want))
		if err != nil {
			t.Fatal(err)
		}
		if string(jsonx.Python(got, 1)) != string(jsonx.Python(want, 1)) {
			t.Errorf("%s: %s", c.config, jsonx.Python(got, 1))
		}
	}
}

func TestSmallFiles(t *testing.T) {
	files := map[string]string{"config.json": llama, "model.safetensors": weights("a")}
	taken := []string{"LICENSE.txt", "additional_chat_templates/tools.jinja", "chat_template.jinja", "generation_config.json", "merges.txt", "tokenizer.json", "tokenizer.model", "vocab.bpe"}
	for _, name := range append([]string{"tokenizer.py", "modeling_x.py", "README.md", "additional_chat_templates/run.py", "adapter.safetensors"}, taken...) {
		files[name] = "{}"
	}
	f, err := source.Open(folder(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(f.Copies) != fmt.Sprint(taken) {
		t.Errorf("%v", f.Copies)
	}
}

func open(t *testing.T, dir string) *source.Folder {
	t.Helper()
	f, err := source.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func openCache(t *testing.T) *cache.Cache {
	t.Helper()
	c, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// settle makes files old enough to be known by their metadata.
func settle() { time.Sleep(30 * time.Millisecond) }

// What was hashed is known afterwards without a byte of it being read; a changed file is read again, and gives another digest.
func TestDigests(t *testing.T) {
	dir := folder(t, map[string]string{"config.json": llama, "model.safetensors": weights("a"), "tokenizer.json": "{}"})
	settle()
	c := openCache(t)
	digests := func() (source.Digests, int64) {
		var read int64
		d, err := open(t, dir).Digests(context.Background(), c, func(n int64) { read += n })
		if err != nil {
			t.Fatal(err)
		}
		return d, read
	}
	first, read := digests()
	if want := int64(len(llama) + 8 + 2); read != want {
		t.Errorf("%d bytes were hashed, want %d", read, want)
	}
	if first.Tensors["a"] != cache.SumBytes([]byte("12345678")) {
		t.Error("a tensor's digest is not that of its bytes")
	}
	again, read := digests()
	if read != 0 || source.Listing(again.Inputs) != source.Listing(first.Inputs) || again.Tensors["a"] != first.Tensors["a"] {
		t.Errorf("known: %d bytes read", read)
	}
	path := filepath.Join(dir, "model.safetensors")
	if err := os.WriteFile(path, []byte(weights("b")), 0o644); err != nil {
		t.Fatal(err)
	}
	settle()
	changed, _ := digests()
	if source.Listing(changed.Inputs) == source.Listing(first.Inputs) || changed.Tensors["b"] == (cache.Digest{}) {
		t.Error("the header's change was not seen")
	}
}

// A folder that becomes another one after it was opened is refused, whatever its sizes and times: what was decided from the old must not be made from the new.
func TestChangedAfterOpening(t *testing.T) {
	for name, text := range map[string]string{"config.json": strings.Replace(llama, "1e-5", "1e-6", 1), "model.safetensors": weights("b"), "generation_config.json": `{"eos_token_id": 8}`} {
		dir := folder(t, map[string]string{"config.json": llama, "model.safetensors": weights("a"), "generation_config.json": `{"eos_token_id": 7}`})
		settle()
		c := openCache(t)
		f := open(t, dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := f.Digests(context.Background(), c, nil); err == nil || !strings.Contains(err.Error(), name+" changed while it was read") {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := open(t, dir).Digests(context.Background(), c, nil); err != nil { // now the new one is known, by the same metadata
				t.Error(err)
			}
			settle()
		}
	}
}

// Folders of the Hugging Face cache are symbolic links to blobs.
func TestSymbolicLinks(t *testing.T) {
	dir := folder(t, map[string]string{"blobs/1": llama, "blobs/2": weights("a")})
	snapshot := filepath.Join(dir, "snapshot")
	if err := os.Mkdir(snapshot, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string]string{"config.json": "1", "model.safetensors": "2"} {
		if err := os.Symlink("../blobs/"+blob, filepath.Join(snapshot, name)); err != nil {
			oracle.Missing(t, err.Error())
		}
	}
	d, err := open(t, snapshot).Digests(context.Background(), openCache(t), nil)
	if err != nil || len(d.Inputs) != 2 {
		t.Errorf("%v, %v", d.Inputs, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := open(t, folder(t, map[string]string{"config.json": llama, "model.safetensors": weights("a")}))
	if _, err := f.Digests(ctx, openCache(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Any two files give a config that is understood, or an error.
func FuzzConfig(f *testing.F) {
	f.Add(llama, `{"eos_token_id": [1]}`)
	f.Add(`{"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}, "rope_scaling": {"type": "linear", "factor": {"__float__": "Infinity"}}}`, `[]`)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, config, generation string) {
		for name, text := range map[string]string{"config.json": config, "generation_config.json": generation, "model.safetensors": weights("a")} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		folder, err := source.Open(dir)
		if err != nil {
			return
		}
		for _, r := range folder.Arch.Repairs(folder.Config, func(string) bool { return false }) {
			folder.Config.Set(r.Key, r.Value)
		}
		if m, err := folder.Arch.Parse(folder.Config); err == nil && m.Layers() < 1 {
			t.Error("no layers")
		}
	})
}
