// Package convert is the step kind that turns a Hugging Face folder into an MLX folder: cast and quantized in one streaming pass, per tensor the bytes of mlx_lm.convert.
//
// It works in two halves. Decide reads headers and settles everything: the rule for each tensor, every file's layout, config.json. Write then moves bytes and makes no choice. What the
// folder says of itself beside that is the manifest, mlxbuild.json.
package convert

import (
	"fmt"
	"sort"
	"strconv"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Code is raised when this package makes other bytes of the same key.
const Code = "convert/1"

// Options of a conversion, as a recipe gives them.
type Options struct {
	Quantization spec.Quantization
	DType        string // auto, float16, bfloat16, float32
	Repair       bool
	ShardSize    int64 // bytes
}

// Plan is a conversion that is decided.
type Plan struct {
	Source        *source.Folder
	Options       Options
	Tensors       []Tensor // in mlx-lm's parameter order
	Repairs       []arch.Repair
	Config, Index []byte
	Shards        []safetensors.Shard
	BitsPerWeight float64 // total bits over parameters, as mlx_lm prints it
	BytesIn       int64
	BytesOut      int64  // weights
	Rules         []bool // for each override, whether it matched a module
}

// Output is one tensor of the MLX folder.
type Output struct {
	Name, DType string
	Shape       []int64
}

// Ops of a Tensor.
const (
	OpCopy       = "copy"
	OpCast       = "cast"
	OpQuantize   = "quantize"
	OpDequantize = "dequantize"
)

// Tensor is one parameter of the model and how it is made.
type Tensor struct {
	Param   string       `json:"param"`
	From    []string     `json:"from"` // source tensors: one, or weight, scales and biases of a quantized source
	Op      string       `json:"op"`
	Scheme  quant.Scheme `json:"scheme"`
	DType   string       `json:"dtype"` // of floats: the result's, for quantized weights that of scales and biases
	Rule    string       `json:"rule"`  // what decided, in words
	RulePos spec.Pos     `json:"rule_pos"`
	Bits    float64      `json:"bits"`  // per weight, all outputs counted
	Bytes   int64        `json:"bytes"` // of all outputs
	Outputs []Output     `json:"outputs"`

	from       quant.Float // of the source's floats
	rows, cols int64
}

// Decide settles a conversion from headers alone. Its errors say what is wrong with the model or the options.
func Decide(src *source.Folder, o Options) (*Plan, error) {
	p := &Plan{Source: src, Options: o, Rules: make([]bool, len(o.Quantization.Overrides))}
	config := src.Config.Clone()
	if o.Repair {
		p.Repairs = src.Arch.Repairs(config, func(name string) bool { _, _, ok := src.Weights.Find(name); return ok })
		for _, r := range p.Repairs {
			config.Set(r.Key, r.Value)
		}
	}
	model, err := src.Arch.Parse(config)
	if err != nil {
		return nil, &source.Error{What: fmt.Sprintf("%s: %v", src.Dir, err)}
	}
	have, err := readQuantization(config)
	if err != nil {
		return nil, err
	}
	d := decider{plan: p, model: model, config: config, have: have}
	d.target, d.cast = targetDType(config, o.DType)
	if err := d.checkSource(); err != nil {
		return nil, err
	}
	if err := d.tensors(); err != nil {
		return nil, err
	}
	p.Config = d.writeConfig()
	return p, p.layout()
}

// targetDType is mlx_lm.convert's rule: the flag, else torch_dtype, else text_config's dtype; only the three floats cast. The top-level `dtype` of transformers 5 is not read.
func targetDType(config *jsonx.Object, asked string) (target quant.Float, cast bool) {
	name := asked
	if name == "auto" || name == "" {
		v, _ := config.Get("torch_dtype")
		if text, ok := config.Object("text_config"); ok && v == nil {
			v, _ = text.Get("dtype")
		}
		name, _ = v.(string)
	}
	switch name {
	case "float16":
		return quant.F16, true
	case "bfloat16":
		return quant.BF16, true
	case "float32":
		return quant.F32, true
	}
	return 0, false
}

// layout places the outputs in files and writes the index.
func (p *Plan) layout() (err error) {
	var specs []safetensors.Spec
	var params, bits int64
	for _, t := range p.Tensors {
		for _, o := range t.Outputs {
			specs = append(specs, safetensors.Spec{Name: o.Name, DType: o.DType, Shape: o.Shape})
		}
		params += t.parameters()
		bits += t.Bytes * 8
		p.BytesOut += t.Bytes
	}
	if p.Shards, err = safetensors.Layout(specs, p.Options.ShardSize); err != nil {
		return err
	}
	if params > 0 {
		p.BitsPerWeight = float64(bits) / float64(params)
	}
	p.Index = writeIndex(p.Shards, p.BytesOut, params)
	return nil
}

// parameters counts as mlx_lm does: a quantized weight as its words times 32 over bits.
func (t Tensor) parameters() int64 {
	if t.Scheme.Bits == 0 || t.Op == OpDequantize {
		return t.rows * t.cols
	}
	words := int64(1)
	for _, n := range t.Outputs[0].Shape {
		words *= n
	}
	return words * 32 / int64(t.Scheme.Bits)
}

// writeIndex writes model.safetensors.index.json as mlx_lm does, with our shards' names.
func writeIndex(shards []safetensors.Shard, size, params int64) []byte {
	files := map[string]string{}
	var names []string
	for _, s := range shards {
		for _, t := range s.Tensors {
			files[t.Name] = s.Name
			names = append(names, t.Name)
		}
	}
	sort.Strings(names)
	weights := jsonx.NewObject()
	for _, n := range names {
		weights.Set(n, files[n])
	}
	meta := jsonx.NewObject()
	meta.Set("total_size", size)
	meta.Set("total_parameters", params)
	index := jsonx.NewObject()
	index.Set("metadata", meta)
	index.Set("weight_map", weights)
	return jsonx.Python(index, 4)
}

// Summary in a phrase.
func (p *Plan) Summary() string {
	return strconv.FormatFloat(p.BitsPerWeight, 'f', 2, 64) + " bits per weight, " + size(p.BytesOut)
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}
