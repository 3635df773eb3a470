// Package llama is mlx-lm's llama: LLaMA and the families that mlx-lm runs through the same file.
//
// It reads a config as mlx_lm/models/llama.py of mlx-lm 0.32.2 does, keys that file does not know left out; hidden_act is one of them: the activation is always SiLU. It refuses sizes
// that contradict each other, and rope_scaling of a kind that mlx-lm does not know.
package llama

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
)

// Arch describes the architecture. The model types are those of mlx_lm/models/llama.py and of the remapping in mlx_lm/utils.py.
func Arch() arch.Arch {
	return arch.Arch{
		Name: "llama", ModelTypes: []string{"llama", "mistral", "iquestcoder", "xverse"}, Code: "llama/1",
		Checked: map[string]string{
			"llama":       "every tensor against mlx_lm.convert, logits against PyTorch, on real and random weights",
			"mistral":     "read as mlx-lm reads it, through llama, which attends to the whole text where PyTorch keeps to sliding_window; not run on real weights",
			"iquestcoder": "read as mlx-lm reads it, through llama; not run on real weights",
			"xverse":      "read as mlx-lm reads it, through llama; not run on real weights",
		},
		Repairs: repairs,
		Parse:   func(c *jsonx.Object) (arch.Model, error) { return ParseConfig(c) },
	}
}

// Config is mlx-lm's ModelArgs of llama.
type Config struct {
	HiddenSize, Layer, Intermediate int
	Heads, KVHeads, HeadDim         int
	VocabSize                       int
	MaxPositions                    int // 0 = not said
	RMSNormEps                      float64
	RopeTheta                       float64
	RopeTraditional                 bool
	RopeScaling                     *jsonx.Object // nil = none
	AttentionBias, MLPBias, Tied    bool
	LayerTypes                      []string // "full_attention" or "sliding_attention", one for each layer
	SlidingWindow                   int
}

// Largest sizes that are believed; above, a config is wrong, and products of two stay far from overflow.
const (
	maxSize   = 1 << 24
	maxLayers = 4096
)

// ParseConfig reads a config as mlx-lm's ModelArgs.from_dict does: keys it does not know are left out, and a missing tie_word_embeddings is true.
func ParseConfig(c *jsonx.Object) (*Config, error) {
	r := reader{c: c}
	cfg := &Config{
		HiddenSize: r.size("hidden_size", maxSize), Layer: r.size("num_hidden_layers", maxLayers), Intermediate: r.size("intermediate_size", maxSize),
		Heads: r.size("num_attention_heads", maxSize), VocabSize: r.size("vocab_size", maxSize), RMSNormEps: r.float("rms_norm_eps", nil),
		KVHeads: r.optionalSize("num_key_value_heads", maxSize), HeadDim: r.optionalSize("head_dim", maxSize),
		MaxPositions: r.optionalSize("max_position_embeddings", math.MaxInt32), SlidingWindow: r.optionalSize("sliding_window", math.MaxInt32),
		RopeTheta: r.float("rope_theta", ptr(10000.0)), RopeTraditional: r.bool("rope_traditional", false),
		AttentionBias: r.bool("attention_bias", false), MLPBias: r.bool("mlp_bias", false), Tied: r.bool("tie_word_embeddings", true),
		RopeScaling: r.object("rope_scaling"), LayerTypes: r.strings("layer_types"),
	}
	if r.err != nil {
		return nil, r.err
	}
	if cfg.KVHeads == 0 {
		cfg.KVHeads = cfg.Heads
	}
	if cfg.HeadDim == 0 {
		cfg.HeadDim = cfg.HiddenSize / cfg.Heads
	}
	if cfg.LayerTypes == nil {
		cfg.LayerTypes = slices.Repeat([]string{"full_attention"}, cfg.Layer)
	}
	return cfg, cfg.check()
}

func ptr[T any](v T) *T { return &v }

func (c *Config) check() error {
	bad := func(key, format string, args ...any) error {
		return &arch.ConfigError{Key: key, What: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return bad("num_key_value_heads", "%d does not divide num_attention_heads %d", c.KVHeads, c.Heads)
	case c.HeadDim < 2 || c.HeadDim%2 != 0:
		return bad("head_dim", "%d is not an even number", c.HeadDim)
	case int64(c.Heads)*int64(c.HeadDim) > maxSize:
		return bad("num_attention_heads", "%d, of a head_dim of %d, is too much", c.Heads, c.HeadDim)
	case !(c.RMSNormEps >= 0 && c.RMSNormEps <= 1):
		return bad("rms_norm_eps", "is not a small positive number")
	case !(c.RopeTheta > 0 && c.RopeTheta <= 1e300):
		return bad("rope_theta", "is not a positive number")
	case len(c.LayerTypes) != c.Layer:
		return bad("layer_types", "has %d entries for %d layers", len(c.LayerTypes), c.Layer)
	}
	for _, t := range c.LayerTypes {
		if t != "full_attention" && t != "sliding_attention" {
			return bad("layer_types", "has %q, which is neither full_attention nor sliding_attention", t)
		}
		if t == "sliding_attention" && c.SlidingWindow == 0 {
			return bad("sliding_window", "is missing, and layer_types has sliding_attention")
		}
	}
	if !slices.Contains(c.LayerTypes, "full_attention") {
		return bad("layer_types", "has no full_attention, which mlx-lm's llama needs")
	}
	_, err := c.Rope()
	return err
}

// Layers is the number of blocks.
func (c *Config) Layers() int { return c.Layer }

// Sizes of the model.
func (c *Config) Sizes() arch.Sizes {
	head := "lm_head"
	if c.Tied {
		head = "model.embed_tokens"
	}
	return arch.Sizes{Vocabulary: c.VocabSize, Hidden: c.HiddenSize, Positions: c.MaxPositions, Head: head}
}

// Keep is sanitize of mlx_lm/models/llama.py.
func (c *Config) Keep(tensor string) bool {
	if strings.Contains(tensor, "self_attn.rotary_emb.inv_freq") {
		return false
	}
	return !(c.Tied && tensor == "lm_head.weight")
}

// Params in the order of mlx-lm's modules.
func (c *Config) Params() []arch.Param {
	var out []arch.Param
	layer := -1
	linear := func(module string, rows, cols int, bias bool) {
		out = append(out, arch.Param{Name: module + ".weight", Shape: []int64{int64(rows), int64(cols)}, Module: module, Layer: layer, Quantizable: true})
		if bias {
			out = append(out, arch.Param{Name: module + ".bias", Shape: []int64{int64(rows)}, Module: module, Layer: layer})
		}
	}
	norm := func(module string) {
		out = append(out, arch.Param{Name: module + ".weight", Shape: []int64{int64(c.HiddenSize)}, Module: module, Layer: layer})
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	linear("model.embed_tokens", c.VocabSize, c.HiddenSize, false)
	for layer = range c.Layer {
		at := "model.layers." + strconv.Itoa(layer) + "."
		linear(at+"self_attn.q_proj", q, c.HiddenSize, c.AttentionBias)
		linear(at+"self_attn.k_proj", kv, c.HiddenSize, c.AttentionBias)
		linear(at+"self_attn.v_proj", kv, c.HiddenSize, c.AttentionBias)
		linear(at+"self_attn.o_proj", c.HiddenSize, q, c.AttentionBias)
		linear(at+"mlp.gate_proj", c.Intermediate, c.HiddenSize, c.MLPBias)
		linear(at+"mlp.down_proj", c.HiddenSize, c.Intermediate, c.MLPBias)
		linear(at+"mlp.up_proj", c.Intermediate, c.HiddenSize, c.MLPBias)
		norm(at + "input_layernorm")
		norm(at + "post_attention_layernorm")
	}
	layer = -1
	norm("model.norm")
	if !c.Tied {
		linear("lm_head", c.VocabSize, c.HiddenSize, false)
	}
	return out
}

// repairs of configs that mlx-lm 0.32.2 misreads without a word: it ignores transformers 5's rope_parameters, and takes a missing tie_word_embeddings as true.
func repairs(c *jsonx.Object, has func(string) bool) (out []arch.Repair) {
	if rope, ok := c.Object("rope_parameters"); ok {
		if _, there := c.Get("rope_theta"); !there {
			if theta, ok := rope.Get("rope_theta"); ok {
				out = append(out, arch.Repair{Key: "rope_theta", Value: theta, Why: "mlx-lm does not read rope_parameters and would run with 10000"})
			}
		}
		kind, _ := rope.String("rope_type")
		if scaling, there := c.Get("rope_scaling"); (!there || scaling == nil) && kind != "default" && kind != "" {
			out = append(out, arch.Repair{Key: "rope_scaling", Value: rope.Clone(), Why: "mlx-lm does not read rope_parameters and would run without the " + kind + " scaling"})
		}
	}
	if _, ok := c.Get("tie_word_embeddings"); !ok {
		tied := !has("lm_head.weight")
		why := "the key is missing, and the model has an lm_head that mlx-lm would drop"
		if tied {
			why = "the key is missing; the model has no lm_head"
		}
		out = append(out, arch.Repair{Key: "tie_word_embeddings", Value: tied, Why: why})
	}
	return out
}

// reader reads typed keys and keeps the first error. null counts as missing, as None does in Python.
type reader struct {
	c   *jsonx.Object
	err error
}

func (r *reader) get(key string) (any, bool) {
	v, ok := r.c.Get(key)
	return v, ok && v != nil
}

func (r *reader) fail(key, what string) {
	if r.err == nil {
		r.err = &arch.ConfigError{Key: key, What: what}
	}
}

func (r *reader) size(key string, most int64) int {
	if _, ok := r.get(key); !ok {
		r.fail(key, "is missing")
		return 1
	}
	n, ok := r.c.Int(key)
	if !ok || n < 1 || n > most {
		r.fail(key, fmt.Sprintf("is not a whole number from 1 to %d", most))
		return 1
	}
	return int(n)
}

// optionalSize is 0 for a missing key.
func (r *reader) optionalSize(key string, most int64) int {
	if _, ok := r.get(key); !ok {
		return 0
	}
	if n, ok := r.c.Int(key); ok && n == 0 && key == "head_dim" { // mlx-lm has `head_dim or hidden_size // heads`
		return 0
	}
	return r.size(key, most)
}

func (r *reader) float(key string, def *float64) float64 {
	if _, ok := r.get(key); !ok {
		if def == nil {
			r.fail(key, "is missing")
			return 0
		}
		return *def
	}
	f, ok := r.c.Float(key)
	if !ok {
		r.fail(key, "is not a number")
	}
	return f
}

// bool reads a value by Python's truth: null, where the key is there, is false; a number is true unless it is 0.
func (r *reader) bool(key string, def bool) bool {
	v, ok := r.c.Get(key)
	if !ok {
		return def
	}
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case jsonx.Number:
		return v.Float() != 0
	}
	r.fail(key, "is neither true nor false")
	return def
}

func (r *reader) object(key string) *jsonx.Object {
	v, ok := r.get(key)
	if !ok {
		return nil
	}
	o, ok := v.(*jsonx.Object)
	if !ok {
		r.fail(key, "is not an object")
	}
	return o
}

func (r *reader) strings(key string) []string {
	v, ok := r.get(key)
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		r.fail(key, "is not a list")
		return nil
	}
	out := []string{}
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			r.fail(key, "has an entry that is not text")
		}
		out = append(out, s)
	}
	return out
}
