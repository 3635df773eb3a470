package convert

import (
	"fmt"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// quantized is the quantization block of a source that is an MLX model already.
type quantized struct{ block *jsonx.Object }

// readQuantization finds the block. A model that some other tool quantized is refused: its weights are not what their names say.
func readQuantization(config *jsonx.Object) (*quantized, error) {
	if block, ok := config.Object("quantization"); ok {
		return &quantized{block}, nil
	}
	other, ok := config.Object("quantization_config")
	if !ok || other.Len() == 0 { // mlx-lm takes null and {} for none
		return nil, nil
	}
	method, _ := other.String("quant_method")
	if producer, ok := other.Object("producer"); ok && method == "" { // hf_quant_config.json
		method, _ = producer.String("name")
	}
	if method == "" {
		method = "an unnamed method"
	}
	return nil, &source.Error{What: fmt.Sprintf("the model is quantized by %s, which this version does not read", method), Do: "start from the unquantized model"}
}

// says what the block has for a layer by itself: that it is quantized, that it is not, or nothing.
func (q *quantized) says(module string) (yes, no bool) {
	if _, ok := q.block.Object(module); ok {
		return true, false
	}
	b, ok := q.block.Bool(module)
	return ok && b, ok && !b
}

// scheme of a layer as mlx-lm's load_model finds it: its entry in the block, else from shapes and types.
func (q *quantized) scheme(module string, cols int64, weight, scales []int64, scaleType string) (quant.Scheme, error) {
	if e, ok := q.block.Object(module); ok {
		return schemeOf(e)
	}
	if use, ok := q.block.Bool(module); ok && use {
		return schemeOf(q.block)
	}
	if len(weight) != 2 || len(scales) != 2 || scales[1] == 0 || cols == 0 {
		return quant.Scheme{}, fmt.Errorf("its scales have the shape %v", scales)
	}
	s := quant.Scheme{Mode: quant.Affine, Bits: int(weight[1] * 32 / cols), GroupSize: int(cols / scales[1])}
	if scaleType == "U8" {
		switch {
		case s.Bits == 4 && s.GroupSize == 16:
			s.Mode = quant.NVFP4
		case s.Bits == 4 && s.GroupSize == 32:
			s.Mode = quant.MXFP4
		case s.Bits == 8 && s.GroupSize == 32:
			s.Mode = quant.MXFP8
		}
	}
	return s, s.Validate()
}

func schemeOf(e *jsonx.Object) (quant.Scheme, error) {
	mode, ok := e.String("mode")
	if !ok {
		mode = string(quant.Affine)
	}
	s, ok := quant.Defaults(quant.Mode(mode))
	if !ok {
		return s, fmt.Errorf("its mode %q is not known", mode)
	}
	if n, ok := e.Int("bits"); ok {
		s.Bits = int(n)
	}
	if n, ok := e.Int("group_size"); ok {
		s.GroupSize = int(n)
	}
	return s, s.Validate()
}

// alreadyQuantized decides a layer of an MLX model: taken over as it is, its scales and biases cast like other floats, or dequantized.
func (d *decider) alreadyQuantized(p arch.Param) (Tensor, error) {
	wrong := func(format string, args ...any) (Tensor, error) {
		return Tensor{}, &source.Error{What: fmt.Sprintf("%s: layer %s: ", d.plan.Source.Dir, p.Module) + fmt.Sprintf(format, args...), Do: "the weights do not fit config.json"}
	}
	_, w, _ := d.find(p.Name)
	_, s, _ := d.find(p.Module + ".scales")
	_, b, hasBiases := d.find(p.Module + ".biases")
	rows, cols := p.Shape[0], p.Shape[1]
	scheme, err := d.have.scheme(p.Module, cols, w.Shape, s.Shape, s.DType)
	if err != nil {
		return wrong("%v", err)
	}
	wantW, wantS := scheme.Shapes(rows, cols)
	if cols%int64(scheme.GroupSize) != 0 || !sameShape(w.Shape, wantW) || !sameShape(s.Shape, wantS) || w.DType != "U32" || hasBiases != scheme.HasBiases() {
		return wrong("its tensors are not those of %v for shape %v", scheme, p.Shape)
	}
	from, isFloat := quant.ParseFloat(s.DType)
	if scheme.HasBiases() && (!isFloat || b.DType != s.DType || !sameShape(b.Shape, wantS)) || !scheme.HasBiases() && s.DType != "U8" {
		return wrong("its scales are of the type %s, its biases %s", s.DType, b.DType)
	}
	t := Tensor{Param: p.Name, From: []string{p.Name, p.Module + ".scales"}, Op: OpCopy, Scheme: scheme, from: from, rows: rows, cols: cols, Rule: "quantized in the source"}
	if scheme.HasBiases() {
		t.From = append(t.From, p.Module+".biases")
	}
	if d.plan.Options.Quantization.Dequantize {
		t.dequantize(p, d.dequantized(scheme, from))
		return t, nil
	}
	to := from
	if d.cast && scheme.HasBiases() {
		to = d.target
	}
	t.keepQuantized(p, to, scheme)
	return t, nil
}

// dequantized is the type of mx.dequantize's result: that of the scales, which were cast before; bfloat16 where scales are bytes.
func (d *decider) dequantized(s quant.Scheme, scales quant.Float) quant.Float {
	if !s.HasBiases() {
		return quant.BF16
	}
	if d.cast {
		return d.target
	}
	return scales
}

func (t *Tensor) dequantize(p arch.Param, to quant.Float) {
	t.Op, t.DType, t.Rule = OpDequantize, to.String(), "dequantize: true"
	t.Outputs = []Output{{Name: p.Name, DType: to.String(), Shape: p.Shape}}
	t.Bytes = t.rows * t.cols * int64(to.Size())
	t.Bits = float64(to.Size() * 8)
}

func (t *Tensor) keepQuantized(p arch.Param, to quant.Float, s quant.Scheme) {
	t.Op = OpQuantize // for outputs, which are those of a quantized layer
	t.outputs(p, to)
	t.Op, t.DType = OpCopy, to.String()
	if s.HasBiases() && to != t.from {
		t.Op = OpCast
	}
}
