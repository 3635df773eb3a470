package validate

import (
	"fmt"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// notSettings are keys of config.json that do not change what a model of given weights computes.
var notSettings = map[string]bool{"quantization": true, "quantization_config": true, "torch_dtype": true, "dtype": true, "transformers_version": true, "_name_or_path": true, "architectures": true,
	"use_cache": true, "initializer_range": true, "eos_token_id": true, "bos_token_id": true, "pad_token_id": true, "rope_parameters": true, "rope_scaling": true, "rope_theta": true, "tie_word_embeddings": true,
	"model_type": true, "transformers.js_config": true, "is_llama_config": true, "rope_interleaved": true, "pretraining_tp": true}

// settingsDifferences names what config.json of two folders says differently, "key: reference -> target". Rotary settings are compared whether they stand in rope_parameters or in the older keys.
func settingsDifferences(reference, target string) ([]string, error) {
	a, err := source.ReadConfig(reference)
	if err != nil {
		return nil, err
	}
	b, err := source.ReadConfig(target)
	if err != nil {
		return nil, err
	}
	mine, theirs := settingsOf(b), settingsOf(a)
	names := map[string]bool{}
	for k := range mine {
		names[k] = true
	}
	for k := range theirs {
		names[k] = true
	}
	var out []string
	for k := range names {
		if mine[k] != theirs[k] {
			out = append(out, fmt.Sprintf("%s: %s -> %s", k, orNone(theirs[k]), orNone(mine[k])))
		}
	}
	sort.Strings(out)
	return out, nil
}

func orNone(s string) string {
	if s == "" {
		return "(not there)"
	}
	return s
}

// settingsOf are the settings as text, null left out.
func settingsOf(config *jsonx.Object) map[string]string {
	out := map[string]string{}
	for _, k := range config.Keys() {
		if v, _ := config.Get(k); v != nil && !notSettings[k] {
			out[k] = text(v)
		}
	}
	rope, _ := config.Object("rope_parameters")
	for _, o := range []*jsonx.Object{rope, ropeScaling(config)} {
		if o == nil {
			continue
		}
		for _, k := range o.Keys() {
			if v, _ := o.Get(k); v != nil {
				out["rope."+strings.TrimPrefix(strings.Replace(k, "type", "rope_type", 1), "rope_")] = text(v)
			}
		}
	}
	if v, ok := config.Get("rope_theta"); ok && v != nil {
		out["rope.theta"] = text(v)
	}
	for k, v := range out {
		if strings.HasPrefix(k, "rope.") && strings.HasSuffix(k, "type") {
			delete(out, k)
			if v != `"default"` {
				out["rope.type"] = v
			}
		}
	}
	return out
}

func ropeScaling(config *jsonx.Object) *jsonx.Object {
	o, _ := config.Object("rope_scaling")
	return o
}

// text writes a value so that equal numbers are equal.
func text(v any) string {
	if n, ok := v.(jsonx.Number); ok {
		return fmt.Sprint(n.Float())
	}
	return strings.Join(strings.Fields(string(jsonx.Python(v, 1))), " ")
}
