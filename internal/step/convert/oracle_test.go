package convert_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
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

// rule is an override in a form that Python can apply.
type rule struct {
	Contains string         `json:"contains"`
	Settings map[string]any `json:"settings"` // nil = float
}

// convertAll runs mlx_lm.convert for every job in one process.
const convertAll = `
import json, sys, contextlib, io
from mlx_lm.convert import convert
for job in json.load(open(sys.argv[1])):
    args = dict(job["args"])
    rules = job["overrides"]
    if rules:
        def predicate(path, module, rules=rules):
            for r in rules:
                if r["contains"] in path.split("."):
                    return {k: r["settings"][k] for k in ("group_size", "bits", "mode")} if r["settings"] else False
            return True
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

// makeModels makes tiny random LLaMA folders with odd shapes.
const makeModels = `
import json, sys, pathlib, torch
from safetensors.torch import save_file
base = pathlib.Path(sys.argv[1])
def make(name, dtype, shards=1, drop=(), **over):
    c = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
             head_dim=32, vocab_size=100, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, attention_bias=False, mlp_bias=False, max_position_embeddings=256,
             torch_dtype=dtype, bos_token_id=1, eos_token_id=2, note="\u00e9\u007f/1e-05", small=1e-05, big=1e16)
    c.update(over)
    for k in drop: c.pop(k)
    g = torch.Generator().manual_seed(len(name) * 7)
    t = {}
    H, F, V, D = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * D, c["num_key_value_heads"] * D
    def w(n, *s): t[n] = (torch.randn(*s, generator=g) * 0.05).to(getattr(torch, dtype))
    w("model.embed_tokens.weight", V, H)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for n, r, k in [("self_attn.q_proj", q, H), ("self_attn.k_proj", kv, H), ("self_attn.v_proj", kv, H), ("self_attn.o_proj", H, q)]:
            w(p + n + ".weight", r, k)
            if c["attention_bias"]: w(p + n + ".bias", r)
        for n, r, k in [("mlp.gate_proj", F, H), ("mlp.up_proj", F, H), ("mlp.down_proj", H, F)]:
            w(p + n + ".weight", r, k)
            if c["mlp_bias"]: w(p + n + ".bias", r)
        w(p + "input_layernorm.weight", H); w(p + "post_attention_layernorm.weight", H)
        t[p + "self_attn.rotary_emb.inv_freq"] = torch.ones(D // 2)
    w("model.norm.weight", H)
    if not c.get("tie_word_embeddings", False): w("lm_head.weight", V, H)
    d = base / name; d.mkdir(parents=True)
    (d / "config.json").write_text(json.dumps(c, indent=2))
    (d / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}))
    tok = json.load(open(sys.argv[2] + "/tokenizer.json")); (d / "tokenizer.json").write_text(json.dumps(tok))
    (d / "tokenizer_config.json").write_text(open(sys.argv[2] + "/tokenizer_config.json").read())
    names = sorted(t)
    if shards == 1: save_file(t, d / "model.safetensors", metadata={"format": "pt"}); return
    wm = {}
    for s in range(shards):
        part = names[s * len(names) // shards:(s + 1) * len(names) // shards]
        f = f"model-{s+1:05d}-of-{shards:05d}.safetensors"
        save_file({n: t[n] for n in part}, d / f, metadata={"format": "pt"})
        wm.update({n: f for n in part})
    (d / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": wm}))
make("bf16", "bfloat16")
make("f16", "float16", attention_bias=True, mlp_bias=True, num_attention_heads=4, num_key_value_heads=2, hidden_size=192, head_dim=64, intermediate_size=320)
make("f32", "float32", shards=3, tie_word_embeddings=True, hidden_size=128, num_attention_heads=2, num_key_value_heads=2, intermediate_size=352)
make("nodtype", "bfloat16", drop=("torch_dtype",))
`

// TestIdenticalToMLXLM converts odd shapes in every mode, width, group size and dtype with both programs.
func TestIdenticalToMLXLM(t *testing.T) {
	base := t.TempDir()
	oracle.Run(t, makeModels, base, oracle.TinyStories(t))
	var jobs []job
	add := func(model, yaml, dtype string, args map[string]any, overrides ...rule) {
		if dtype != "" {
			args["dtype"] = dtype
		}
		jobs = append(jobs, job{Source: filepath.Join(base, model), Out: filepath.Join(base, fmt.Sprint("ref", len(jobs))), Args: args, Overrides: overrides, yaml: yaml, dtype: dtype})
	}
	for _, model := range []string{"bf16", "f16", "f32", "nodtype"} {
		add(model, "{quantize: false}", "", map[string]any{})
		for _, bits := range []int{1, 2, 3, 4, 5, 6, 8} {
			for _, group := range []int{32, 64, 128} {
				add(model, fmt.Sprintf("{bits: %d, group_size: %d}", bits, group), "", map[string]any{"quantize": true, "q_bits": bits, "q_group_size": group})
			}
		}
		for _, mode := range []string{"mxfp4", "mxfp8", "nvfp4"} {
			add(model, "{mode: "+mode+"}", "", map[string]any{"quantize": true, "q_mode": mode})
		}
	}
	for _, dtype := range []string{"float16", "bfloat16", "float32"} {
		add("f32", "{quantize: false}", dtype, map[string]any{})
		add("f16", "{bits: 4}", dtype, map[string]any{"quantize": true})
		add("bf16", "{mode: mxfp8}", dtype, map[string]any{"quantize": true, "q_mode": "mxfp8"})
	}
	for _, preset := range []string{"mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"} {
		add("f16", "{preset: "+preset+"}", "", map[string]any{"quantize": true, "quant_predicate": preset})
	}
	add("f16", "{preset: mixed_3_6, group_size: 32, bits: 5}", "", map[string]any{"quantize": true, "quant_predicate": "mixed_3_6", "q_group_size": 32, "q_bits": 5})
	add("f16", "{bits: 4, overrides: [{match: lm_head, bits: 8}, {match: v_proj, quantize: false}, {match: down_proj, mode: mxfp8}]}", "", map[string]any{"quantize": true},
		rule{"lm_head", map[string]any{"group_size": 64, "bits": 8, "mode": "affine"}}, rule{"v_proj", nil}, rule{"down_proj", map[string]any{"group_size": 32, "bits": 8, "mode": "mxfp8"}})
	runJobs(t, jobs)
	c := openCache(t)
	for _, j := range jobs {
		same(t, filepath.Base(j.Source)+" "+j.yaml+" "+j.dtype, ours(t, c, j, false), j.Out, true)
	}
	// Quantized models as sources: taken over, cast, and turned back.
	var second []job
	for i, j := range jobs {
		if j.Args["quantize"] == true && (i%5 == 0 || strings.Contains(j.yaml, "mode")) {
			second = append(second, job{Source: j.Out, Out: j.Out + "-deq", Args: map[string]any{"dequantize": true}, yaml: "{dequantize: true}"},
				job{Source: j.Out, Out: j.Out + "-copy", Args: map[string]any{}, yaml: "{quantize: false}"},
				job{Source: j.Out, Out: j.Out + "-f16", Args: map[string]any{"dequantize": true, "dtype": "float16"}, yaml: "{dequantize: true}", dtype: "float16"})
		}
	}
	runJobs(t, second)
	for _, j := range second {
		same(t, "from "+filepath.Base(j.Source)+" "+j.yaml+j.dtype, ours(t, c, j, false), j.Out, true)
	}
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
