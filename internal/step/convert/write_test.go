package convert_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/spec"
)

// small is a llama of two layers. 96 columns are divisible by 32 and not by 64.
var small = map[string]any{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 2, "vocab_size": 40, "rms_norm_eps": 1e-5,
	"rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "float32"}

// tensors of small, float32, random.
func tensors() map[string][]int64 {
	t := map[string][]int64{"model.embed_tokens.weight": {40, 64}, "model.norm.weight": {64}}
	for i := range 2 {
		at := fmt.Sprintf("model.layers.%d.", i)
		for _, name := range []string{"q", "k", "v", "o"} {
			t[at+"self_attn."+name+"_proj.weight"] = []int64{64, 64}
		}
		t[at+"mlp.gate_proj.weight"], t[at+"mlp.up_proj.weight"], t[at+"mlp.down_proj.weight"] = []int64{96, 64}, []int64{96, 64}, []int64{64, 96}
		t[at+"input_layernorm.weight"], t[at+"post_attention_layernorm.weight"] = []int64{64}, []int64{64}
	}
	return t
}

// makeFolder writes a model folder; edit may change what is written.
func makeFolder(t *testing.T, edit func(config map[string]any, shapes map[string][]int64, values map[string][]float32)) string {
	t.Helper()
	config := map[string]any{}
	for k, v := range small {
		config[k] = v
	}
	shapes, values := tensors(), map[string][]float32{}
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range sortedKeys(shapes) {
		n := int64(1)
		for _, d := range shapes[name] {
			n *= d
		}
		values[name] = make([]float32, n)
		for i := range values[name] {
			values[name][i] = float32(r.NormFloat64() * 0.05)
		}
	}
	if edit != nil {
		edit(config, shapes, values)
	}
	dir := t.TempDir()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var specs []safetensors.Spec
	for _, name := range sortedKeys(shapes) {
		specs = append(specs, safetensors.Spec{Name: name, DType: "F32", Shape: shapes[name]})
	}
	shards, err := safetensors.Layout(specs, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	weights := bytes.Clone(shards[0].Header)
	for _, x := range shards[0].Tensors {
		for _, v := range values[x.Name] {
			weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(v))
		}
	}
	for name, data := range map[string][]byte{"config.json": text, "model.safetensors": weights, "tokenizer.json": []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Every model that cannot be converted as asked says why and what to do.
func TestDecideRefusals(t *testing.T) {
	type shapes = map[string][]int64
	type values = map[string][]float32
	quantizedConfig := func(c map[string]any, _ shapes, _ values) {
		c["quantization"] = map[string]any{"bits": 4, "group_size": 32}
	}
	for _, c := range []struct {
		what, yaml string
		edit       func(map[string]any, shapes, values)
		want, hint string
	}{
		{"missing tensor", "{bits: 4}", func(_ map[string]any, s shapes, v values) { delete(s, "model.norm.weight") }, "tensor model.norm.weight is missing; config.json asks for it", "does not fit"},
		{"one layer too many", "{bits: 4}", func(c map[string]any, s shapes, v values) { c["num_hidden_layers"] = 1 },
			"the weights hold model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight, model.layers.1.mlp.gate_proj.weight and 6 more, which a model with this config.json does not have",
			"num_hidden_layers"},
		{"wrong shape", "{bits: 4}", func(c map[string]any, s shapes, v values) { c["vocab_size"] = 41 }, "tensor model.embed_tokens.weight has the shape [40 64]; config.json says [41 64]", "does not fit"},
		{"config contradicts itself", "{bits: 4}", func(c map[string]any, s shapes, v values) { c["num_key_value_heads"] = 3 }, "config.json: num_key_value_heads 3 does not divide", ""},
		{"nothing to dequantize", "{dequantize: true}", nil, "is not quantized, so there is nothing to dequantize", "leave dequantize"},
		{"quantized twice", "{bits: 4}", quantizedConfig, "is quantized already", "dequantize: true"},
		{"quantized twice by an override", "{quantize: false, overrides: [{match: down_proj, bits: 4}]}", quantizedConfig, "is quantized already", "dequantize: true"},
		{"says that it is quantized", "{quantize: false}", func(c map[string]any, _ shapes, _ values) {
			c["quantization"] = map[string]any{"bits": 4, "group_size": 32, "model.embed_tokens": map[string]any{"bits": 4}}
		}, "config.json says that model.embed_tokens is quantized, and the weights have no scales for it", "does not fit"},
		{"quantized by others", "{bits: 4}", func(c map[string]any, _ shapes, _ values) {
			c["quantization_config"] = map[string]any{"quant_method": "gptq"}
		}, "the model is quantized by gptq", "unquantized"},
		{"a mode's own bits", "{mode: mxfp4, overrides: [{match: down_proj, bits: 5}]}", nil, "recipe.yaml:4:57: bits must be 4 in mode mxfp4", ""},
	} {
		p, err := decideError(t, makeFolder(t, c.edit), c.yaml)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %s", c.what, p != nil, err, c.want)
			continue
		}
		var h interface{ Hint() string }
		if c.hint != "" && (!errors.As(err, &h) || !strings.Contains(h.Hint(), c.hint)) {
			t.Errorf("%s: %v has not the hint %s", c.what, err, c.hint)
		}
	}
}

func decideError(t *testing.T, dir, yaml string) (*convert.Plan, error) {
	t.Helper()
	folder, err := source.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, diags := spec.LoadBytes("recipe.yaml", ".", []byte("version: 1\nmodels: {m: \"path:x\"}\nquantizations:\n  q: "+yaml+"\n"), spec.Options{})
	if r == nil {
		return nil, diags
	}
	return convert.Decide(folder, convert.Options{Quantization: r.Quantizations[0], DType: "auto", Repair: true, ShardSize: 5 << 30})
}

// Each tensor knows the rule and the place that decided.
func TestRules(t *testing.T) {
	dir := makeFolder(t, nil)
	p, err := decideError(t, dir, "{bits: 4, group_size: 64, overrides: [{match: o_proj, layers: -1, quantize: false}, {match: down_proj, layers: 0, bits: 8, group_size: 32}, {match: q_proj, mode: mxfp8}]}")
	if err != nil {
		t.Fatal(err)
	}
	for param, want := range map[string]string{
		"model.embed_tokens.weight":              "affine 4 bits, group 64 | q: affine, 4 bits, group_size 64 | 4",
		"model.norm.weight":                      "copy F32 | float: no weight of a Linear or Embedding | 0",
		"model.layers.1.self_attn.o_proj.weight": "copy F32 | {match: o_proj, layers: -1, quantize: false} | 4",
		"model.layers.0.mlp.down_proj.weight":    "affine 8 bits, group 32 | {match: down_proj, layers: 0, bits: 8, group_size: 32} | 4",
		"model.layers.1.mlp.down_proj.weight":    "copy F32 | float: its 96 columns are not divisible by group_size 64 (q: affine, 4 bits, group_size 64) | 4",
		"model.layers.1.self_attn.q_proj.weight": "mxfp8 8 bits, group 32 | {match: q_proj, mode: mxfp8} | 4",
	} {
		for _, x := range p.Tensors {
			if got := fmt.Sprintf("%s | %s | %d", x.Made(), x.Rule, x.RulePos.Line); x.Param == param && got != want {
				t.Errorf("%s: %s, want %s", param, got, want)
			}
		}
	}
	if fmt.Sprint(p.Rules) != "[true true true]" {
		t.Errorf("rules that match: %v", p.Rules)
	}
}

// writeTo converts into a new stage of the cache and takes the files over.
func writeTo(t *testing.T, c *cache.Cache, p *convert.Plan, e convert.WriteEnv) ([]step.File, error) {
	t.Helper()
	digests, err := p.Source.Digests(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := c.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Remove()
	e.Cache, e.Stage, e.Digests, e.Inputs = c, stage, digests.Tensors, digests.Inputs
	if e.Progress == nil {
		e.Progress = func(int64) {}
	}
	files, err := p.Write(context.Background(), e)
	for _, f := range files {
		if err := c.AddFile(stage.Path(f.Path), f.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return files, err
}

func mustDecide(t *testing.T, dir, yaml string) *convert.Plan {
	t.Helper()
	p, err := decideError(t, dir, yaml)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// After one override of one layer changed, no byte of the source is read but that layer's; and nothing at all when nothing changed. Progress counts everything once.
func TestReadsOnlyWhatChanged(t *testing.T) {
	dir, c := makeFolder(t, nil), openCache(t)
	for _, x := range []struct {
		yaml string
		want int64 // -1 = all
	}{
		{"{bits: 4, group_size: 32}", -1},
		{"{bits: 4, group_size: 32}", 0},
		{"{bits: 4, group_size: 32, overrides: [{match: down_proj, layers: 1, bits: 8}]}", 64 * 96 * 4},
		{"{bits: 4, group_size: 32, overrides: [{match: down_proj, layers: 1, quantize: false}]}", 64 * 96 * 4},
		{"{bits: 4, group_size: 32, overrides: [{match: down_proj, layers: 1, bits: 8}]}", 0},
		{"{quantize: false}", -2}, // norms and the float down_proj are there
	} {
		p := mustDecide(t, dir, x.yaml)
		var stats convert.Stats
		progress := make(chan int64, 1000)
		first, err := writeTo(t, c, p, convert.WriteEnv{Stats: &stats, Progress: func(n int64) { progress <- n }})
		if err != nil {
			t.Fatal(err)
		}
		close(progress)
		var done int64
		for n := range progress {
			done += n
		}
		switch want := x.want; {
		case want == -1:
			x.want = p.BytesIn
		case want == -2:
			x.want = p.BytesIn - 5*64*4 - 64*96*4
		}
		if got := stats.Source.Load(); got != x.want || done != p.BytesIn {
			t.Errorf("%s: %d bytes of the source were read, want %d; progress says %d of %d", x.yaml, got, x.want, done, p.BytesIn)
		}
		cold, err := writeTo(t, openCache(t), p, convert.WriteEnv{})
		if err != nil || !slices.Equal(first, cold) {
			t.Errorf("%s: the files are not those of a cold build: %v", x.yaml, err)
		}
	}
}

// A blob whose bits flipped behind everybody's back, a table that is damaged and blobs that are gone: what is made from them is right.
func TestDamagedCache(t *testing.T) {
	dir := makeFolder(t, nil)
	for name, damage := range map[string]func(t *testing.T, c *cache.Cache, weights cache.Digest){
		"a flipped bit": func(t *testing.T, c *cache.Cache, weights cache.Digest) { flip(t, c, weights) },
		"blobs are gone": func(t *testing.T, c *cache.Cache, weights cache.Digest) {
			if err := os.RemoveAll(filepath.Join(c.Dir(), "blobs")); err != nil {
				t.Fatal(err)
			}
		},
		"all small blobs are cut": func(t *testing.T, c *cache.Cache, weights cache.Digest) {
			blobs, _ := filepath.Glob(filepath.Join(c.Dir(), "blobs", "*", "*"))
			for _, b := range blobs {
				if filepath.Base(b) == weights.String() {
					continue
				}
				os.Chmod(b, 0o644)
				if err := os.Truncate(b, 10); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t)
			files, err := writeTo(t, c, mustDecide(t, dir, "{bits: 4, group_size: 32}"), convert.WriteEnv{})
			if err != nil {
				t.Fatal(err)
			}
			changed := mustDecide(t, dir, "{bits: 4, group_size: 32, overrides: [{match: embed_tokens, bits: 8}]}")
			want, err := writeTo(t, openCache(t), changed, convert.WriteEnv{})
			if err != nil {
				t.Fatal(err)
			}
			damage(t, c, files[0].Digest)
			var said []string
			got, err := writeTo(t, c, changed, convert.WriteEnv{Warn: func(s string) { said = append(said, s) }})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("the files are not those of a cold build: %v", err)
			}
			if name == "a flipped bit" {
				if len(said) != 1 || !strings.Contains(said[0], "of the cache is damaged") {
					t.Errorf("warnings: %q", said)
				}
				if _, _, err := c.Blob(files[0].Digest); !errors.Is(err, cache.ErrMissing) {
					t.Errorf("the damaged blob is still served: %v", err)
				}
			}
		})
	}
}

// flip a bit in the middle of a blob and put its times back, as a failing disk would.
func flip(t *testing.T, c *cache.Cache, d cache.Digest) {
	t.Helper()
	path, size, err := c.Blob(d)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, size/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, size/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := c.NoteFile(path, d); err != nil { // ctime cannot be put back: the cache is told what a disk would leave it believing
		t.Fatal(err)
	}
}

// NaN and infinities are refused where they would be quantized and told of where not; they are told of again when the tensor is converted again.
func TestNotFinite(t *testing.T) {
	dir := makeFolder(t, func(_ map[string]any, _ map[string][]int64, values map[string][]float32) {
		values["model.layers.1.mlp.up_proj.weight"][7*64+9] = float32(math.NaN())
		values["model.layers.0.mlp.up_proj.weight"][3*64+2] = 1e6
		values["model.norm.weight"][5] = float32(math.Inf(1))
	})
	c := openCache(t)
	_, err := writeTo(t, c, mustDecide(t, dir, "{bits: 4, group_size: 32}"), convert.WriteEnv{})
	if err == nil || !strings.Contains(err.Error(), "tensor model.layers.1.mlp.up_proj.weight has NaN in row 7, column 9; such a weight cannot be quantized") {
		t.Errorf("%v", err)
	}
	p := mustDecide(t, dir, "{quantize: false}")
	p.Options.DType = "float16"
	if p, err = convert.Decide(p.Source, p.Options); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var said []string
		if _, err := writeTo(t, c, p, convert.WriteEnv{Warn: func(s string) { said = append(said, s) }}); err != nil {
			t.Fatal(err)
		}
		want := []string{"tensor model.layers.0.mlp.up_proj.weight has a weight that is too large for F16 and became infinite, in row 3, column 2",
			"tensor model.layers.1.mlp.up_proj.weight has a weight that is not a finite number, in row 7, column 9", "tensor model.norm.weight has a weight that is not a finite number, in row 0, column 5"}
		if !slices.Equal(said, want) {
			t.Errorf("warnings: %q", said)
		}
	}
}

// A source that changes while it is converted is refused, however it changes.
func TestSourceChanges(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"weights written": func(dir string) error { return appendTo(filepath.Join(dir, "model.safetensors"), 0) },
		"weights cut":     func(dir string) error { return os.Truncate(filepath.Join(dir, "model.safetensors"), 5000) },
	} {
		dir := makeFolder(t, nil)
		changed := false
		progress := func(int64) {
			if !changed {
				changed = true
				if err := change(dir); err != nil {
					t.Error(err)
				}
			}
		}
		before := runtime.GOMAXPROCS(1)
		_, err := writeTo(t, openCache(t), mustDecide(t, dir, "{bits: 4, group_size: 32}"), convert.WriteEnv{Progress: progress})
		runtime.GOMAXPROCS(before)
		if err == nil || !strings.Contains(err.Error(), "changed while") && !strings.Contains(err.Error(), "became shorter") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// So is a small file that is not the one in the key.
func TestSmallFileChanges(t *testing.T) {
	dir, c := makeFolder(t, nil), openCache(t)
	p := mustDecide(t, dir, "{bits: 4, group_size: 32}")
	digests, err := p.Source.Digests(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := appendTo(filepath.Join(dir, "tokenizer.json"), 1); err != nil {
		t.Fatal(err)
	}
	stage, err := c.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Remove()
	_, err = p.Write(context.Background(), convert.WriteEnv{Cache: c, Stage: stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: func(int64) {}})
	if err == nil || !strings.Contains(err.Error(), "tokenizer.json changed while the model was converted") {
		t.Errorf("%v", err)
	}
}

// appendTo writes n bytes more, or, with 0, the first byte again.
func appendTo(path string, n int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at := int64(0)
	b := make([]byte, max(n, 1))
	if n == 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
	} else if at, err = f.Seek(0, 2); err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return err
}

// VerifyFolder finds what was done to a folder.
func TestVerifyFolder(t *testing.T) {
	replace := func(name, old, new string) func(dir string) error {
		return func(dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if !bytes.Contains(data, []byte(old)) {
				return fmt.Errorf("%s has no %s", name, old)
			}
			return os.WriteFile(filepath.Join(dir, name), bytes.ReplaceAll(data, []byte(old), []byte(new)), 0o644)
		}
	}
	src := makeFolder(t, nil)
	for _, c := range []struct {
		what string
		own  bool // with the manifest, as mlxbuild wrote it; else as a folder of others
		do   func(dir string) error
		want string
	}{
		{"nothing", true, func(string) error { return nil }, ""},
		{"a bit of the weights", true, func(dir string) error {
			path := filepath.Join(dir, "model.safetensors")
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)-9] ^= 1
			return os.WriteFile(path, data, 0o644)
		}, "model.safetensors: its content is not what mlxbuild wrote"},
		{"weights cut off", false, func(dir string) error { return os.Truncate(filepath.Join(dir, "model.safetensors"), 9000) }, "cut off"},
		{"tokenizer gone", true, func(dir string) error { return os.Remove(filepath.Join(dir, "tokenizer.json")) }, "tokenizer.json: it is missing"},
		{"stray weights", true, func(dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "model-old.safetensors"), data, 0o644)
		}, "model-old.safetensors: it is no part of this model, and mlx-lm would load it"},
		{"another width", false, replace("config.json", `"bits": 4`, `"bits": 8`), "its quantization says affine 8-bit group 32, and"}, // mlx-lm loads it, others do not
		{"another shape", false, replace("config.json", `"hidden_size": 64`, `"hidden_size": 128`), "its tensors are not those of affine 2-bit group 64 for shape [128 128]"},
		{"no quantization", false, replace("config.json", `"quantization`, `"x_quantization`), "layers of the weights are quantized"},
		{"stale index", false, replace("model.safetensors.index.json", `"total_size": `, `"total_size": 1`), "it is stale"},
		{"index without a tensor", false, replace("model.safetensors.index.json", `model.norm.weight`, `model.morn.weight`), "model.morn.weight"},
		{"manifest of a later version", true, replace("mlxbuild.json", `"format": 1`, `"format": 9`), "which a newer mlxbuild wrote"},
		{"manifest points outside", true, replace("mlxbuild.json", `"tokenizer.json"`, `"../tokenizer.json"`), "outside the folder"},
	} {
		dir := t.TempDir()
		write(t, openCache(t), mustDecide(t, src, "{bits: 4, group_size: 32}"), dir)
		if !c.own {
			if err := os.Remove(filepath.Join(dir, convert.ManifestName)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.do(dir); err != nil {
			t.Fatal(err)
		}
		problems := fmt.Sprint(convert.VerifyFolder(context.Background(), dir))
		if c.want == "" && problems != "[]" || !strings.Contains(problems, c.want) {
			t.Errorf("%s: %s, want %s", c.what, problems, c.want)
		}
	}
}
