package convert

import (
	"fmt"
	"strconv"
	"strings"
)

// Made says in a phrase what is done to a tensor: "affine 4 bits, group 64", "cast F16".
func (t Tensor) Made() string {
	if t.Op == OpQuantize {
		return fmt.Sprintf("%s %d bits, group %d", t.Scheme.Mode, t.Scheme.Bits, t.Scheme.GroupSize)
	}
	return t.Op + " " + t.DType
}

// Fold joins tensors that differ in the layer number only and are made in the same way by the same rule. The first of each stands for all, with their layers in
// braces and their bytes added up.
func Fold(tensors []Tensor) []Tensor {
	type group struct {
		at     int
		layers []int
	}
	groups := map[string]*group{}
	var out []Tensor
	for _, t := range tensors {
		before, layer, after, ok := splitLayer(t.Param)
		if !ok {
			out = append(out, t)
			continue
		}
		key := fmt.Sprint(before, after, t.Made(), t.Bits, t.Rule, t.RulePos)
		if g := groups[key]; g != nil {
			g.layers = append(g.layers, layer)
			out[g.at].Bytes += t.Bytes
			out[g.at].Param = before + "{" + ranges(g.layers) + "}" + after
			continue
		}
		groups[key] = &group{at: len(out), layers: []int{layer}}
		out = append(out, t)
	}
	return out
}

// splitLayer finds the first number in a path: model.layers. 12 .mlp.down_proj.weight.
func splitLayer(name string) (before string, layer int, after string, ok bool) {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if n, err := strconv.Atoi(p); err == nil && i > 0 && i < len(parts)-1 {
			return strings.Join(parts[:i], ".") + ".", n, "." + strings.Join(parts[i+1:], "."), true
		}
	}
	return "", 0, "", false
}

// ranges prints ascending numbers: 0-1,5,26-29.
func ranges(n []int) string {
	var parts []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(n[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", n[i], n[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
