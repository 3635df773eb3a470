package llama

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// ropeKinds are the kinds of rope_scaling that initialize_rope of mlx_lm/models/rope_utils.py knows, and how each changes the frequencies. Frequencies are, as there, positions a radian:
// theta^(2i/d) for pair i.
var ropeKinds = []struct {
	name string
	make func(*ropeReader) (freqs []float64, scale float64)
}{
	{"default", plainRope}, {"linear", linearRope}, {"dynamic", dynamicRope}, {"llama3", llama3Rope},
	{"yarn", yarnRope}, {"deepseek_yarn", yarnRope}, {"telechat3-yarn", yarnRope},
	{"longrope", longRope}, {"proportional", proportionalRope}, {"mrope", mRope},
}

// RopeTypes that mlx-lm's initialize_rope knows.
func RopeTypes() (out []string) {
	for _, k := range ropeKinds {
		out = append(out, k.name)
	}
	return out
}

// RopeType is the kind of position scaling, as mlx-lm reads it: `type`, else `rope_type`, else default.
func (c *Config) RopeType() string {
	if c.RopeScaling == nil {
		return "default"
	}
	for _, key := range []string{"type", "rope_type"} {
		if t, ok := c.RopeScaling.String(key); ok && t != "" {
			return t
		}
	}
	return "default"
}

// Rope is how heads are turned by position, in float64 where mlx-lm has float32.
func (c *Config) Rope() (*tensor.Rope, error) {
	kind := c.RopeType()
	r := &ropeReader{config: c, kind: kind, o: c.RopeScaling}
	i := slices.IndexFunc(ropeKinds, func(k struct {
		name string
		make func(*ropeReader) ([]float64, float64)
	}) bool {
		return k.name == kind
	})
	if i < 0 {
		return nil, &arch.ConfigError{Key: "rope_scaling", What: fmt.Sprintf("is of the kind %q; mlx-lm knows %s", kind, strings.Join(RopeTypes(), ", "))}
	}
	freqs, scale := ropeKinds[i].make(r)
	if r.err != nil {
		return nil, r.err
	}
	rope := &tensor.Rope{Scale: scale, Traditional: c.RopeTraditional && kind != "longrope"}
	for _, f := range freqs {
		if !(f >= 1.0/16) {
			return nil, &arch.ConfigError{Key: "rope_scaling", What: fmt.Sprintf("of the kind %s turns by %v radians a position, which cannot be meant", kind, 1/f)}
		}
		rope.Inverse = append(rope.Inverse, 1/f)
	}
	if !(scale > 0 && scale < 1e6) {
		return nil, &arch.ConfigError{Key: "rope_scaling", What: fmt.Sprintf("of the kind %s multiplies by %v, which cannot be meant", kind, scale)}
	}
	return rope, nil
}

// power is theta^(2i/d) for all pairs.
func (c *Config) power() []float64 {
	freqs := make([]float64, c.HeadDim/2)
	for i := range freqs {
		freqs[i] = tensor.Pow(c.RopeTheta, float64(2*i)/float64(c.HeadDim))
	}
	return freqs
}

func plainRope(r *ropeReader) ([]float64, float64) { return r.config.power(), 1 }

// linearRope divides positions by a factor.
func linearRope(r *ropeReader) ([]float64, float64) {
	freqs, factor := r.config.power(), r.positive("factor", nil)
	for i := range freqs {
		freqs[i] *= factor
	}
	return freqs, 1
}

// dynamicRope raises theta for texts longer than max_position_embeddings: mlx-lm takes, at each call, the end of what is read in that call. Up to that many positions theta is as it is
// (the factor is then f*1 - (f-1) = 1), and the built-in runtime reads no further than that; so here it is plain.
func dynamicRope(r *ropeReader) ([]float64, float64) {
	r.positive("factor", nil)
	if r.config.MaxPositions == 0 {
		r.fail("max_position_embeddings", "is missing, which rope_scaling of the kind dynamic needs")
	}
	if r.config.HeadDim == 2 {
		r.fail("head_dim", "is 2, for which rope_scaling of the kind dynamic divides by zero")
	}
	return r.config.power(), 1
}

// llama3Rope slows down the frequencies whose waves are longer than the context of the first training.
func llama3Rope(r *ropeReader) ([]float64, float64) {
	factor, low, high := r.positive("factor", nil), r.positive("low_freq_factor", ptr(1.0)), r.positive("high_freq_factor", ptr(4.0))
	old := r.positive("original_max_position_embeddings", ptr(8192.0))
	freqs := r.config.power()
	for i, f := range freqs {
		wave := float64(2 * math.Pi * f)
		switch {
		case wave > old/low:
			freqs[i] = f * factor
		case wave > old/high && wave < old/low:
			smooth := (old/wave - low) / (high - low)
			freqs[i] = f / ((1-smooth)/factor + smooth)
		}
	}
	return freqs, 1
}

// yarnRope leaves fast frequencies, slows down slow ones, blends between, and scales queries and keys.
func yarnRope(r *ropeReader) ([]float64, float64) {
	c := r.config
	factor, old := r.positive("factor", nil), r.positive("original_max_position_embeddings", ptr(4096.0))
	fast, slow := r.positive("beta_fast", ptr(32.0)), r.positive("beta_slow", ptr(1.0))
	correction := func(turns float64) float64 {
		return float64(float64(c.HeadDim)*tensor.Log(old/float64(turns*2*math.Pi))) / float64(2*tensor.Log(c.RopeTheta))
	}
	low, high := max(math.Floor(correction(fast)), 0), min(math.Ceil(correction(slow)), float64(c.HeadDim-1))
	if low == high {
		high += 0.001
	}
	freqs := c.power()
	for i, f := range freqs {
		mask := 1 - min(max((float64(i)-low)/(high-low), 0), 1)
		inter := float64(factor * f)
		freqs[i] = float64(inter*f) / (float64(inter*mask) + float64(f*(1-mask)))
	}
	mscale := func(key string, def float64) float64 {
		m := r.number(key, &def)
		if factor <= 1 {
			return 1
		}
		return float64(float64(0.1*m)*tensor.Log(factor)) + 1
	}
	return freqs, mscale("mscale", 1) / mscale("mscale_all_dim", 0)
}

// longRope stretches each frequency by its own factor. mlx-lm always takes long_factor; PyTorch takes short_factor for texts within the context of the first training.
func longRope(r *ropeReader) ([]float64, float64) {
	c := r.config
	old, freqs := r.positive("original_max_position_embeddings", nil), c.power()
	if _, ok := r.o.Get("short_factor"); !ok {
		r.fail("rope_scaling", "of the kind longrope has no short_factor")
	}
	long := r.list("long_factor")
	if r.err != nil {
		return nil, 1
	}
	if len(long) != 1 && len(long) != len(freqs) {
		r.fail("rope_scaling", fmt.Sprintf("has %d numbers in long_factor for %d pairs", len(long), len(freqs)))
		return nil, 1
	}
	for i := range freqs {
		freqs[i] = float64(freqs[i] * long[i%len(long)])
	}
	if c.MaxPositions == 0 {
		r.fail("max_position_embeddings", "is missing, which rope_scaling of the kind longrope needs")
		return nil, 1
	}
	factor := float64(c.MaxPositions) / old
	if factor <= 1 {
		return freqs, 1
	}
	return freqs, math.Sqrt(1 + tensor.Log(factor)/tensor.Log(old))
}

// proportionalRope turns only the first part of the pairs.
func proportionalRope(r *ropeReader) ([]float64, float64) {
	c := r.config
	part, factor := r.number("partial_rotary_factor", ptr(1.0)), r.positive("factor", ptr(1.0))
	turned := int(math.Trunc(float64(float64(c.HeadDim) * min(max(part, -1), 2))))
	if turned < 0 || turned > c.HeadDim {
		r.fail("rope_scaling", fmt.Sprintf("has a partial_rotary_factor of %v; it must be between 0 and 1", part))
		return nil, 1
	}
	freqs := c.power()
	for i := range freqs {
		if 2*i < turned {
			freqs[i] = float64(freqs[i] * factor)
		} else {
			freqs[i] = math.Inf(1)
		}
	}
	return freqs, 1
}

// mRope is plain for text.
func mRope(r *ropeReader) ([]float64, float64) {
	v, _ := r.o.Get("mrope_section")
	if list, ok := v.([]any); !ok || len(list) != 3 {
		r.fail("rope_scaling", "of the kind mrope needs an mrope_section of 3 numbers")
	}
	return r.config.power(), 1
}

// ropeReader reads numbers of rope_scaling and keeps the first error.
type ropeReader struct {
	config *Config
	kind   string
	o      *jsonx.Object
	err    error
}

func (r *ropeReader) fail(key, what string) {
	if r.err == nil {
		r.err = &arch.ConfigError{Key: key, What: what}
	}
}

func (r *ropeReader) number(key string, def *float64) float64 {
	v, ok := r.o.Get(key)
	if !ok && def != nil {
		return *def
	}
	if !ok {
		r.fail("rope_scaling", fmt.Sprintf("of the kind %s has no %s", r.kind, key))
		return 1
	}
	f, ok := r.o.Float(key)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		r.fail("rope_scaling", fmt.Sprintf("has %v for %s, which is not a number", v, key))
		return 1
	}
	return f
}

func (r *ropeReader) positive(key string, def *float64) float64 {
	f := r.number(key, def)
	if !(f > 0) {
		r.fail("rope_scaling", fmt.Sprintf("has a %s that is not a positive number", key))
		return 1
	}
	return f
}

// list reads positive numbers, or one for all.
func (r *ropeReader) list(key string) (out []float64) {
	v, ok := r.o.Get(key)
	list, isList := v.([]any)
	if !ok || !isList {
		return []float64{r.positive(key, nil)}
	}
	for _, e := range list {
		n, ok := e.(jsonx.Number)
		if !ok || !(n.Float() > 0) {
			r.fail("rope_scaling", fmt.Sprintf("has a %s with entries that are not positive numbers", key))
			return nil
		}
		out = append(out, n.Float())
	}
	return out
}
