package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

const schemes = `quantizations:
  f: {quantize: false}
  q4: {bits: 4, group_size: 32}
  mx: {mode: mxfp8}
  preset: {preset: mixed_3_6}
  rules:
    bits: 8
    overrides:
      - {match: embed_tokens, quantize: false}
      - {match: [v_proj, down_proj], layers: [0, -1], bits: 6, group_size: 32}
      - {match: o_proj, mode: mxfp4}
`

// TestConvertByMLX has mlx_lm.convert make what mlxbuild makes itself: the same tensors, bit for bit, and the same config.json.
func TestConvertByMLX(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	dir := t.TempDir()
	for name, convert := range map[string]string{"own": "", "mlx": "  runtime: mlx\n"} {
		text := "version: 1\nmodels: {tiny: {source: \"path:" + oracle.TinyStories(t) + "\"}}\n" + schemes + "convert:\n  dtype: bfloat16\n  repair: false\n" + convert
		at := filepath.Join(dir, name, "mlxbuild.yaml")
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := mlxbuild(t, "build", at); code != exitOK {
			t.Fatalf("%s: exit %d\n%s", name, code, stderr)
		}
		if code, _, stderr := mlxbuild(t, "build", at); code != exitOK || !strings.Contains(stderr, "nothing to do") {
			t.Errorf("%s again: exit %d\n%s", name, code, stderr)
		}
	}
	for _, q := range []string{"f", "q4", "mx", "preset", "rules"} {
		own, mlx := filepath.Join(dir, "own/build/tiny", q), filepath.Join(dir, "mlx/build/tiny", q)
		config, tensors := backendtest.Read(t, own)
		config2, tensors2 := backendtest.Read(t, mlx)
		if a, b := jsonx.Python(config, 1), jsonx.Python(config2, 1); !bytes.Equal(a, b) {
			t.Errorf("%s: config.json differs:\n%s\n%s", q, a, b)
		}
		if len(tensors) != len(tensors2) {
			t.Errorf("%s: %d tensors and %d", q, len(tensors), len(tensors2))
		}
		for name, x := range tensors {
			if y := tensors2[name]; x.DType != y.DType || !bytes.Equal(x.Data, y.Data) {
				t.Errorf("%s: %s is %s %v, by mlx %s %v", q, name, x.DType, x.Shape, y.DType, y.Shape)
			}
		}
		for _, file := range []string{"tokenizer.json", "model.safetensors", "model.safetensors.index.json"} {
			a, err := os.ReadFile(filepath.Join(own, file))
			b, err2 := os.ReadFile(filepath.Join(mlx, file))
			if err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: %s differs (%v, %v)", q, file, err, err2)
			}
		}
		if code, stdout, _ := mlxbuild(t, "verify", mlx); code != exitOK {
			t.Errorf("%s: verify: exit %d\n%s", q, code, stdout)
		}
	}
}

// TestUnknownArchitecture converts and validates a model that only mlx-lm and PyTorch know.
func TestUnknownArchitecture(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	dir := t.TempDir()
	oracle.Run(t, `
import sys, torch
from transformers import Qwen3Config, Qwen3ForCausalLM
torch.manual_seed(1)
c = Qwen3Config(vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=False, initializer_range=0.2, bos_token_id=0, eos_token_id=0)
Qwen3ForCausalLM(c).to(torch.bfloat16).save_pretrained(sys.argv[1])
`, filepath.Join(dir, "qwen"))
	copyTokenizer(t, oracle.TinyStories(t), filepath.Join(dir, "qwen"))
	write := func(text string) string {
		path := filepath.Join(dir, "mlxbuild.yaml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	recipe := "version: 1\nmodels: {qwen: {source: \"path:qwen\"}}\nquantizations:\n  f: {quantize: false}\n  q8: {bits: 8, group_size: 32, overrides: [{match: lm_head, bits: 6}]}\n"
	if code, _, stderr := mlxbuild(t, "build", write(recipe)); code != exitBadInput || !strings.Contains(stderr, "convert: {runtime: mlx}") {
		t.Errorf("without mlx: exit %d\n%s", code, stderr)
	}
	path := write(recipe + "convert: {runtime: mlx}\nvalidate:\n  port: {kind: parity, targets: [qwen/*], runtime: mlx, prompts: [Once upon a time], max_tokens: 4}\n")
	code, stdout, stderr := mlxbuild(t, "build", path)
	if code != exitOK || strings.Count(stdout, " ok\n") != 2 {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	config, err := os.ReadFile(filepath.Join(dir, "build/qwen/q8/config.json"))
	if err != nil || !strings.Contains(string(config), `"lm_head": {`) {
		t.Errorf("%v\n%s", err, config)
	}
}
