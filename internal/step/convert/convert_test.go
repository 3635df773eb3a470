package convert_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// After one override is changed for one layer, the other tensors are copied from where they are: their source can be unreadable, and the result is the same as made from nothing.
func TestUnchangedTensorsAreCopied(t *testing.T) {
	src := copyModel(t)
	c := openCache(t)
	first := job{Source: src, yaml: "{bits: 4}"}
	ours(t, c, first, true)
	changed := job{Source: src, yaml: "{bits: 4, overrides: [{match: down_proj, layers: 2, bits: 8}]}"}
	p := decide(t, changed, true)
	digests, err := p.Source.Digests(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := ours(t, openCache(t), changed, true)

	// What must not be read is broken: zeros in every quantized tensor but the one that changed. Metadata is put back, so that nothing else notices.
	path := filepath.Join(src, "model.safetensors")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Tensors {
		if x.Op == convert.OpQuantize && x.Param != "model.layers.2.mlp.down_proj.weight" {
			_, s, _ := p.Source.Weights.Find(x.Param)
			if _, err := f.WriteAt(make([]byte, s.Bytes()), s.Begin); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.Close()
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	stage, err := c.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Remove()
	files, err := p.Write(context.Background(), convert.WriteEnv{Cache: c, Stage: stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: func(int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		d, _, err := c.FileDigest(filepath.Join(want, file.Path), nil)
		if err != nil || d != file.Digest {
			t.Errorf("%s is not as made from nothing", file.Path)
		}
	}
}

func copyModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(oracle.TinyStories(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(oracle.TinyStories(t), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Shards of any size hold the same tensors, and hashing behind the writers is right for each.
func TestShards(t *testing.T) {
	src := copyModel(t)
	c := openCache(t)
	one := ours(t, c, job{Source: src, yaml: "{bits: 4}"}, true)
	for _, size := range []int64{20_000, 100_000, 1 << 20} {
		p := decide(t, job{Source: src, yaml: "{bits: 4}"}, true)
		p.Options.ShardSize = size
		p2, err := convert.Decide(p.Source, p.Options)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write(t, openCache(t), p2, dir)
		for name, x := range looseFolder(t, dir) {
			if y := looseFolder(t, one)[name]; y.dtype != x.dtype || string(y.data) != string(x.data) {
				t.Errorf("shard size %d: %s differs", size, name)
			}
		}
		if problems := convert.VerifyFolder(context.Background(), dir); problems != nil {
			t.Errorf("shard size %d: %v", size, problems)
		}
	}
}

// Cancelling in the middle ends Write with the cancellation, and leaves nothing but the stage.
func TestCancel(t *testing.T) {
	src := copyModel(t)
	c := openCache(t)
	p := decide(t, job{Source: src, yaml: "{bits: 3}"}, true)
	stage, err := c.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = p.Write(ctx, convert.WriteEnv{Cache: c, Stage: stage, Progress: func(int64) { cancel() }})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("error %v", err)
	}
	stage.Remove()
	if blobs, _ := filepath.Glob(filepath.Join(c.Dir(), "blobs", "*", "*")); len(blobs) > 0 {
		t.Errorf("blobs are left: %v", blobs)
	}
}

// The manifest holds what follows from the key, so two conversions of the same give the same bytes; and it names every file with its digest.
func TestManifest(t *testing.T) {
	src := copyModel(t)
	a, b := ours(t, openCache(t), job{Source: src, yaml: "{bits: 4}"}, true), ours(t, openCache(t), job{Source: src, yaml: "{bits: 4}"}, true)
	x, err := os.ReadFile(filepath.Join(a, convert.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	y, _ := os.ReadFile(filepath.Join(b, convert.ManifestName))
	if string(x) != string(y) {
		t.Error("two manifests of the same conversion differ")
	}
	var m convert.Manifest
	if err := json.Unmarshal(x, &m); err != nil {
		t.Fatal(err)
	}
	if m.Format != 1 || m.Quantization.Profile != "mlx-cpu/0.32.4" || len(m.Repairs) != 1 || m.Repairs[0].Key != "rope_theta" || strings.Contains(string(x), src) {
		t.Errorf("manifest %+v", m)
	}
	if tensor := m.Tensors["model.layers.0.mlp.down_proj.scales"]; tensor.DType != "BF16" || tensor.Op != "quantize affine 4-bit g64" && !strings.HasPrefix(tensor.Op, "quantize affine") {
		t.Errorf("tensor %+v", tensor)
	}
}

// Where mlx-lm misreads a config without a word, our folder is right in mlx-lm and mlx_lm.convert's own is not: both against PyTorch.
func TestRepairs(t *testing.T) {
	base := t.TempDir()
	oracle.Run(t, repairModels, base, oracle.TinyStories(t))
	c := openCache(t)
	type pair struct{ Source, Ours, Theirs string }
	var pairs []pair
	var jobs []job
	for _, name := range []string{"theta", "llama3", "linear", "untied"} {
		j := job{Source: filepath.Join(base, name), Out: filepath.Join(base, name+"-theirs"), Args: map[string]any{}, yaml: "{quantize: false}"}
		jobs = append(jobs, j)
		pairs = append(pairs, pair{j.Source, ours(t, c, j, true), j.Out})
		p := decide(t, j, true)
		if len(p.Repairs) == 0 {
			t.Errorf("%s: nothing was repaired", name)
		}
	}
	runJobs(t, jobs)
	for _, j := range jobs {
		same(t, filepath.Base(j.Source)+" without repair", ours(t, c, j, false), j.Out, true)
	}
	data, _ := json.Marshal(pairs)
	var errs []struct{ Ours, Theirs float64 }
	if err := json.Unmarshal(oracle.Run(t, compareLogits, string(data)), &errs); err != nil {
		t.Fatal(err)
	}
	for i, e := range errs {
		t.Logf("%s: max|d|/max|ref| of mlx-lm on our folder %.2g, on mlx_lm.convert's %.2g", filepath.Base(pairs[i].Source), e.Ours, e.Theirs)
		if e.Ours > 1e-4 || e.Theirs < 1e-2 { // 1e-4 is where parity fails by default
			t.Errorf("%s: ours %g, theirs %g", filepath.Base(pairs[i].Source), e.Ours, e.Theirs)
		}
	}
}

const repairModels = `
import sys, pathlib, json, shutil, torch
from transformers import LlamaConfig, LlamaForCausalLM
base, tok = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
def make(name, edit=lambda c: None, **kw):
    torch.manual_seed(len(name))
    m = LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=128,
        max_position_embeddings=256, initializer_range=0.3, **kw))
    d = base / name
    m.save_pretrained(d)
    for f in ("tokenizer.json", "tokenizer_config.json"): shutil.copy(tok / f, d / f)
    c = json.loads((d / "config.json").read_text()); edit(c); (d / "config.json").write_text(json.dumps(c))
make("theta", tie_word_embeddings=True, rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
make("llama3", tie_word_embeddings=True, rope_parameters={"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
make("linear", tie_word_embeddings=True, rope_parameters={"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0})
def no_tie(c): c.pop("tie_word_embeddings"); c["rope_theta"] = 10000.0; c.pop("rope_parameters", None)
make("untied", no_tie, tie_word_embeddings=False)
`

const compareLogits = `
import sys, json, torch, numpy as np, mlx.core as mx
from transformers import LlamaForCausalLM
from mlx_lm.utils import load_model
from pathlib import Path
out = []
ids = [(7 * i + 3) % 128 for i in range(60)]
for p in json.loads(sys.argv[1]):
    with torch.no_grad():
        ref = LlamaForCausalLM.from_pretrained(p["Source"], dtype=torch.float32, attn_implementation="eager")(torch.tensor([ids])).logits[0].double().numpy()
    e = {}
    for side in ("Ours", "Theirs"):
        m, _ = load_model(Path(p[side]))
        m.set_dtype(mx.float32)
        got = np.array(m(mx.array([ids]))[0].astype(mx.float32)).astype(np.float64)
        e[side] = float(np.abs(got - ref).max() / np.abs(ref).max())
    out.append(e)
print(json.dumps(out))
`

// mlx_lm.load takes our folders as they are, tokenizer and all, in every mode.
func TestMLXLMLoads(t *testing.T) {
	src := oracle.TinyStories(t)
	c := openCache(t)
	var dirs []string
	for _, q := range []string{"{quantize: false}", "{bits: 4}", "{bits: 1, group_size: 32}", "{mode: mxfp4}", "{mode: mxfp8}", "{mode: nvfp4}", "{preset: mixed_3_6}",
		"{bits: 4, overrides: [{match: embed_tokens, mode: mxfp8}, {match: down_proj, layers: -1, quantize: false}]}"} {
		dirs = append(dirs, ours(t, c, job{Source: src, yaml: q}, true))
	}
	out := string(oracle.Run(t, `
import sys, mlx.core as mx
from mlx_lm import load
for d in sys.argv[1:]:
    model, tokenizer = load(d)
    logits = model(mx.array([tokenizer.encode("Once upon a time")]))
    assert not mx.isnan(logits).any().item(), d
    print(tuple(logits.shape))
`, dirs...))
	if n := strings.Count(out, "1024)"); n != len(dirs) {
		t.Errorf("mlx_lm.load: %s", out)
	}
}

// BenchmarkConvert quantizes SmolLM2 to 4 bits from a warm file cache, its source hashed before; MB/s are of the source.
func BenchmarkConvert(b *testing.B) {
	dir := oracle.SmolLM2(b)
	for name, yaml := range map[string]string{"bf16": "{quantize: false}", "q4": "{bits: 4}", "mxfp4": "{mode: mxfp4}"} {
		b.Run(name, func(b *testing.B) {
			p := decide(b, job{Source: dir, yaml: yaml}, true)
			b.SetBytes(p.BytesIn)
			for b.Loop() {
				c, err := cache.Open(b.TempDir(), cache.Options{})
				if err != nil {
					b.Fatal(err)
				}
				stage, err := c.NewStage()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.Write(context.Background(), convert.WriteEnv{Cache: c, Stage: stage, Progress: func(int64) {}}); err != nil {
					b.Fatal(err)
				}
				stage.Remove()
			}
		})
	}
}

// BenchmarkReuse changes the scheme of one layer of 30; MB/s are of the weights that come out.
func BenchmarkReuse(b *testing.B) {
	dir := oracle.SmolLM2(b)
	c, err := cache.Open(b.TempDir(), cache.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	convertOnce := func(bits, group int) {
		p := decide(b, job{Source: dir, yaml: fmt.Sprintf("{bits: 4, overrides: [{match: %q, layers: 15, bits: %d, group_size: %d}]}", "re:.*", bits, group)}, true)
		b.SetBytes(p.BytesOut)
		digests, err := p.Source.Digests(context.Background(), c, nil)
		if err != nil {
			b.Fatal(err)
		}
		stage, err := c.NewStage()
		if err != nil {
			b.Fatal(err)
		}
		defer stage.Remove()
		b.StartTimer()
		files, err := p.Write(context.Background(), convert.WriteEnv{Cache: c, Stage: stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: func(int64) {}})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for _, f := range files {
			if err := c.AddFile(stage.Path(f.Path), f.Digest); err != nil {
				b.Fatal(err)
			}
		}
	}
	convertOnce(4, 64)
	b.StopTimer()
	b.ResetTimer()
	for i := range b.N {
		convertOnce([]int{6, 8, 5, 3, 2, 1}[i%6], []int{64, 32}[i/6%2])
	}
}
