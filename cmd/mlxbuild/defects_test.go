package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

// folder is a model that a test breaks.
type folder struct {
	config  *jsonx.Object
	tensors map[string]backendtest.Tensor
}

// edit changes the values of a BF16 tensor, [rows][cols].
func (f folder) edit(name string, change func(w [][]float32)) {
	t := f.tensors[name]
	cols := int(t.Shape[len(t.Shape)-1])
	values := make([]float32, len(t.Data)/2)
	quant.BF16.Decode(values, t.Data)
	var rows [][]float32
	for at := 0; at < len(values); at += cols {
		rows = append(rows, values[at:at+cols])
	}
	change(rows)
	var flat []float32
	for _, r := range rows {
		flat = append(flat, r...)
	}
	data := make([]byte, len(t.Data))
	quant.BF16.Encode(data, flat)
	t.Data = data
	f.tensors[name] = t
}

func (f folder) swap(a, b string) { f.tensors[a], f.tensors[b] = f.tensors[b], f.tensors[a] }

// swapLayers exchanges two whole blocks.
func (f folder) swapLayers(a, b int) {
	for name := range f.tensors {
		if rest, ok := strings.CutPrefix(name, fmt.Sprintf("model.layers.%d.", a)); ok {
			f.swap(name, fmt.Sprintf("model.layers.%d.%s", b, rest))
		}
	}
}

func scaleAll(by float32) func([][]float32) {
	return func(w [][]float32) {
		for _, r := range w {
			for i := range r {
				r[i] *= by
			}
		}
	}
}

// swapRows exchanges n rows from a with n rows from b.
func swapRows(a, b, n int) func([][]float32) {
	return func(w [][]float32) {
		for i := range n {
			w[a+i], w[b+i] = w[b+i], w[a+i]
		}
	}
}

// defects are ways of breaking a model, and what names the place: the first layer over its limit (embeddings are 0, block i is i+1; -1 when no layer shows it) and a tensor or a setting.
var defects = []struct {
	name   string
	damage func(f folder)
	layer  int
	place  string // the worst tensor, or what a refusal or a setting says
}{
	{"a permuted head", func(f folder) { f.edit("model.layers.1.self_attn.q_proj.weight", swapRows(0, 32, 32)) }, 2, "model.layers.1.self_attn.q_proj.weight"},
	{"q and k exchanged", func(f folder) {
		var keys [][]float32
		f.edit("model.layers.2.self_attn.k_proj.weight", func(w [][]float32) { keys = w })
		f.edit("model.layers.2.self_attn.q_proj.weight", func(w [][]float32) {
			for i := range keys { // as far as both have rows
				keys[i], w[i] = w[i], keys[i]
			}
		})
		f.edit("model.layers.2.self_attn.k_proj.weight", func(w [][]float32) { copy(w, keys) })
	}, 3, "model.layers.2.self_attn."},
	{"a permuted key head", func(f folder) { f.edit("model.layers.2.self_attn.k_proj.weight", swapRows(0, 32, 32)) }, 3, "model.layers.2.self_attn.k_proj.weight"},
	{"rope_theta changed", func(f folder) { f.config.Set("rope_theta", jsonx.FloatNumber(20000)) }, 1, "rope.theta: 10000 -> 20000"},
	{"rope scaled", func(f folder) {
		o := jsonx.NewObject()
		o.Set("rope_type", "linear")
		o.Set("factor", jsonx.FloatNumber(2))
		f.config.Set("rope_scaling", o)
	}, 1, "rope.factor: (not there) -> 2"},
	{"one tensor doubled", func(f folder) { f.edit("model.layers.2.mlp.down_proj.weight", scaleAll(2)) }, 3, "model.layers.2.mlp.down_proj.weight"},
	{"two layers swapped", func(f folder) { f.swapLayers(1, 3) }, 2, "model.layers."},
	{"gate and up exchanged", func(f folder) { f.swap("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight") }, 1, "model.layers.0.mlp."},
	{"a norm of ones", func(f folder) {
		f.edit("model.layers.3.input_layernorm.weight", func(w [][]float32) {
			for i := range w[0] {
				w[0][i] = 1
			}
		})
	}, 4, "model.layers.3.input_layernorm.weight"},
	{"one added to a norm", func(f folder) {
		f.edit("model.layers.0.post_attention_layernorm.weight", func(w [][]float32) {
			for i := range w[0] {
				w[0][i]++
			}
		})
	}, 1, "model.layers.0.post_attention_layernorm.weight"},
	{"a head's values zero", func(f folder) {
		f.edit("model.layers.2.self_attn.v_proj.weight", func(w [][]float32) {
			for _, r := range w[:32] {
				clear(r)
			}
		})
	}, 3, "model.layers.2.self_attn.v_proj.weight"},
	{"o_proj transposed", func(f folder) {
		f.edit("model.layers.1.self_attn.o_proj.weight", func(w [][]float32) {
			for i := range w {
				for j := range i {
					w[i][j], w[j][i] = w[j][i], w[i][j]
				}
			}
		})
	}, 2, "model.layers.1.self_attn.o_proj.weight"},
	{"embeddings of another order", func(f folder) { f.edit("model.embed_tokens.weight", swapRows(0, 512, 512)) }, 0, "model.embed_tokens.weight"},
	{"epsilon changed", func(f folder) { f.config.Set("rms_norm_eps", jsonx.FloatNumber(0.1)) }, 1, "rms_norm_eps: 1e-05 -> 0.1"},
	{"the final norm scaled", func(f folder) { f.edit("model.norm.weight", scaleAll(1.01)) }, -1, "model.norm.weight"},
	{"a sign flipped in one row", func(f folder) {
		f.edit("model.layers.3.mlp.gate_proj.weight", func(w [][]float32) { scaleAll(-1)(w[7:8]) })
	}, 4, "model.layers.3.mlp.gate_proj.weight"},
	{"NaN in a weight", func(f folder) {
		f.edit("model.layers.1.mlp.up_proj.weight", func(w [][]float32) { w[3][5] = float32(math.NaN()) })
	}, 2, "model.layers.1.mlp.up_proj.weight"},
	{"heads counted wrongly", func(f folder) { f.config.Set("num_key_value_heads", jsonx.IntNumber(4)) }, -2, "k_proj"},
	{"a norm missing", func(f folder) { delete(f.tensors, "model.layers.2.input_layernorm.weight") }, -2, "model.layers.2.input_layernorm.weight"},
	{"a bias too many", func(f folder) {
		f.tensors["model.layers.0.self_attn.q_proj.bias"] = backendtest.Tensor{DType: "BF16", Shape: []int64{128}, Data: make([]byte, 256)}
	}, -2, "model.layers.0.self_attn.q_proj.bias"},
}

// TestDefectsAreFoundAndNamed breaks a converted model in every way of the list. Each has to be refused or to fail, and --layers has to say where.
func TestDefectsAreFoundAndNamed(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	good := oracle.TinyStories(t)
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			dir := breakFolder(t, good, d.damage)
			code, stdout, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--hf-path", good, "-n", "8", "--layers", "--json")
			if d.layer == -2 {
				if code != exitFailed && code != exitBadInput || !strings.Contains(stderr, d.place) {
					t.Fatalf("exit %d, and %q is not named:\n%s", code, d.place, stderr)
				}
				return
			}
			if code != exitExpectation {
				t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
			}
			got := layersOf(t, stdout)
			if got.First != d.layer {
				t.Errorf("the first layer that differs is %d, want %d: %v", got.First, d.layer, got.Layers)
			}
			named := strings.Join(got.Settings, "\n")
			if len(got.Tensors.Worst) > 0 {
				named += "\n" + got.Tensors.Worst[0].Name
			}
			if !strings.Contains(named, d.place) {
				t.Errorf("named are %q, want %q", named, d.place)
			}
		})
	}
}

// TestMissingBias takes the biases out of a model that has them.
func TestMissingBias(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	good := t.TempDir()
	copyTokenizer(t, oracle.TinyStories(t), good)
	for seed := uint64(0); ; seed++ {
		randomModel(t, good, oracle.TinyStories(t), seed)
		if config, _ := backendtest.Read(t, good); config != nil {
			if biased, _ := config.Bool("attention_bias"); biased {
				break
			}
		}
	}
	dir := breakFolder(t, good, func(f folder) {
		f.config.Set("attention_bias", false)
		for name := range f.tensors {
			if strings.HasSuffix(name, ".bias") {
				delete(f.tensors, name)
			}
		}
	})
	code, stdout, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--hf-path", good, "-n", "4", "--layers", "--json")
	if code != exitExpectation {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	if got := layersOf(t, stdout); got.First != 1 || !strings.Contains(strings.Join(got.Settings, " "), "attention_bias: true -> false") {
		t.Errorf("first %d, settings %v", got.First, got.Settings)
	}
}

// TestQuantizedDefect breaks the scales of one matrix of a 4-bit folder.
func TestQuantizedDefect(t *testing.T) {
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	good, dir := oracle.TinyStories(t), t.TempDir()
	copyTokenizer(t, good, dir)
	backendtest.Quantize(t, dir, good, func(string, int64) quant.Scheme { return quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64} })
	if code, stdout, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--hf-path", good, "--reference", "builtin", "-n", "4"); code != exitOK {
		t.Fatalf("an intact folder: exit %d\n%s%s", code, stdout, stderr)
	}
	config, tensors := backendtest.Read(t, dir)
	f := folder{config, tensors}
	for _, last := range []string{"scales", "biases"} {
		f.edit("model.layers.2.mlp.up_proj."+last, scaleAll(2))
	}
	backendtest.Write(t, dir, f.config, f.tensors)
	code, stdout, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--hf-path", good, "--reference", "builtin", "-n", "4", "--layers", "--json")
	got := layersOf(t, stdout)
	if code != exitExpectation || got.Tensors.Odd != 1 || got.Tensors.Worst[0].Name != "model.layers.2.mlp.up_proj.weight" {
		t.Errorf("exit %d, named %+v\n%s", code, got.Tensors, stderr)
	}
}

// TestOtherTokenizer gives a model the tokenizer of another order.
func TestOtherTokenizer(t *testing.T) {
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	good := oracle.TinyStories(t)
	dir := breakFolder(t, good, func(folder) {})
	path := filepath.Join(dir, "tokenizer.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tokenizer map[string]any
	if err := json.Unmarshal(text, &tokenizer); err != nil {
		t.Fatal(err)
	}
	vocab := tokenizer["model"].(map[string]any)["vocab"].(map[string]any)
	vocab["e"], vocab["a"] = vocab["a"], vocab["e"]
	if text, err = json.Marshal(tokenizer); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--hf-path", good, "--reference", "builtin", "-n", "4")
	if code != exitBadInput || !strings.Contains(stderr, "is not that of the reference") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
}

// TestIntactModelsPass is the other side of the defects: 50 random models, none of which may fail, against PyTorch.
func TestIntactModelsPass(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	dir, good := t.TempDir(), oracle.TinyStories(t)
	var recipe strings.Builder
	recipe.WriteString("version: 1\nmodels:\n")
	for seed := range 50 {
		at := filepath.Join(dir, fmt.Sprintf("m%d", seed))
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		copyTokenizer(t, good, at)
		randomModel(t, at, good, uint64(seed))
		fmt.Fprintf(&recipe, "  m%d: {source: \"path:m%d\"}\n", seed, seed)
	}
	recipe.WriteString("quantizations: {float: {quantize: false}, q4: {bits: 4, group_size: 32}}\nvalidate:\n  port: {kind: parity, targets: [\"*/*\"], prompts: [\"Once upon a time\", \"The quick brown fox\"], max_tokens: 4}\n")
	path := filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(path, []byte(recipe.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := mlxbuild(t, "validate", path)
	if code != exitOK || strings.Count(stdout, " ok\n") != 100 {
		t.Errorf("exit %d, %d of 100 are ok\n%s%s", code, strings.Count(stdout, " ok\n"), stdout, stderr)
	}
}

// randomModel writes a small model of random shape and weights, with a tied or an own head, biases, and kinds of rope.
func randomModel(t *testing.T, dir, like string, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	config, _ := backendtest.Read(t, like)
	kv := 1 + rng.IntN(2)
	heads, headDim, layers, inner := kv*(1+rng.IntN(2)), 32, 1+rng.IntN(3), 32*(1+rng.IntN(4))
	hidden := 64
	tied, biased := rng.IntN(2) == 0, rng.IntN(2) == 0
	for key, v := range map[string]int{"hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": headDim, "num_hidden_layers": layers, "intermediate_size": inner} {
		config.Set(key, jsonx.IntNumber(int64(v)))
	}
	config.Set("tie_word_embeddings", tied)
	config.Set("attention_bias", biased)
	config.Set("rope_theta", jsonx.FloatNumber(float64(1000*(1+rng.IntN(100)))))
	config.Delete("rope_parameters")
	tensors := map[string]backendtest.Tensor{}
	add := func(name string, center, spread float64, shape ...int64) {
		n := 1
		for _, s := range shape {
			n *= int(s)
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(center + spread*rng.NormFloat64())
		}
		data := make([]byte, 2*n)
		quant.BF16.Encode(data, values)
		tensors[name] = backendtest.Tensor{DType: "BF16", Shape: shape, Data: data}
	}
	h, q, k, m := int64(hidden), int64(heads*headDim), int64(kv*headDim), int64(inner)
	add("model.embed_tokens.weight", 0, 1, 1024, h)
	add("model.norm.weight", 1, 0.1, h)
	if !tied {
		add("lm_head.weight", 0, 0.2, 1024, h)
	}
	for i := range layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		add(at+"input_layernorm.weight", 1, 0.1, h)
		add(at+"post_attention_layernorm.weight", 1, 0.1, h)
		for name, rows := range map[string]int64{"q_proj": q, "k_proj": k, "v_proj": k} {
			add(at+"self_attn."+name+".weight", 0, 0.15, rows, h)
			if biased {
				add(at+"self_attn."+name+".bias", 0, 0.1, rows)
			}
		}
		add(at+"self_attn.o_proj.weight", 0, 0.15, h, q)
		if biased {
			add(at+"self_attn.o_proj.bias", 0, 0.1, h)
		}
		add(at+"mlp.gate_proj.weight", 0, 0.15, m, h)
		add(at+"mlp.up_proj.weight", 0, 0.15, m, h)
		add(at+"mlp.down_proj.weight", 0, 0.15, h, m)
	}
	backendtest.Write(t, dir, config, tensors)
}

// breakFolder copies a model and changes the copy.
func breakFolder(t *testing.T, good string, change func(folder)) string {
	t.Helper()
	dir := t.TempDir()
	copyTokenizer(t, good, dir)
	config, tensors := backendtest.Read(t, good)
	f := folder{config, tensors}
	change(f)
	backendtest.Write(t, dir, f.config, f.tensors)
	return dir
}

func copyTokenizer(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mlxbuild runs the program in this process.
func mlxbuild(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

func layersOf(t *testing.T, stdout string) layerDetail {
	t.Helper()
	var answer struct {
		Validations []struct {
			Layers layerDetail `json:"layers"`
		} `json:"validations"`
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || len(answer.Validations) != 1 {
		t.Fatalf("%v\n%s", err, stdout)
	}
	return answer.Validations[0].Layers
}
