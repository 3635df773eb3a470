package convert

import (
	"sort"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
)

// writeConfig writes config.json as mlx_lm's save_config does: the source's, with the quantization, without two keys, sorted at the top, non-finite numbers tagged.
func (d *decider) writeConfig() []byte {
	config := d.config
	q := d.plan.Options.Quantization
	switch {
	case q.Dequantize:
		config.Delete("quantization")
		config.Delete("quantization_config")
	case d.anyQuantized():
		config.Set("quantization", d.quantizationBlock())
	}
	config.Delete("_name_or_path")
	config.Delete("vision_config")
	if block, ok := config.Get("quantization"); ok {
		config.Set("quantization_config", block)
	}
	keys := config.Keys()
	sort.Strings(keys) // by code point, as UTF-8 orders
	sorted := jsonx.NewObject()
	for _, k := range keys {
		v, _ := config.Get(k)
		sorted.Set(k, v)
	}
	return jsonx.Python(tagged(sorted), 4)
}

func (d *decider) anyQuantized() bool {
	return d.have == nil && (d.plan.Options.Quantization.Quantize || len(d.entries) > 0)
}

// quantizationBlock has the defaults, then an entry for each layer that a rule decided, in parameter order.
func (d *decider) quantizationBlock() *jsonx.Object {
	s := defaultScheme(d.plan.Options.Quantization)
	block := jsonx.NewObject()
	block.Set("group_size", s.GroupSize)
	block.Set("bits", s.Bits)
	block.Set("mode", string(s.Mode))
	for _, e := range d.entries {
		layer := jsonx.NewObject()
		layer.Set("group_size", e.groupSize)
		layer.Set("bits", e.bits)
		layer.Set("mode", e.mode)
		block.Set(e.module, layer)
	}
	return block
}

// tagged replaces numbers that JSON has no form for by transformers' tags.
func tagged(v any) any {
	switch v := v.(type) {
	case *jsonx.Object:
		out := jsonx.NewObject()
		for _, k := range v.Keys() {
			e, _ := v.Get(k)
			out.Set(k, tagged(e))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = tagged(e)
		}
		return out
	case jsonx.Number:
		return tagNumber(v)
	}
	return v
}

func tagNumber(n jsonx.Number) any {
	name := ""
	switch f := n.Float(); {
	case n.IsInt():
		return n
	case f != f:
		name = "NaN"
	case f > maxFloat:
		name = "Infinity"
	case f < -maxFloat:
		name = "-Infinity"
	default:
		return n
	}
	o := jsonx.NewObject()
	o.Set("__float__", name)
	return o
}

const maxFloat = 1.79769313486231570814527423731704356798070e+308
