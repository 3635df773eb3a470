package convert

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// files opens what mlx-lm would load and compares it with the index; nil when there is nothing to go on with.
func (v *verifier) files() *safetensors.Folder {
	index, total := v.readIndex()
	names := map[string]bool{}
	entries, err := os.ReadDir(v.dir)
	if err != nil {
		v.add("", "it cannot be read: %v", err)
		return nil
	}
	for _, e := range entries {
		if isModel(e.Name()) {
			names[e.Name()] = true
		}
	}
	present := len(names)
	gone := map[string]int{}
	for _, file := range index {
		if _, err := os.Stat(filepath.Join(v.dir, file)); err != nil {
			gone[file]++
		} else {
			names[file] = true
		}
	}
	for _, file := range sorted(gone) {
		v.add(file, "it is missing; %s says that it holds %d tensors", safetensors.IndexName, gone[file])
	}
	if len(names) == 0 {
		if len(gone) == 0 {
			v.add("", "there is no model*.safetensors in it")
		}
		return nil
	}
	weights, errs := safetensors.OpenFiles(v.dir, v.own(names, index))
	for _, err := range errs {
		v.add("", "%v", err)
	}
	for _, f := range weights.Files {
		for _, w := range f.Header.Warnings {
			v.add(f.Name, "%s", w)
		}
	}
	switch {
	case index != nil:
		v.compareIndex(index, total, weights, gone)
	case present > 1:
		v.add(safetensors.IndexName, "it is missing, and there are %d weight files", present)
	}
	if errs != nil || len(gone) > 0 {
		return nil // what is missing is missing because of them
	}
	return weights
}

// own leaves out files that are no part of the model, and says so where the manifest has not: their tensors would only be told as being there twice.
func (v *verifier) own(names map[string]bool, index map[string]string) (out []string) {
	indexed := map[string]bool{}
	for _, file := range index {
		indexed[file] = true
	}
	for _, name := range sorted(names) {
		switch {
		case v.known != nil && !v.known[name]: // told
		case index != nil && !indexed[name]:
			v.add(name, "it is no part of this model: %s does not name it, and mlx-lm would load it", safetensors.IndexName)
		default:
			out = append(out, name)
		}
	}
	return out
}

func sorted[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// readIndex returns the weight map and the size that it says; nil when there is none that can be read.
func (v *verifier) readIndex() (index map[string]string, total *float64) {
	path := filepath.Join(v.dir, safetensors.IndexName)
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil
	}
	if info.Size() > safetensors.MaxHeader {
		v.add(safetensors.IndexName, "it has %d bytes, too many for an index", info.Size())
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err == nil {
		index, err = safetensors.ParseIndex(data)
	}
	if err != nil {
		v.add(safetensors.IndexName, "%v", err)
		return nil, nil
	}
	var head struct {
		Metadata struct {
			Size *float64 `json:"total_size"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		v.add(safetensors.IndexName, "its metadata cannot be read: %v", err)
	}
	return index, head.Metadata.Size
}

// compareIndex holds the index against the headers, both ways, and its total_size, which readers use to plan memory.
func (v *verifier) compareIndex(index map[string]string, total *float64, weights *safetensors.Folder, gone map[string]int) {
	var stale []string
	for _, name := range sorted(index) {
		file := index[name]
		at, _, ok := weights.Find(name)
		switch {
		case gone[file] > 0:
		case !ok:
			stale = append(stale, fmt.Sprintf("it is stale: tensor %s is not in %s", name, file))
		case weights.Files[at].Name != file:
			stale = append(stale, fmt.Sprintf("it is stale: tensor %s is not in %s, but in %s", name, file, weights.Files[at].Name))
		}
	}
	var bytes int64
	for _, t := range weights.Tensors() {
		bytes += t.Bytes()
		if _, ok := index[t.Name]; !ok {
			stale = append(stale, fmt.Sprintf("it is stale: it does not name tensor %s, which the files hold", t.Name))
		}
	}
	v.addAll(safetensors.IndexName, stale)
	if total != nil && len(gone) == 0 && int64(*total) != bytes {
		v.add(safetensors.IndexName, "it says %.0f bytes, and the tensors have %d: it is stale", *total, bytes)
	}
}

// tensors compares headers with what config.json asks for: names, shapes, types, and how layers are quantized.
func (v *verifier) tensors(weights *safetensors.Folder) {
	config, err := source.ReadConfig(v.dir)
	if err != nil {
		v.add("config.json", "%s", v.plain(err))
		return
	}
	have, err := readQuantization(config)
	if err != nil {
		v.add("config.json", "%s", v.plain(err))
		return
	}
	scaled := map[string]bool{} // modules with scales
	for _, t := range weights.Tensors() {
		if module, is := strings.CutSuffix(t.Name, ".scales"); is {
			scaled[module] = true
		}
	}
	if have == nil && len(scaled) > 0 {
		v.add("config.json", "it has no quantization, and %d layers of the weights are quantized", len(scaled))
	}
	var modules map[string]arch.Param
	a, known := all.Find(source.ModelType(config))
	if known {
		modules = v.parameters(a, config, have, scaled, weights)
	} else {
		v.problems = append(v.problems, Problem{File: "config.json", What: fmt.Sprintf("model_type %q is not one that mlxbuild knows: names and shapes were not checked", source.ModelType(config)), Note: true})
	}
	if have != nil {
		v.block(config, have, scaled, modules, weights)
	}
}

// plain is an error without the folder's name, which stands before every problem.
func (v *verifier) plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), v.dir+": "), "config.json: ")
}

// parameters asks everything of the folder that a conversion would, parameter by parameter. It returns the layers that can be quantized; nil when config.json is none of a model.
func (v *verifier) parameters(a arch.Arch, config *jsonx.Object, have *quantized, scaled map[string]bool, weights *safetensors.Folder) map[string]arch.Param {
	model, err := a.Parse(config)
	if err != nil {
		v.add("config.json", "%s", v.plain(err))
		return nil
	}
	folder := &source.Folder{Dir: v.dir, Config: config, Arch: a, Weights: weights}
	d := decider{plan: &Plan{Source: folder}, model: model, config: config, have: have}
	modules := map[string]arch.Param{}
	used := map[string]bool{}
	var wrong []string
	for _, p := range model.Params() {
		if p.Quantizable {
			modules[p.Module] = p
		}
		used[p.Name] = true
		if p.Quantizable && scaled[p.Module] {
			used[p.Module+".scales"], used[p.Module+".biases"] = true, true
			if have == nil {
				continue // told
			}
		}
		if _, err := d.tensor(p); err != nil {
			v.told[p.Module] = true
			wrong = append(wrong, v.plain(err))
		}
	}
	v.addAll("", wrong)
	if err := d.checkExtra(used); err != nil {
		v.add("", "%s", v.plain(err))
	}
	return modules
}

// block compares the quantization of config.json with the weights. mlx-lm takes a layer's own entry, else what follows from the shapes; other readers take the block's own settings for every layer without an
// entry, so these have to be right too.
func (v *verifier) block(config *jsonx.Object, have *quantized, scaled map[string]bool, modules map[string]arch.Param, weights *safetensors.Folder) {
	for _, key := range []string{"group_size", "bits"} {
		if _, ok := have.block.Int(key); !ok {
			v.add("config.json", "its quantization has no %s, which mlx-lm asks for", key)
		}
	}
	if other, ok := config.Object("quantization_config"); ok {
		for _, key := range []string{"group_size", "bits"} {
			a, okA := have.block.Int(key)
			if b, okB := other.Int(key); okA && okB && a != b {
				v.add("config.json", "its quantization says %s %d, and its quantization_config %d", key, a, b)
			}
		}
	}
	var wrong []string
	for _, k := range have.block.Keys() {
		value, _ := have.block.Get(k)
		use, isSwitch := value.(bool)
		_, isLayer := value.(*jsonx.Object)
		_, isModule := modules[k]
		switch {
		case !isLayer && !isSwitch:
		case modules != nil && !isModule:
			wrong = append(wrong, fmt.Sprintf("its quantization names %s, which is no layer of this model that can be quantized", k))
		case modules == nil && (isLayer || use) && !scaled[k]:
			wrong = append(wrong, fmt.Sprintf("it says that %s is quantized, and the weights have no scales for it", k))
		}
	}
	v.addAll("config.json", wrong)
	v.layers(have, sorted(scaled), modules, weights)
}

// layers compares the settings of each quantized layer with its shapes.
func (v *verifier) layers(have *quantized, names []string, modules map[string]arch.Param, weights *safetensors.Folder) {
	general, err := schemeOf(have.block)
	if err != nil {
		v.add("config.json", "its quantization: %v", err)
		return
	}
	first, others := "", 0
	var wrong []string
	for _, module := range names {
		_, w, ok := weights.Find(module + ".weight")
		_, s, _ := weights.Find(module + ".scales")
		if !ok || len(w.Shape) < 2 || len(s.Shape) != len(w.Shape) || s.Shape[len(s.Shape)-1] == 0 {
			if modules == nil {
				wrong = append(wrong, fmt.Sprintf("layer %s has scales that fit no weight", module))
			}
			continue
		}
		words, groups := w.Shape[len(w.Shape)-1], s.Shape[len(s.Shape)-1]
		scheme, own := general, false
		if e, ok := have.block.Object(module); ok {
			own = true
			if scheme, err = schemeOf(e); err != nil {
				if modules == nil {
					wrong = append(wrong, fmt.Sprintf("layer %s: %v", module, err))
				}
				continue
			}
		}
		cols := groups * int64(scheme.GroupSize)
		if p, ok := modules[module]; ok {
			cols = p.Shape[len(p.Shape)-1]
		}
		if v.told[module] || fits(scheme, cols, words, groups, s.DType) {
			continue
		}
		switch {
		case own && modules != nil: // told with the parameters, which know the layer's width
		case own:
			wrong = append(wrong, fmt.Sprintf("layer %s: its tensors are not those of %v", module, scheme))
		default:
			if others++; first == "" {
				first = module
			}
		}
	}
	v.addAll("", wrong)
	if others > 0 {
		v.add("config.json", "its quantization says %v, and %d layers without an entry of their own are otherwise, first %s: mlx-lm follows the shapes, other readers do not", general, others, first)
	}
}

// fits reports whether a row of so many weights has so many words and groups in a scheme. Of a row whose width is not known, words and groups only have to agree with each other.
func fits(s quant.Scheme, cols, words, groups int64, scaleType string) bool {
	return words*32 == cols*int64(s.Bits) && groups*int64(s.GroupSize) == cols && (scaleType == "U8") == !s.HasBiases()
}
