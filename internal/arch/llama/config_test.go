package llama

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// base is a config with all that mlx-lm needs.
const base = `{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4, "rms_norm_eps": 1e-5, "vocab_size": 50,
"max_position_embeddings": 256, "tie_word_embeddings": true}`

// with is base with some keys changed; a value of the text "absent" takes a key away.
func with(t testing.TB, changes string) *jsonx.Object {
	t.Helper()
	o, err := jsonx.ParseObject([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	c, err := jsonx.ParseObject([]byte("{" + changes + "}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range c.Keys() {
		if v, _ := c.Get(key); v == "absent" {
			o.Delete(key)
		} else {
			o.Set(key, v)
		}
	}
	return o
}

func TestParseRefuses(t *testing.T) {
	for changes, want := range map[string]string{
		`"hidden_size": "absent"`:                                "hidden_size is missing",
		`"hidden_size": null`:                                    "hidden_size is missing",
		`"rms_norm_eps": "absent"`:                               "rms_norm_eps is missing",
		`"vocab_size": 0`:                                        "vocab_size is not a whole number from 1",
		`"vocab_size": 1e3`:                                      "vocab_size is not a whole number",
		`"hidden_size": -64`:                                     "hidden_size is not a whole number",
		`"hidden_size": 99999999999999999999`:                    "hidden_size is not a whole number",
		`"num_hidden_layers": 1000000000`:                        "num_hidden_layers is not a whole number",
		`"num_key_value_heads": 3`:                               "num_key_value_heads 3 does not divide num_attention_heads 4",
		`"num_key_value_heads": 0`:                               "num_key_value_heads is not a whole number",
		`"head_dim": 15`:                                         "head_dim 15 is not an even number",
		`"num_attention_heads": 64, "head_dim": 0`:               "head_dim 1 is not an even number",
		`"head_dim": 16777216`:                                   "num_attention_heads 4, of a head_dim of 16777216, is too much",
		`"rms_norm_eps": "NaN"`:                                  "rms_norm_eps is not a number",
		`"rms_norm_eps": -1`:                                     "rms_norm_eps is not a small positive number",
		`"rope_theta": 0`:                                        "rope_theta is not a positive number",
		`"attention_bias": "yes"`:                                "attention_bias is neither true nor false",
		`"layer_types": ["full_attention"]`:                      "layer_types has 1 entries for 2 layers",
		`"layer_types": ["full_attention", "linear"]`:            `layer_types has "linear"`,
		`"layer_types": ["sliding_attention", "full_attention"]`: "sliding_window is missing",
		`"layer_types": ["sliding_attention", "sliding_attention"], "sliding_window": 8`: "layer_types has no full_attention",
		`"rope_scaling": "linear"`:                                                                                 "rope_scaling is not an object",
		`"rope_scaling": {"type": "spiral"}`:                                                                       `of the kind "spiral"; mlx-lm knows default, linear, dynamic, llama3, yarn, deepseek_yarn, telechat3-yarn, longrope, proportional, mrope`,
		`"rope_scaling": {"type": "linear"}`:                                                                       "of the kind linear has no factor",
		`"rope_scaling": {"type": "linear", "factor": 0}`:                                                          "factor that is not a positive number",
		`"rope_scaling": {"type": "linear", "factor": 1e-9}`:                                                       "cannot be meant",
		`"rope_scaling": {"type": "dynamic", "factor": 2}, "max_position_embeddings": "absent"`:                    "max_position_embeddings is missing",
		`"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64, "long_factor": [1, 2]}`: "has no short_factor",
		`"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64, "short_factor": [1], "long_factor": [1, 2]}`: "2 numbers in long_factor for 8 pairs",
		`"rope_scaling": {"type": "mrope", "mrope_section": [1]}`:                                                                       "mrope_section of 3 numbers",
		`"rope_scaling": {"type": "proportional", "partial_rotary_factor": 2}`:                                                          "partial_rotary_factor of 2",
	} {
		if _, err := ParseConfig(with(t, changes)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, which does not say %q", changes, err, want)
		}
	}
}

func TestParseDefaults(t *testing.T) {
	for _, c := range []struct{ changes, want string }{
		{``, "4 16 10000 tied false"},
		{`"num_key_value_heads": null, "head_dim": null`, "4 16 10000 tied false"},
		{`"num_key_value_heads": 2, "head_dim": 32, "rope_theta": 500000, "attention_bias": 1`, "2 32 500000 tied true"},
		{`"tie_word_embeddings": "absent"`, "4 16 10000 tied false"},
		{`"tie_word_embeddings": null`, "4 16 10000 untied false"}, // None is false in Python
		{`"tie_word_embeddings": false, "rope_parameters": {"rope_theta": 7}`, "4 16 10000 untied false"},
	} {
		m, err := ParseConfig(with(t, c.changes))
		if err != nil {
			t.Fatal(err)
		}
		tied := map[bool]string{true: "tied", false: "untied"}[m.Tied]
		if got := fmt.Sprintf("%d %d %v %s %v", m.KVHeads, m.HeadDim, m.RopeTheta, tied, m.AttentionBias); got != c.want {
			t.Errorf("%s: %s, want %s", c.changes, got, c.want)
		}
	}
}

func TestKeep(t *testing.T) {
	tied, err := ParseConfig(with(t, ``))
	if err != nil {
		t.Fatal(err)
	}
	untied, err := ParseConfig(with(t, `"tie_word_embeddings": false`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		tied, untied bool
	}{{"model.norm.weight", true, true}, {"model.layers.0.self_attn.rotary_emb.inv_freq", false, false}, {"lm_head.weight", false, true}, {"lm_head.scales", true, true}} {
		if tied.Keep(c.name) != c.tied || untied.Keep(c.name) != c.untied {
			t.Errorf("%s: kept %v when tied, %v when not", c.name, tied.Keep(c.name), untied.Keep(c.name))
		}
	}
}

func TestRepairs(t *testing.T) {
	for _, c := range []struct {
		changes string
		head    bool
		want    string
	}{
		{``, false, ""},
		{`"tie_word_embeddings": "absent"`, false, "tie_word_embeddings=true"},
		{`"tie_word_embeddings": "absent"`, true, "tie_word_embeddings=false"},
		{`"tie_word_embeddings": false`, true, ""},
		{`"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}`, false, "rope_theta=10000.0"},
		{`"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}, "rope_theta": 7.0`, false, ""},
		{`"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}`, false, `rope_theta=500000.0 rope_scaling={"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0}`},
		{`"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 8.0}, "rope_scaling": null`, false, `rope_theta=500000.0 rope_scaling={"rope_theta": 500000.0, "rope_type": "linear", "factor": 8.0}`},
		{`"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 8.0}, "rope_scaling": {"type": "linear", "factor": 2.0}`, false, `rope_theta=500000.0`},
	} {
		var got []string
		for _, r := range repairs(with(t, c.changes), func(name string) bool { return c.head && name == "lm_head.weight" }) {
			got = append(got, r.Key+"="+strings.Join(strings.Fields(string(jsonx.Python(r.Value, 0))), " "))
			if r.Why == "" {
				t.Errorf("%s: no reason", c.changes)
			}
		}
		text := strings.NewReplacer("{ ", "{", " }", "}").Replace(strings.Join(got, " "))
		if text != c.want {
			t.Errorf("%s: %s, want %s", c.changes, text, c.want)
		}
	}
}

// parametersScript prints names and shapes of the parameters that mlx-lm makes for each config, or the name of its error, and the frequencies of its rope.
const parametersScript = `
import json, sys
import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import llama
mx.set_default_device(mx.cpu)
out = []
for c in json.loads(sys.argv[1]):
    m = llama.Model(llama.ModelArgs.from_dict(c))
    rope = m.layers[0].self_attn.rope
    f = getattr(rope, "_freqs", None)
    out.append({"params": [[k, list(v.shape)] for k, v in tree_flatten(m.parameters()) if "_freqs" not in k],
                "freqs": None if f is None else [repr(x) for x in f.tolist()], "scale": getattr(rope, "mscale", getattr(rope, "_scale", 1.0))})
json.dump(out, sys.stdout)
`

// TestAgainstMLX compares names, order and shapes of parameters, and frequencies, with the real mlx-lm.
func TestAgainstMLX(t *testing.T) {
	var configs []json.RawMessage
	all := []string{
		``, `"tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true`, `"num_key_value_heads": 2, "head_dim": 24, "num_hidden_layers": 12`, `"tie_word_embeddings": null`,
		`"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}, "head_dim": 64, "rope_theta": 500000.0`,
		`"rope_scaling": {"rope_type": "llama3", "factor": 32}`,
		`"rope_scaling": {"type": "yarn", "factor": 4.0}, "head_dim": 128`,
		`"rope_scaling": {"type": "deepseek_yarn", "factor": 40, "original_max_position_embeddings": 128, "beta_fast": 16, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 0.9}, "head_dim": 64`,
		`"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64, "short_factor": [1,1,1,1,1,1,1,1], "long_factor": [1,1.5,2,2.5,3,3.5,4,5]}`,
		`"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 512, "short_factor": 1.0, "long_factor": 2.0}`,
		`"rope_scaling": {"rope_type": "proportional", "partial_rotary_factor": 0.4, "factor": 3.0}`,
	}
	for _, changes := range all {
		configs = append(configs, jsonx.Python(with(t, changes), 4))
	}
	text, err := json.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	var want []struct {
		Params [][2]any
		Freqs  []string
		Scale  float64
	}
	if err := json.Unmarshal(oracle.Run(t, parametersScript, string(text)), &want); err != nil {
		t.Fatal(err)
	}
	for i, changes := range all {
		c, err := ParseConfig(with(t, changes))
		if err != nil {
			t.Fatalf("%s: %v", changes, err)
		}
		var got, mlx []string
		for _, p := range c.Params() {
			got = append(got, strings.ReplaceAll(fmt.Sprintf("%s %v", p.Name, p.Shape), " ", ","))
		}
		for _, p := range want[i].Params {
			mlx = append(mlx, strings.ReplaceAll(fmt.Sprintf("%s %v", p[0], p[1]), " ", ","))
		}
		if strings.Join(got, "\n") != strings.Join(mlx, "\n") {
			t.Errorf("%s: parameters are\n%s\nin mlx-lm\n%s", changes, strings.Join(got, "\n"), strings.Join(mlx, "\n"))
		}
		compareFreqs(t, changes, c, want[i].Freqs, want[i].Scale)
	}
}

func compareFreqs(t *testing.T, changes string, c *Config, freqs []string, scale float64) {
	t.Helper()
	rope, err := c.Rope()
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(rope.Scale-scale) > 1e-6 {
		t.Errorf("%s: scale %v, in mlx-lm %v", changes, rope.Scale, scale)
	}
	for i, text := range freqs {
		var f float64
		if _, err := fmt.Sscan(text, &f); err != nil {
			t.Fatal(err)
		}
		if inverse := rope.Inverse[i]; math.Abs(inverse*f-1) > 2e-6 && !(math.IsInf(f, 1) && inverse == 0) {
			t.Errorf("%s: frequency %d is %v, in mlx-lm %v", changes, i, 1/inverse, f)
		}
	}
}

func TestParamsFields(t *testing.T) {
	c, err := ParseConfig(with(t, `"mlp_bias": true, "tie_word_embeddings": false`))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Params() {
		if p.Quantizable != (len(p.Shape) == 2) || !strings.HasPrefix(p.Name, p.Module+".") || (p.Layer >= 0) != strings.HasPrefix(p.Name, "model.layers.") {
			t.Errorf("%+v", p)
		}
	}
	if s := c.Sizes(); s.Vocabulary != 50 || s.Hidden != 64 || s.Positions != 256 || c.Layers() != 2 {
		t.Errorf("sizes %+v, %d layers", s, c.Layers())
	}
}
