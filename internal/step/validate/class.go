package validate

import (
	"fmt"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// ClassOf reads off config.json and headers how a folder's weights are stored. A folder with several schemes is of the class of its narrowest.
func ClassOf(dir string) (Class, error) {
	config, err := source.ReadConfig(dir)
	if err != nil {
		return Class{}, err
	}
	weights, err := safetensors.OpenFolder(dir)
	if err != nil {
		return Class{}, err
	}
	var c Class
	top, _ := config.Get("quantization")
	schemes, _ := top.(*jsonx.Object)
	for _, t := range weights.Tensors() {
		module, ok := strings.CutSuffix(t.Name, ".scales")
		if !ok {
			if c.Type == "" && len(t.Shape) == 2 && t.DType != "U32" && t.DType != "U8" || c.Type == "" && strings.HasSuffix(t.Name, "norm.weight") {
				c.Type = t.DType
			}
			continue
		}
		_, w, ok := weights.Find(module + ".weight")
		if !ok || len(w.Shape) != 2 || len(t.Shape) != 2 || schemes == nil {
			return c, fmt.Errorf("%s: %s is not a quantized matrix that config.json speaks of", dir, module)
		}
		mode, bits := schemeOf(schemes, module, w, t)
		if c.Bits == 0 || bits < c.Bits {
			c.Mode, c.Bits = mode, bits
		}
	}
	return c, nil
}

// schemeOf is the mode and width of one matrix: its own entry's, else by the shapes with the group size of the top.
func schemeOf(schemes *jsonx.Object, module string, weight, scales safetensors.Tensor) (mode string, bits int) {
	mode = "affine"
	from := schemes
	if v, ok := schemes.Get(module); ok {
		if own, ok := v.(*jsonx.Object); ok {
			from = own
		}
	}
	if m, ok := from.String("mode"); ok {
		mode = m
	}
	if b, ok := from.Int("bits"); ok && b > 0 {
		return mode, int(b)
	}
	group, ok := from.Int("group_size")
	if !ok || group < 1 || scales.Shape[1] < 1 {
		group = 64
	}
	return mode, int(weight.Shape[1] * 32 / (scales.Shape[1] * group))
}

// Runtimes of a reference.
func (r *reference) Runtimes() []string { return []string{r.side.runtime.Name()} }

// Runtimes of a comparison: both sides' figures are in it.
func (c *comparison) Runtimes() []string {
	return []string{c.side.runtime.Name(), c.other.runtime.Name()}
}
