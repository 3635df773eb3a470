package convert

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/spec"
)

// decider makes the list of tensors.
type decider struct {
	plan   *Plan
	model  arch.Model
	config *jsonx.Object
	have   *quantized // what the source's config says of its own quantization, nil = none
	target quant.Float
	cast   bool

	entries []entry // layers that config.json names
}

// entry is a layer's own settings in config.json's quantization.
type entry struct {
	module    string
	bits      int
	groupSize any // int, or nil where a preset leaves it open
	mode      string
}

// checkSource refuses what cannot be asked of this source.
func (d *decider) checkSource() error {
	q := d.plan.Options.Quantization
	switch {
	case d.have == nil && q.Dequantize:
		return &source.Error{What: d.plan.Source.Dir + " is not quantized, so there is nothing to dequantize", Do: "leave dequantize (-d) out"}
	case d.have != nil && (q.Quantize || slices.ContainsFunc(q.Overrides, quantizes)):
		return &source.Error{What: d.plan.Source.Dir + " is quantized already", Do: "start from the unquantized model, or make it one with `dequantize: true` (-d)"}
	}
	return nil
}

func quantizes(r spec.Rule) bool { return r.Quantize == nil || *r.Quantize }

// misfit is an error of weights that are not what config.json says.
func (d *decider) misfit(format string, args ...any) error {
	return &source.Error{What: d.plan.Source.Dir + ": " + fmt.Sprintf(format, args...), Do: "config.json does not fit the weights"}
}

// tensors walks the parameters in mlx-lm's order and finds for each where it comes from and what is done to it.
func (d *decider) tensors() error {
	used := map[string]bool{}
	for _, p := range d.model.Params() {
		t, err := d.tensor(p)
		if err != nil {
			return err
		}
		for _, name := range t.From {
			used[name] = true
			_, s, _ := d.find(name)
			d.plan.BytesIn += s.Bytes()
		}
		d.plan.Tensors = append(d.plan.Tensors, t)
	}
	return d.checkExtra(used)
}

func (d *decider) find(name string) (int, safetensors.Tensor, bool) {
	return d.plan.Source.Weights.Find(name)
}

// checkExtra refuses tensors that are no parameter's: mlx-lm would not load them either, and a misread config would lose weights in silence.
func (d *decider) checkExtra(used map[string]bool) error {
	var extra []string
	for _, t := range d.plan.Source.Weights.Tensors() {
		if !used[t.Name] && d.model.Keep(t.Name) {
			extra = append(extra, t.Name)
		}
	}
	if extra == nil {
		return nil
	}
	sort.Strings(extra)
	more := ""
	if len(extra) > 3 {
		more = fmt.Sprintf(" and %d more", len(extra)-3)
		extra = extra[:3]
	}
	return &source.Error{What: fmt.Sprintf("%s: the weights hold %s%s, which a model with this config.json does not have", d.plan.Source.Dir, strings.Join(extra, ", "), more),
		Do: "config.json does not fit the weights: look at num_hidden_layers, attention_bias, mlp_bias and tie_word_embeddings"}
}

// tensor decides one parameter.
func (d *decider) tensor(p arch.Param) (Tensor, error) {
	file, s, ok := d.find(p.Name)
	if !ok {
		return Tensor{}, &source.Error{What: fmt.Sprintf("%s: tensor %s is missing; config.json asks for it", d.plan.Source.Dir, p.Name),
			Do: "config.json does not fit the weights, or a part of the download is missing"}
	}
	if d.have != nil && p.Quantizable {
		_, _, scaled := d.find(p.Module + ".scales")
		switch yes, no := d.have.says(p.Module); {
		case yes && !scaled:
			return Tensor{}, d.misfit("config.json says that %s is quantized, and the weights have no scales for it", p.Module)
		case no && scaled:
			return Tensor{}, d.misfit("config.json says that %s is not quantized, and the weights have scales for it", p.Module)
		case scaled:
			return d.alreadyQuantized(p)
		}
	}
	from, ok := quant.ParseFloat(s.DType)
	if !ok {
		return Tensor{}, &source.Error{What: fmt.Sprintf("%s: tensor %s is of the type %s; F32, F16 and BF16 are converted", d.plan.Source.Weights.Files[file].Name, p.Name, s.DType)}
	}
	if !sameShape(s.Shape, p.Shape) {
		return Tensor{}, &source.Error{What: fmt.Sprintf("%s: tensor %s has the shape %v; config.json says %v", d.plan.Source.Weights.Files[file].Name, p.Name, s.Shape, p.Shape),
			Do: "config.json does not fit the weights"}
	}
	to := from
	if d.cast {
		to = d.target
	}
	t := Tensor{Param: p.Name, From: []string{p.Name}, Op: OpCopy, DType: to.String(), from: from, rows: 1, cols: 1}
	if to != from {
		t.Op = OpCast
	}
	for i, n := range p.Shape {
		if i == len(p.Shape)-1 {
			t.cols = n
		} else {
			t.rows *= n
		}
	}
	if err := d.rule(&t, p); err != nil {
		return t, err
	}
	t.outputs(p, to)
	return t, nil
}

func sameShape(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// outputs names what is written: the parameter itself, or weight, scales and biases.
func (t *Tensor) outputs(p arch.Param, to quant.Float) {
	if t.Op != OpQuantize {
		t.Outputs = []Output{{Name: p.Name, DType: to.String(), Shape: p.Shape}}
		t.Bytes = t.rows * t.cols * int64(to.Size())
		t.Bits = float64(to.Size() * 8)
		return
	}
	weight, scales := t.Scheme.Shapes(t.rows, t.cols)
	scaleType := to.String()
	if !t.Scheme.HasBiases() {
		scaleType = "U8"
	}
	t.Outputs = []Output{{Name: p.Name, DType: "U32", Shape: weight}, {Name: p.Module + ".scales", DType: scaleType, Shape: scales}}
	if t.Scheme.HasBiases() {
		t.Outputs = append(t.Outputs, Output{Name: p.Module + ".biases", DType: scaleType, Shape: scales})
	}
	w, s, b := t.Scheme.Sizes(int(t.rows), int(t.cols), to)
	t.Bytes = int64(w) + int64(s) + int64(b)
	t.Bits = float64(t.Bytes*8) / float64(t.rows*t.cols)
}

// rule decides whether and how a parameter is quantized. Order: overrides, preset, the model's own rules (llama has none), default.
func (d *decider) rule(t *Tensor, p arch.Param) error {
	q := d.plan.Options.Quantization
	if !p.Quantizable {
		t.Rule = "float: no weight of a Linear or Embedding"
		return nil
	}
	if q.Dequantize {
		t.Rule = "float in the source"
		return nil
	}
	scheme, own, rule := d.settings(p)
	t.Rule, t.RulePos = rule.text, rule.pos
	if scheme == nil {
		return nil
	}
	if err := scheme.Validate(); err != nil {
		return spec.Diags{{Pos: rule.pos, Msg: fmt.Sprintf("%s: %v", p.Module, err)}}
	}
	// mlx_lm asks this of the scheme's own group size only, and so leaves a layer float whose rule gives it one that fits. A rule is meant, so it counts here; mlx-lm reads such folders.
	if t.cols%int64(scheme.GroupSize) != 0 {
		t.Rule = fmt.Sprintf("float: its %d columns are not divisible by group_size %d (%s)", t.cols, scheme.GroupSize, rule.text)
		return nil
	}
	t.Op, t.Scheme = OpQuantize, *scheme
	if own != nil {
		d.entries = append(d.entries, *own)
	}
	return nil
}

// decided is what decided, for people.
type decided struct {
	text string
	pos  spec.Pos
}

// settings returns a module's scheme (nil = float), the entry that config.json gets for it (nil = none), and what decided.
func (d *decider) settings(p arch.Param) (*quant.Scheme, *entry, decided) {
	q := d.plan.Options.Quantization
	decidedBy := -1
	for i, r := range q.Overrides {
		if r.Matches(p.Module, p.Layer, d.model.Layers()) {
			d.plan.Rules[i] = true
			if decidedBy < 0 {
				decidedBy = i
			}
		}
	}
	if decidedBy >= 0 {
		return override(q, q.Overrides[decidedBy], p.Module)
	}
	if !q.Quantize {
		return nil, nil, decided{"quantize: false", q.Where["quantize"]}
	}
	def := defaultScheme(q)
	if q.Preset != "" {
		return preset(q, p, d.model)
	}
	pos, ok := q.Where["bits"]
	if !ok {
		pos = q.Pos
	}
	return &def, nil, decided{fmt.Sprintf("%s: %s", q.Name, describe(def)), pos}
}

func describe(s quant.Scheme) string {
	return fmt.Sprintf("%s, %d bits, group_size %d", s.Mode, s.Bits, s.GroupSize)
}

// defaultScheme is the scheme's own setting, with MLX's defaults for its mode.
func defaultScheme(q spec.Quantization) quant.Scheme {
	s, ok := quant.Defaults(quant.Mode(q.Mode))
	if !ok {
		s = quant.Scheme{Mode: quant.Mode(q.Mode)}
	}
	if q.Bits != nil {
		s.Bits = *q.Bits
	}
	if q.GroupSize != nil {
		s.GroupSize = *q.GroupSize
	}
	return s
}

// override applies a rule: what it does not say comes from the scheme while the mode is the same, else from the mode's defaults.
func override(q spec.Quantization, r spec.Rule, module string) (*quant.Scheme, *entry, decided) {
	by := decided{r.Text, r.Pos}
	if r.Quantize != nil && !*r.Quantize {
		return nil, nil, by
	}
	s := defaultScheme(q)
	if r.Mode != "" && r.Mode != string(s.Mode) {
		var ok bool
		if s, ok = quant.Defaults(quant.Mode(r.Mode)); !ok {
			s = quant.Scheme{Mode: quant.Mode(r.Mode)}
		}
	}
	if r.Bits != nil {
		s.Bits = *r.Bits
	}
	if r.GroupSize != nil {
		s.GroupSize = *r.GroupSize
	}
	return &s, &entry{module, s.Bits, s.GroupSize, string(s.Mode)}, by
}

// presets of mlx_lm.convert: low and high bits.
var presets = map[string][2]int{"mixed_2_6": {2, 6}, "mixed_3_4": {3, 4}, "mixed_3_6": {3, 6}, "mixed_4_6": {4, 6}}

// preset is mixed_quant_predicate_builder of mlx_lm/convert.py: high bits for v_proj and down_proj of the first eighth, the last eighth and every third layer between, and for lm_head; substrings
// decide there, so they do here. A group_size that was not given stays null in config.json, and mx.quantize takes 64.
func preset(q spec.Quantization, p arch.Param, m arch.Model) (*quant.Scheme, *entry, decided) {
	low, high := presets[q.Preset][0], presets[q.Preset][1]
	l := max(p.Layer, 0) // a path without a layer counts as layer 0
	n := m.Layers()
	more := l < n/8 || l >= 7*n/8 || pythonMod(l-n/8, 3) == 2
	bits := low
	switch {
	case more && (strings.Contains(p.Module, "v_proj") || strings.Contains(p.Module, "v_a_proj") || strings.Contains(p.Module, "v_b_proj")),
		more && strings.Contains(p.Module, "down_proj"), strings.Contains(p.Module, "lm_head"):
		bits = high
	}
	s := quant.Scheme{Mode: quant.Affine, Bits: bits, GroupSize: 64}
	e := &entry{module: p.Module, bits: bits, mode: "affine"}
	if q.GroupSize != nil {
		s.GroupSize, e.groupSize = *q.GroupSize, *q.GroupSize
	}
	return &s, e, decided{fmt.Sprintf("preset %s: %d bits", q.Preset, bits), q.Where["preset"]}
}

func pythonMod(a, b int) int { return (a%b + b) % b }
