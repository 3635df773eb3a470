package step

import (
	"fmt"
	"path"
	"strings"

	"github.com/mlxbuild/mlxbuild/spec"
)

// Target is one thing that a recipe builds: a model under a quantization and a dtype.
type Target struct {
	ID           string // "smollm2/q4", "smollm2/q4@float16", or the name its matrix row gives
	Model        spec.Model
	Quantization spec.Quantization
	DType        string // auto, float16, bfloat16, float32
	Pos          spec.Pos
}

// Labels are what `key=value` selectors compare with.
type Labels map[string]string

// Labels of a target: its axes and its quantization's own keys.
func (t Target) Labels() Labels {
	l := Labels{"target": t.ID, "model": t.Model.Name, "quantization": t.Quantization.Name, "dtype": t.DType, "mode": t.Quantization.Mode}
	for key, value := range t.Quantization.Normalised() {
		switch value.(type) {
		case string, bool, int, int64, float64:
			l[key] = fmt.Sprint(value)
		}
	}
	return l
}

// LabelNames are the keys that a selector may use.
var LabelNames = []string{"kind", "target", "model", "quantization", "dtype", "mode", "bits", "group_size", "preset", "quantize", "dequantize", "validation", "benchmark", "runtime", "compute", "batch", "shape", "threads"}

// Match reports whether a selector picks something with this name and these labels. A selector is a glob over the name ("smollm2/*"), or
// "key=value[,key=value]", where each value is a glob and all must hold.
func Match(selector, name string, labels Labels) bool {
	if !strings.Contains(selector, "=") {
		ok, err := path.Match(selector, name)
		return err == nil && ok
	}
	for _, pair := range strings.Split(selector, ",") {
		key, value, _ := strings.Cut(pair, "=")
		if ok, err := path.Match(value, labels[key]); err != nil || !ok {
			return false
		}
	}
	return true
}

// CheckSelector says in words what is wrong with a selector, or "".
func CheckSelector(selector string) string {
	if selector == "" {
		return "an empty selector picks nothing"
	}
	if !strings.Contains(selector, "=") {
		if _, err := path.Match(selector, ""); err != nil {
			return fmt.Sprintf("%q is not a glob: * stands for any text without a slash, [abc] for one letter", selector)
		}
		return ""
	}
	for _, pair := range strings.Split(selector, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" {
			return fmt.Sprintf("%q is not key=value", pair)
		}
		if !contains(LabelNames, key) {
			return fmt.Sprintf("no selector key %q; the keys are %s", key, strings.Join(LabelNames, ", "))
		}
		if _, err := path.Match(value, ""); err != nil {
			return fmt.Sprintf("%q is not a glob", value)
		}
	}
	return ""
}

// Picked reports whether any of the selectors picks a target.
func (t Target) Picked(selectors []string) bool {
	for _, sel := range selectors {
		if Match(sel, t.ID, t.Labels()) {
			return true
		}
	}
	return false
}

// Unmatched says what is wrong with a selector that is no selector, or picks no target; "" when it picks one.
func Unmatched(selector string, targets []Target) (wrong string, hints []string) {
	if wrong := CheckSelector(selector); wrong != "" {
		return wrong, nil
	}
	var ids []string
	for _, t := range targets {
		if t.Picked([]string{selector}) {
			return "", nil
		}
		ids = append(ids, t.ID)
	}
	if near := spec.Closest(selector, ids); near != "" {
		hints = []string{"did you mean " + near + "?"}
	}
	return fmt.Sprintf("%q picks no target", selector), hints
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
