package judge

import (
	"fmt"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Defaults are the bounds of a report's precision class and the class's name. They catch what is broken, and no more: between models the KL of one width differs a hundredfold. What models of a
// billion parameters and more keep to is a warning; what even SmolLM2-135M keeps to, with a factor of two to three, is the limit. A real gate is kld_vs_accepted. docs/validation.md has the table with its sources.
func Defaults(r *validate.Report) (class string, bounds []spec.Bound) {
	if r.Kind == spec.Parity {
		return parity(r)
	}
	switch c := r.Class; {
	case c.Bits == 0:
		return "a cast to " + c.Type, []spec.Bound{kld(1e-4, 1e-3)}
	case c.Mode == "mxfp8":
		return c.Mode, []spec.Bound{kld(0.05, 0.5)}
	case c.Mode != "affine":
		return c.Mode, []spec.Bound{kld(0.25, 2.5)}
	}
	class = fmt.Sprintf("%d bits", r.Class.Bits)
	switch r.Class.Bits {
	case 8:
		return class, []spec.Bound{kld(0.01, 0.02), top1(0.97, 0.92)}
	case 6:
		return class, []spec.Bound{kld(0.02, 0.08), top1(0.95, 0.80)}
	case 5:
		return class, []spec.Bound{kld(0.05, 0.25), top1(0.92, 0.70)}
	case 4:
		return class, []spec.Bound{kld(0.20, 1), top1(0.78, 0.50)}
	case 3:
		return class, []spec.Bound{kld(0.5, 5)}
	}
	return class, nil // two bits can cost anything
}

// parity is judged by the coarser arithmetic of the two sides.
func parity(r *validate.Report) (class string, bounds []spec.Bound) {
	coarsest := func(compute string) bool { return r.Target.Compute == compute || r.Reference.Compute == compute }
	switch {
	case coarsest("bfloat16"):
		return "parity in bfloat16", []spec.Bound{kld(2e-3, 5e-3), top1(0, 0.98)}
	case coarsest("float16"):
		return "parity in float16", []spec.Bound{kld(5e-4, 1e-3), top1(0, 0.99)}
	}
	exact := upper(metric.TokenMismatches, 0, 0)
	exact.Warn, exact.Margin = nil, 4
	return "parity in float32", []spec.Bound{upper(metric.LogitErrorRel, 1e-5, 1e-4), exact}
}

func kld(warn, limit float64) spec.Bound { return upper(metric.KLDMean, warn, limit) }

// upper bounds; warn 0 is none.
func upper(name string, warn, limit float64) spec.Bound {
	b := spec.Bound{Metric: name, Limit: &limit}
	if warn > 0 {
		b.Warn = &warn
	}
	return b
}

// top1 is a lower bound; warn 0 is none.
func top1(warn, least float64) spec.Bound {
	b := spec.Bound{Metric: metric.Top1, Limit: &least}
	if warn > 0 {
		b.Warn = &warn
	}
	return b
}
