package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A set of many small models, as recipes of mlxbuild: of each model 9 targets, and 33 texts that they write. With the model itself these are 43 steps, as many as the graph of ninja has for a model. A target is a
// folder of 6 files and a model has 4, so mlxbuild looks at more than twice as many files as ninja.
const recipeModels = 1_000 // of one recipe: it may have 10,000 targets

const shared = `version: 1
quantizations:
  conv: {quantize: false}
  q0: {bits: 2, group_size: 32}
  q1: {bits: 3, group_size: 32}
  q2: {bits: 4, group_size: 32}
  q3: {bits: 5, group_size: 32}
  q4: {bits: 6, group_size: 32}
  q5: {bits: 8, group_size: 32}
  q6: {mode: mxfp4}
  q7: {mode: mxfp8}
prompts: {one: [Once], two: [The], three: [In]}
generate:
  v: {targets: ["*/*"], prompts: one, max_tokens: 1}
  b0: {targets: ["*/q*"], prompts: one, max_tokens: 2}
  b1: {targets: ["*/q*"], prompts: two, max_tokens: 1}
  b2: {targets: ["*/q*"], prompts: three, max_tokens: 1}
`

// writeRecipes writes n models and the recipes that take them, and returns the names of the recipes.
func (b *bench) writeRecipes(dir string, n int) (recipes []string, err error) {
	if err := os.WriteFile(filepath.Join(dir, "shared.yaml"), []byte(shared), 0o666); err != nil {
		return nil, err
	}
	for from := 0; from < n; from += recipeModels {
		var text strings.Builder
		text.WriteString("version: 1\ninclude: [shared.yaml]\nmodels:\n")
		for m := from; m < min(n, from+recipeModels); m++ {
			if b.ctx.Err() != nil {
				return nil, b.ctx.Err()
			}
			fmt.Fprintf(&text, "  m%d: {source: \"path:models/m%d\"}\n", m, m)
			if err := b.writeModel(filepath.Join(dir, "models", fmt.Sprintf("m%d", m)), uint64(m)); err != nil {
				return nil, err
			}
		}
		name := fmt.Sprintf("models%d.yaml", len(recipes))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text.String()), 0o666); err != nil {
			return nil, err
		}
		recipes = append(recipes, name)
	}
	return recipes, nil
}

// writeModel writes a llama of one layer with the tokenizer of the model in the checkout. Its weights are its own.
func (b *bench) writeModel(dir string, number uint64) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	tiny := filepath.Join(b.root, "models", "tiny-stories")
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(tiny, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o666)
		}
		if err != nil {
			return err
		}
	}
	var config map[string]any
	data, err := os.ReadFile(filepath.Join(tiny, "config.json"))
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return err
	}
	for key, v := range map[string]int{"hidden_size": 32, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 32} {
		config[key] = v
	}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors"), weights(number), 0o666)
}

// weights of such a model: small numbers around 0, in bfloat16.
func weights(number uint64) []byte {
	type tensor struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, end := map[string]tensor{}, int64(0)
	add := func(name string, shape ...int) {
		size := int64(2)
		for _, n := range shape {
			size *= int64(n)
		}
		header[name] = tensor{"BF16", shape, [2]int64{end, end + size}}
		end += size
	}
	const layer = "model.layers.0."
	add("model.embed_tokens.weight", 1024, 32)
	add("model.norm.weight", 32)
	add(layer+"input_layernorm.weight", 32)
	add(layer+"post_attention_layernorm.weight", 32)
	for _, p := range []string{"q", "k", "v", "o"} {
		add(layer+"self_attn."+p+"_proj.weight", 32, 32)
	}
	add(layer+"mlp.gate_proj.weight", 64, 32)
	add(layer+"mlp.up_proj.weight", 64, 32)
	add(layer+"mlp.down_proj.weight", 32, 64)
	text, err := json.Marshal(header)
	if err != nil {
		panic(err) // a map of numbers and strings
	}
	out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	random := rand.New(rand.NewPCG(number, 1))
	for range end / 2 {
		out = binary.LittleEndian.AppendUint16(out, 0x3c00|uint16(random.Uint32())&0x80ff)
	}
	return out
}
