package builtin

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// shape is a tiny random model. Config is what LlamaConfig of transformers takes beside the defaults of shapeScript; Rope is mlx-lm's rope_scaling. Reference is who computes the logits to
// compare with: PyTorch, or mlx-lm in float32 where PyTorch means something else by the same config or does not know it.
type shape struct {
	Name      string         `json:"name"`
	Config    map[string]any `json:"config"`
	Rope      map[string]any `json:"rope"`
	Reference string         `json:"reference"`
}

func shapes() []shape {
	d := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	long := []float64{1, 1.5, 2, 3, 4, 5, 6, 7}
	return []shape{
		{"gqa", d("num_attention_heads", 6, "num_key_value_heads", 2, "hidden_size", 96), nil, "torch"},
		{"head_dim apart", d("head_dim", 24, "num_attention_heads", 3, "num_key_value_heads", 1, "hidden_size", 48, "intermediate_size", 100), nil, "torch"},
		{"biases", d("attention_bias", true, "mlp_bias", true), nil, "torch"},
		{"untied", d("tie_word_embeddings", false, "rms_norm_eps", 1e-3), nil, "torch"},
		{"odd sizes", d("hidden_size", 65, "intermediate_size", 33, "num_attention_heads", 5, "num_key_value_heads", 5, "head_dim", 14, "vocab_size", 101), nil, "torch"},
		{"theta", d("rope_theta", 500000.0), nil, "torch"},
		{"linear", d(), d("rope_type", "linear", "factor", 4.0), "torch"},
		{"dynamic", d(), d("rope_type", "dynamic", "factor", 2.0), "torch"},
		{"llama3", d("rope_theta", 500000.0), d("rope_type", "llama3", "factor", 8.0, "low_freq_factor", 1.0, "high_freq_factor", 4.0, "original_max_position_embeddings", 64), "torch"},
		{"yarn", d(), d("rope_type", "yarn", "factor", 4.0, "original_max_position_embeddings", 64), "torch"},
		{"yarn with mscale", d(), d("type", "yarn", "factor", 4.0, "original_max_position_embeddings", 64, "beta_fast", 16, "beta_slow", 2, "mscale", 0.7, "mscale_all_dim", 0.5), "mlx"},
		{"longrope", d(), d("rope_type", "longrope", "original_max_position_embeddings", 64, "short_factor", long, "long_factor", long), "mlx"},
		{"proportional", d(), d("rope_type", "proportional", "partial_rotary_factor", 0.5, "factor", 2.0), "mlx"},
		{"mrope", d(), d("type", "mrope", "mrope_section", []int{2, 3, 3}), "mlx"},
		{"traditional", d("rope_traditional", true), nil, "mlx"},
		{"sliding", d("layer_types", []string{"sliding_attention", "full_attention"}, "sliding_window", 7), nil, "mlx"},
	}
}

// shapeScript makes each model as transformers does, saves it as float32, writes the config keys that mlx-lm reads, and writes the logits of the reference for one text.
const shapeScript = `
import json, os, sys, torch, numpy as np
import mlx.core as mx
from transformers import LlamaConfig, LlamaForCausalLM
from mlx_lm.utils import load_model
from pathlib import Path
out, shapes, ids = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
mx.set_default_device(mx.cpu)
for i, s in enumerate(shapes):
    torch.manual_seed(i)
    dir = f"{out}/{i}"
    base = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=128,
                max_position_embeddings=256, rope_theta=10000.0, tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.2)
    base.update(s["config"])
    theta, rope = base.pop("rope_theta"), s["rope"]
    known = rope if s["reference"] == "torch" else None
    extra = {k: base.pop(k) for k in ("rope_traditional", "layer_types", "sliding_window") if k in base}
    config = LlamaConfig(**base, rope_parameters={"rope_type": "default", **(known or {}), "rope_theta": theta})
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval().float()
    for name, p in model.named_parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.2)
    model.save_pretrained(dir)
    c = json.load(open(f"{dir}/config.json"))
    c.pop("rope_parameters", None)
    c.update(extra, rope_theta=theta, tie_word_embeddings=base["tie_word_embeddings"])
    if rope:
        c["rope_scaling"] = rope
    json.dump(c, open(f"{dir}/config.json", "w"))
    if s["reference"] == "torch":
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].numpy()
    else:
        m, _ = load_model(Path(dir))
        logits = np.array(m(mx.array([ids]))[0])
    logits.astype("<f4").tofile(f"{out}/{i}.logits")
`

func someIDs(n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32((i*i*7 + 13*i + 5) % vocab)
	}
	return ids
}

// TestShapesAgainstReferences runs tiny random models of many shapes.
func TestShapesAgainstReferences(t *testing.T) {
	out, all, ids := t.TempDir(), shapes(), someIDs(90, 100)
	oracle.Run(t, shapeScript, out, jsonText(t, all), jsonText(t, ids))
	for i, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			dir := filepath.Join(out, fmt.Sprint(i))
			m := mustLoad(t, New(), dir)
			got, err := m.Logits(t.Context(), ids, nil)
			if err != nil {
				t.Fatal(err)
			}
			worst := relative(got, readLogits(t, dir+".logits", m.Info().VocabSize))
			t.Logf("logit_error_rel %.2e", worst)
			if !(worst <= 1e-5) {
				t.Errorf("logit_error_rel %.2e, more than 1e-5", worst)
			}
		})
	}
}

// convertScript converts a random model with the real mlx_lm.convert in every mode and writes the logits of the same folder with dequantized weights, in float64 by numpy's side of PyTorch.
const convertScript = `
import json, sys, torch, numpy as np
import mlx.core as mx, mlx.nn as nn
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from mlx.utils import tree_flatten
from mlx_lm.convert import convert, mixed_quant_predicate_builder
from mlx_lm.utils import load_model, save
from safetensors.torch import save_file
out, modes, ids = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
mx.set_default_device(mx.cpu)
torch.manual_seed(1)
config = LlamaConfig(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, vocab_size=128, max_position_embeddings=256,
    tie_word_embeddings=False, initializer_range=0.1, attention_bias=True)
model = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval().float()
for i, mode in enumerate(modes):
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[mode.pop("dtype")]
    src, dst = f"{out}/{i}-source", f"{out}/{i}"
    model.to(dtype).save_pretrained(src)
    c = json.load(open(f"{src}/config.json")); c.pop("rope_parameters"); c.update(rope_theta=10000.0, tie_word_embeddings=False); json.dump(c, open(f"{src}/config.json", "w"))
    # convert() wants a tokenizer; load_model, quantize_model and save_model are what it is made of
    from mlx_lm.utils import load_model, quantize_model, save_model, save_config
    m, c = load_model(Path(src), lazy=True)
    predicate = mode.pop("predicate", None)
    if predicate == "mixed":
        predicate = lambda path, module: {"group_size": None, "bits": 6, "mode": "affine"} if "v_proj" in path else ({"group_size": 32, "bits": 8, "mode": "mxfp8"} if "down" in path else "o_proj" not in path)
    m, c = quantize_model(m, c, mode["group_size"], mode["bits"], mode=mode["mode"], quant_predicate=predicate)
    save_model(dst, m, donate_model=False)
    if mode.get("infer"):
        c["quantization"] = {"group_size": 64, "bits": 4}
    save_config(c, config_path=Path(dst) / "config.json")
    weights = {}
    flat = dict(tree_flatten(m.parameters()))
    for path, module in tree_flatten(m.leaf_modules(), is_leaf=nn.Module.is_module):
        for name, value in module.parameters().items():
            if name in ("scales", "biases"):
                continue
            value = value.astype(mx.float32) if value.dtype != mx.uint32 else mx.dequantize(module.weight,
                module.scales.astype(mx.float32) if module.mode == "affine" else module.scales,
                module.biases.astype(mx.float32) if module.mode == "affine" else None,
                group_size=module.group_size, bits=module.bits, mode=module.mode, dtype=mx.float32)
            weights[f"{path}.{name}"] = torch.tensor(np.array(value))
    double = LlamaForCausalLM._from_config(config, attn_implementation="eager").eval().double()
    double.load_state_dict({k: v.double() for k, v in weights.items()}, strict=True)
    with torch.no_grad():
        double(torch.tensor([ids])).logits[0].float().numpy().astype("<f4").tofile(f"{out}/{i}.logits")
    model = model.float()
`

// TestQuantizedAgainstDequantized runs folders that mlx-lm quantized, and compares with PyTorch in float64 on the same weights dequantized by mlx.
func TestQuantizedAgainstDequantized(t *testing.T) {
	type mode map[string]any
	var modes []mode
	for _, bits := range []int{1, 2, 3, 4, 5, 6, 8} {
		for i, group := range []int{32, 64, 128} {
			modes = append(modes, mode{"mode": "affine", "bits": bits, "group_size": group, "dtype": []string{"float32", "float16", "bfloat16"}[(bits+i)%3]})
		}
	}
	for _, dtype := range []string{"float32", "bfloat16"} {
		modes = append(modes, mode{"mode": "mxfp4", "bits": 4, "group_size": 32, "dtype": dtype}, mode{"mode": "mxfp8", "bits": 8, "group_size": 32, "dtype": dtype},
			mode{"mode": "nvfp4", "bits": 4, "group_size": 16, "dtype": dtype})
	}
	modes = append(modes, mode{"mode": "affine", "bits": 4, "group_size": 64, "dtype": "bfloat16", "predicate": "mixed"},
		mode{"mode": "nvfp4", "bits": 4, "group_size": 16, "dtype": "bfloat16", "infer": true}, mode{"mode": "affine", "bits": 3, "group_size": 32, "dtype": "float16", "infer": true})
	out, ids := t.TempDir(), someIDs(40, 128)
	oracle.Run(t, convertScript, out, jsonText(t, modes), jsonText(t, ids))
	for i, mode := range modes {
		t.Run(jsonText(t, mode), func(t *testing.T) {
			dir := filepath.Join(out, fmt.Sprint(i))
			m := mustLoad(t, New(), dir)
			got, err := m.Logits(t.Context(), ids, nil)
			if err != nil {
				t.Fatal(err)
			}
			worst := relative(got, readLogits(t, dir+".logits", 128))
			t.Logf("logit_error_rel %.2e", worst)
			if !(worst <= 1e-5) {
				t.Errorf("logit_error_rel %.2e, more than 1e-5", worst)
			}
		})
	}
}

// samplerScript applies mlx-lm's filters and prints which tokens are left, and their probabilities at the temperature.
const samplerScript = `
import json, sys
import mlx.core as mx
from mlx_lm.sample_utils import apply_top_p, apply_min_p
mx.set_default_device(mx.cpu)
out = []
for case in json.loads(sys.argv[1]):
    logits = mx.array([case["logits"]])
    x = logits - mx.logsumexp(logits, keepdims=True)
    if 0 < case["top_p"] < 1:
        x = apply_top_p(x, case["top_p"])
    if case["min_p"] != 0:
        x = apply_min_p(x, case["min_p"])
    out.append(mx.softmax(x * (1 / case["temperature"]), axis=-1)[0].tolist())
json.dump(out, sys.stdout)
`

// TestSamplerAgainstMLX compares the weights that tokens are drawn by with mlx-lm's.
func TestSamplerAgainstMLX(t *testing.T) {
	type sample struct {
		Logits      []float32 `json:"logits"`
		TopP        float64   `json:"top_p"`
		MinP        float64   `json:"min_p"`
		Temperature float64   `json:"temperature"`
	}
	var cases []sample
	for i := range 60 {
		c := sample{TopP: []float64{1, 0.9, 0.5, 0.05, 0}[i%5], MinP: []float64{0, 0.1, 0.02, 1}[i%4], Temperature: []float64{1, 0.7, 2}[i%3]}
		for k := range 40 {
			c.Logits = append(c.Logits, float32((k*k*31+k*i*17)%97)/8)
		}
		cases = append(cases, c)
	}
	var want [][]float64
	if err := json.Unmarshal(oracle.Run(t, samplerScript, jsonText(t, cases)), &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		o := backend.GenerateOptions{Temperature: c.Temperature, TopP: c.TopP, MinP: c.MinP, Seed: 1}
		s := newSampler(o, newDesk(o, len(c.Logits)))
		picked := s.pick(c.Logits)
		var total float64
		for _, w := range s.weights {
			total += w
		}
		for id, w := range s.weights {
			if d := w/total - want[i][id]; d > 1e-5 || d < -1e-5 {
				t.Errorf("case %d (top_p %v, min_p %v): token %d has %v, in mlx-lm %v", i, c.TopP, c.MinP, id, w/total, want[i][id])
			}
		}
		if want[i][picked] == 0 {
			t.Errorf("case %d: token %d was picked, which is left out", i, picked)
		}
	}
}
