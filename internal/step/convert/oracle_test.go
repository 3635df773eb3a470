package convert_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/arch/llama"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/spec"
)

// job is one conversion that both programs do.
type job struct {
	Source    string         `json:"source"`
	Out       string         `json:"out"`
	Args      map[string]any `json:"args"`      // of mlx_lm.convert
	Overrides []rule         `json:"overrides"` // a predicate with the same meaning
	yaml      string         // the quantization in a recipe
	dtype     string
}

// rule is an override in a form that Python can apply: module paths and layers spelled out by hand, so that the meaning of `match` and `layers` is compared as well.
type rule struct {
	Path     string         `json:"path"`     // a regular expression for the whole path
	Settings map[string]any `json:"settings"` // nil = float
}

// convertAll runs mlx_lm.convert for every job in one process. Tokenizers are left out: ours are copies, and loading and saving one takes longer than converting a tiny model. A predicate stands
// before the preset that the job names, as overrides do.
const convertAll = `
import json, re, sys, contextlib, io, pathlib
import mlx_lm.utils as utils
from mlx_lm.convert import convert, mixed_quant_predicate_builder
class NoTokenizer:
    def save_pretrained(self, path): pass
utils.load_tokenizer = lambda *a, **k: NoTokenizer()
for job in json.load(open(sys.argv[1])):
    args = dict(job["args"])
    rules = job["overrides"]
    if rules:
        rest = lambda path, module: True
        if "quant_predicate" in args:
            model, _ = utils.load_model(pathlib.Path(job["source"]), lazy=True)
            rest = mixed_quant_predicate_builder(args["quant_predicate"], model, args.get("q_group_size"))
        def predicate(path, module, rules=rules, rest=rest):
            for r in rules:
                if re.fullmatch(r["path"], path):
                    return {k: r["settings"][k] for k in ("group_size", "bits", "mode")} if r["settings"] else False
            return rest(path, module)
        args["quant_predicate"] = predicate
    with contextlib.redirect_stdout(io.StringIO()):
        convert(job["source"], job["out"], **args)
print("done")
`

func runJobs(t *testing.T, jobs []job) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jobs.json")
	data, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, convertAll, path)
}

// ours converts as a recipe would, and returns the folder.
func ours(t *testing.T, c *cache.Cache, j job, repair bool) string {
	t.Helper()
	p := decide(t, j, repair)
	dir := t.TempDir()
	write(t, c, p, dir)
	return dir
}

func decide(t testing.TB, j job, repair bool) *convert.Plan {
	t.Helper()
	recipe := "version: 1\nmodels: {m: \"path:x\"}\nquantizations:\n  q: " + j.yaml + "\n"
	r, diags := spec.LoadBytes("recipe.yaml", ".", []byte(recipe), spec.Options{})
	if r == nil {
		t.Fatalf("%s\n%v", recipe, diags)
	}
	folder, err := source.Open(j.Source)
	if err != nil {
		t.Fatal(err)
	}
	dtype := j.dtype
	if dtype == "" {
		dtype = "auto"
	}
	p, err := convert.Decide(folder, convert.Options{Quantization: r.Quantizations[0], DType: dtype, Repair: repair, ShardSize: 5 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// write makes the plan's files and puts them into dir.
func write(t *testing.T, c *cache.Cache, p *convert.Plan, dir string) {
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
	files, err := p.Write(context.Background(), convert.WriteEnv{Cache: c, Stage: stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: func(int64) {},
		Warn: func(s string) { t.Error(s) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got, _, err := c.FileDigest(stage.Path(f.Path), nil)
		if err != nil || got != f.Digest {
			t.Fatalf("%s: its digest is %s, the plan says %s, %v", f.Path, got.Short(), f.Digest.Short(), err)
		}
		if err := c.AddFile(stage.Path(f.Path), f.Digest); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f.Path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Place(f.Digest, filepath.Join(dir, f.Path), true); err != nil {
			t.Fatal(err)
		}
	}
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

// same compares two folders tensor by tensor, and the JSON files byte by byte.
func same(t *testing.T, what, got, want string, config bool) {
	t.Helper()
	a, err := safetensors.OpenFolder(got)
	if err != nil {
		t.Fatal(err)
	}
	b := looseFolder(t, want)
	if len(a.Tensors()) != len(b) {
		t.Errorf("%s: %d tensors, mlx_lm has %d", what, len(a.Tensors()), len(b))
	}
	for _, x := range a.Tensors() {
		file, _, _ := a.Find(x.Name)
		y, ok := b[x.Name]
		if !ok || x.DType != y.dtype || fmt.Sprint(x.Shape) != fmt.Sprint(y.shape) {
			t.Errorf("%s: %s is %s %v, mlx_lm's %s %v", what, x.Name, x.DType, x.Shape, y.dtype, y.shape)
			continue
		}
		if !bytes.Equal(readTensor(t, a.Files[file].Path, x), y.data) {
			t.Errorf("%s: the bytes of %s differ from mlx_lm's", what, x.Name)
		}
	}
	names := []string{"model.safetensors.index.json"}
	if config {
		names = append(names, "config.json")
	}
	for _, name := range names {
		x, _ := os.ReadFile(filepath.Join(got, name))
		y, _ := os.ReadFile(filepath.Join(want, name))
		if !bytes.Equal(x, y) {
			t.Errorf("%s: %s differs:\n%s\nmlx_lm's:\n%s", what, name, x, y)
		}
	}
}

type looseTensor struct {
	dtype string
	shape []int64
	data  []byte
}

// looseFolder reads what mlx wrote; its files have no padding and another order, which our reader takes as well.
func looseFolder(t *testing.T, dir string) map[string]looseTensor {
	t.Helper()
	f, err := safetensors.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]looseTensor{}
	for _, x := range f.Tensors() {
		file, _, _ := f.Find(x.Name)
		out[x.Name] = looseTensor{x.DType, x.Shape, readTensor(t, f.Files[file].Path, x)}
	}
	return out
}

func readTensor(t *testing.T, path string, x safetensors.Tensor) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, x.Bytes())
	if _, err := f.ReadAt(b, x.Begin); err != nil {
		t.Fatal(err)
	}
	return b
}

// models are tiny LLaMA folders of every kind: odd sizes, head_dim apart from hidden/heads, GQA, biases, shards, tied and not, one type and several, and configs as transformers 5 writes them.
func models(t *testing.T) map[string]string {
	base := `"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "note": "\u00e9\u007f/é", "small": 1e-05, "big": 1E16, `
	all := func(dtype string) func(string) string { return func(string) string { return dtype } }
	fakes := map[string]fake{
		"bf16": {dtype: all("BF16"), config: base + `"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32,
			"vocab_size": 100, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vision_config": {"a": 1}, "_name_or_path": "x"`},
		"f16": {dtype: all("F16"), config: base + `"hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 9, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
			"vocab_size": 67, "tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true, "torch_dtype": "float16", "Upper": 1, "quantization_config": null`},
		"f32": {dtype: all("F32"), shards: 3, config: base + `"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100,
			"tie_word_embeddings": true, "torch_dtype": "float32", "rope_theta": 5e5`, extra: []string{"lm_head.weight"}},
		"nodtype": {dtype: all("BF16"), config: base + `"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 33, "tie_word_embeddings": true`},
		"mixed": {config: base + `"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40, "tie_word_embeddings": false,
			"attention_bias": true, "dtype": "float16", "text_config": {"dtype": "float64"}`,
			dtype: func(name string) string {
				return map[bool]string{true: "F32", false: map[bool]string{true: "F16", false: "BF16"}[strings.Contains(name, "q_proj")]}[strings.Contains(name, "norm")]
			}},
		"textdtype": {dtype: all("F32"), config: base + `"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40, "tie_word_embeddings": true,
			"torch_dtype": null, "text_config": {"dtype": "bfloat16"}`},
		// No number of columns is divisible by 32, some are by 16.
		"odd": {dtype: all("BF16"), config: base + `"hidden_size": 72, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3, "vocab_size": 101, "tie_word_embeddings": false, "torch_dtype": "bfloat16"`},
		// As transformers 5 writes it; without repair mlx-lm drops lm_head, and so do we.
		"v5": {dtype: all("BF16"), config: base + `"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40, "dtype": "bfloat16",
			"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}`,
			extra: []string{"lm_head.weight"}},
	}
	dirs := map[string]string{}
	for name, f := range fakes {
		dirs[name] = f.make(t, name)
	}
	return dirs
}

// fake is a model folder with random weights.
type fake struct {
	config string // what stands between the braces
	dtype  func(tensor string) string
	shards int
	extra  []string // tensors that sanitize drops
}

func (f fake) make(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	config, err := jsonx.ParseObject([]byte("{" + f.config + "}"))
	if err != nil {
		t.Fatal(err)
	}
	model, err := llama.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var specs []safetensors.Spec
	for _, p := range model.Params() {
		specs = append(specs, safetensors.Spec{Name: p.Name, DType: f.dtype(p.Name), Shape: p.Shape})
	}
	for i := range model.Layers() {
		specs = append(specs, safetensors.Spec{Name: fmt.Sprintf("model.layers.%d.self_attn.rotary_emb.inv_freq", i), DType: "F32", Shape: []int64{4}})
	}
	for _, name := range f.extra {
		specs = append(specs, safetensors.Spec{Name: name, DType: f.dtype(name), Shape: specs[0].Shape})
	}
	var total int64
	for _, s := range specs {
		total += 4 * s.Shape[0] * s.Shape[len(s.Shape)-1]
	}
	size := int64(1) << 40
	if f.shards > 1 {
		size = total / int64(f.shards)
	}
	shards, err := safetensors.Layout(specs, size)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"config.json": []byte("{" + f.config + "}"), "generation_config.json": []byte(`{"eos_token_id": [2, 5]}`)}
	where := map[string]string{}
	r := rand.New(rand.NewPCG(uint64(len(name)), uint64(total)))
	for _, s := range shards {
		files[s.Name] = s.Header
		for _, x := range s.Tensors {
			files[s.Name] = append(files[s.Name], randomValues(r, x)...)
			where[x.Name] = s.Name
		}
	}
	if files[safetensors.IndexName], err = json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": where}); err != nil {
		t.Fatal(err)
	}
	if len(shards) < f.shards {
		t.Fatalf("%s has %d shards", name, len(shards))
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func randomValues(r *rand.Rand, x safetensors.Tensor) []byte {
	values := make([]float32, x.Elements())
	for i := range values {
		values[i] = float32(r.NormFloat64() * 0.05)
	}
	dtype, _ := quant.ParseFloat(x.DType)
	out := make([]byte, x.Bytes())
	dtype.Encode(out, values)
	return out
}

// TestIdenticalToMLXLM converts models of every kind in every mode, width, group size and dtype with both programs, and what comes out a second time.
func TestIdenticalToMLXLM(t *testing.T) {
	oracle.Python(t)
	base, dirs := t.TempDir(), models(t)
	var jobs []job
	add := func(source, yaml, dtype string, args map[string]any, overrides ...rule) {
		if dtype != "" {
			args["dtype"] = dtype
		}
		jobs = append(jobs, job{Source: source, Out: filepath.Join(base, fmt.Sprint("ref", len(jobs))), Args: args, Overrides: overrides, yaml: yaml, dtype: dtype})
	}
	for _, model := range sortedKeys(dirs) {
		add(dirs[model], "{quantize: false}", "", map[string]any{})
		for _, bits := range []int{1, 2, 3, 4, 5, 6, 8} {
			for _, group := range []int{32, 64, 128} {
				add(dirs[model], fmt.Sprintf("{bits: %d, group_size: %d}", bits, group), "", map[string]any{"quantize": true, "q_bits": bits, "q_group_size": group})
			}
		}
		for _, mode := range []string{"mxfp4", "mxfp8", "nvfp4"} {
			add(dirs[model], "{mode: "+mode+"}", "", map[string]any{"quantize": true, "q_mode": mode})
		}
	}
	for _, dtype := range []string{"float16", "bfloat16", "float32"} {
		for _, model := range []string{"f32", "f16", "bf16", "mixed"} {
			add(dirs[model], "{quantize: false}", dtype, map[string]any{})
			add(dirs[model], "{bits: 4}", dtype, map[string]any{"quantize": true})
			add(dirs[model], "{mode: mxfp8}", dtype, map[string]any{"quantize": true, "q_mode": "mxfp8"})
			add(dirs[model], "{mode: nvfp4}", dtype, map[string]any{"quantize": true, "q_mode": "nvfp4"})
		}
	}
	for _, preset := range []string{"mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"} {
		for _, model := range []string{"f16", "bf16", "mixed"} {
			add(dirs[model], "{preset: "+preset+"}", "", map[string]any{"quantize": true, "quant_predicate": preset})
		}
	}
	add(dirs["f16"], "{preset: mixed_3_6, group_size: 32, bits: 5}", "", map[string]any{"quantize": true, "quant_predicate": "mixed_3_6", "q_group_size": 32, "q_bits": 5})
	affine := func(bits, group int) map[string]any {
		return map[string]any{"group_size": group, "bits": bits, "mode": "affine"}
	}
	fp := func(mode string, bits, group int) map[string]any {
		return map[string]any{"group_size": group, "bits": bits, "mode": mode}
	}
	add(dirs["f16"], "{bits: 4, overrides: [{match: lm_head, bits: 8}, {match: v_proj, quantize: false}, {match: down_proj, mode: mxfp8}]}", "", map[string]any{"quantize": true},
		rule{"lm_head", affine(8, 64)}, rule{`.*\.v_proj`, nil}, rule{`.*\.down_proj`, fp("mxfp8", 8, 32)})
	add(dirs["f16"], "{bits: 3, group_size: 32, overrides: [{match: [q_proj, k_proj], layers: [0..1, -2..], mode: nvfp4}, {match: mlp, layers: 4, group_size: 64}, {match: model.layers.4, bits: 6}]}", "",
		map[string]any{"quantize": true, "q_bits": 3, "q_group_size": 32},
		rule{`model\.layers\.[0178]\.self_attn\.[qk]_proj`, fp("nvfp4", 4, 16)}, rule{`model\.layers\.4\.mlp\..*`, affine(3, 64)}, rule{`model\.layers\.4\..*`, affine(6, 32)})
	add(dirs["f16"], `{mode: mxfp4, overrides: [{match: "re:model\\..*\\.o_proj", mode: affine, bits: 8}, {match: embed_tokens, mode: affine}]}`, "float32", map[string]any{"quantize": true, "q_mode": "mxfp4"},
		rule{`model\..*\.o_proj`, affine(8, 64)}, rule{`model\.embed_tokens`, affine(4, 64)})
	add(dirs["f16"], "{preset: mixed_2_6, overrides: [{match: gate_proj, layers: 3, bits: 5, group_size: 32}, {match: o_proj, quantize: false}]}", "", map[string]any{"quantize": true, "quant_predicate": "mixed_2_6"},
		rule{`model\.layers\.3\.mlp\.gate_proj`, affine(5, 32)}, rule{`.*\.o_proj`, nil})
	first := len(jobs)
	for i, j := range jobs[:first] { // as sources: taken over, cast, and turned back
		if j.Args["quantize"] != true || i%6 != 0 && !strings.Contains(j.yaml, "mode") && j.Overrides == nil {
			continue
		}
		add(j.Out, "{quantize: false}", "", map[string]any{})
		add(j.Out, "{dequantize: true}", "", map[string]any{"dequantize": true})
		add(j.Out, "{dequantize: true}", "float16", map[string]any{"dequantize": true})
		add(j.Out, "{quantize: false}", "float32", map[string]any{})
	}
	runJobs(t, jobs)
	c := openCache(t)
	for _, j := range jobs {
		same(t, filepath.Base(j.Source)+" "+j.yaml+" "+j.dtype, ours(t, c, j, false), j.Out, true)
		if problems := convert.VerifyFolder(context.Background(), j.Out); problems != nil {
			t.Errorf("verify finds in mlx_lm's folder, %s %s: %v", filepath.Base(j.Source), j.yaml, problems)
		}
	}
	t.Logf("%d conversions", len(jobs))
}

// TestConfigs writes configs with every trap of JSON as mlx-lm does.
func TestConfigs(t *testing.T) {
	oracle.Python(t)
	base := fake{dtype: func(string) string { return "F32" }, config: `"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 4,
		"rms_norm_eps": 1e-5, "tie_word_embeddings": true`}
	model := base.make(t, "model")
	r := rand.New(rand.NewPCG(3, 4))
	var dirs []string
	for range 1000 {
		dir := t.TempDir()
		for name, text := range map[string]string{"config.json": "{" + base.config + randomKeys(r) + "}", "generation_config.json": randomGeneration(r)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join(model, "model.safetensors"), filepath.Join(dir, "model.safetensors")); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	list := filepath.Join(t.TempDir(), "dirs.json")
	data, err := json.Marshal(dirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, data, 0o644); err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, `
import json, sys
from pathlib import Path
from mlx_lm.utils import load_model, save_config
for d in json.load(open(sys.argv[1])):
    _, config = load_model(Path(d), lazy=True)
    save_config(config, d + "/want.json")
`, list)
	for _, dir := range dirs {
		p := decide(t, job{Source: dir, yaml: "{quantize: false}"}, false)
		want, err := os.ReadFile(filepath.Join(dir, "want.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.Config, want) {
			config, _ := os.ReadFile(filepath.Join(dir, "config.json"))
			t.Fatalf("%s\nis written as\n%s\nmlx-lm's:\n%s", config, p.Config, want)
		}
	}
}

// randomKeys of a config that mlx-lm's llama does not read, or reads as it is.
func randomKeys(r *rand.Rand) string {
	values := []string{"1e6", "-0", "1e400", "-1E+400", "NaN", "Infinity", "0.1", "1e-5", "123456789012345678901234567890", `"\u007f\ud800"`, `"é/\u2028"`, "{}", "[]", `{"b": 1, "a": [1e22, {"__float__": "NaN"}]}`,
		`{"__float__": "Infinity"}`, `{"__float__": "Infinity", "x": 1}`, `[true, null, "x"]`, "1.7976931348623157e308", "5e-324", "-0.0", "1e15", "1e16"}
	keys := []string{"zeta", "Alpha", "_under", "é", "\U0001F600", "\uE000", "beta", "vision_config", "_name_or_path", "torch_dtype", "a b", "transformers_version", "eos_token_id"}
	text := ""
	for range r.IntN(8) {
		key, value := keys[r.IntN(len(keys))], values[r.IntN(len(values))]
		text += fmt.Sprintf(", %s%q: %s", []string{"", "\n\t"}[r.IntN(2)], key, value)
	}
	switch r.IntN(12) {
	case 0:
		text += `, "quantization_config": null`
	case 1:
		text += `, "quantization_config": {}`
	case 2:
		text += `, "text_config": {"quantization_config": {}}`
	case 3:
		text += `, "quantization": {"group_size": 64, "bits": 4, "mode": "affine", "x": {"bits": 1e0}}`
	}
	return text
}

func randomGeneration(r *rand.Rand) string {
	return []string{`{}`, `{"eos_token_id": 7}`, `{"eos_token_id": [7, 8]}`, `{"eos_token_id": 0}`, `{"eos_token_id": []}`, `{"eos_token_id": null}`, `{"eos_token_id": 1e400}`, `{"eos`}[r.IntN(8)]
}

// TestSmolLM2 converts the real model.
func TestSmolLM2(t *testing.T) {
	dir, base := oracle.SmolLM2(t), t.TempDir()
	jobs := []job{
		{Source: dir, Out: filepath.Join(base, "bf16"), Args: map[string]any{}, yaml: "{quantize: false}"},
		{Source: dir, Out: filepath.Join(base, "q4"), Args: map[string]any{"quantize": true}, yaml: "{bits: 4}"},
		{Source: dir, Out: filepath.Join(base, "mixed"), Args: map[string]any{"quantize": true, "quant_predicate": "mixed_4_6"}, yaml: "{preset: mixed_4_6}"},
		{Source: dir, Out: filepath.Join(base, "mxfp4"), Args: map[string]any{"quantize": true, "q_mode": "mxfp4"}, yaml: "{mode: mxfp4}"},
	}
	runJobs(t, jobs)
	c := openCache(t)
	for _, j := range jobs {
		same(t, j.yaml, ours(t, c, j, true), j.Out, true)
		os.RemoveAll(j.Out)
	}
}
