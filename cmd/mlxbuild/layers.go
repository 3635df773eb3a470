package main

import (
	"fmt"
	"io"
	"sort"

	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// layerDetail says where a target parts from its reference: by what runs through the layers, by its tensors, and by its settings.
type layerDetail struct {
	Name   string                 `json:"name"`
	Target string                 `json:"target"`
	Layers []validate.LayerReport `json:"layers"`
	// Limit is what a layer of the same weights may differ by; 0 for other weights, where Jump counts.
	Limit float64 `json:"limit,omitempty"`
	First int     `json:"first"` // first layer over the limit, or where other weights begin to matter most; -1 when there is none
	// Tensors are those that stand out, the worst first; Compared is how many there were.
	Tensors  []tensorDetail `json:"tensors"`
	Compared int            `json:"tensors_compared"`
	Same     bool           `json:"same_folder,omitempty"` // both sides are one folder: there is nothing to compare
	Settings []string       `json:"settings,omitempty"`
}

type tensorDetail struct {
	builtin.Difference
	Typical float64 `json:"typical"` // error of the other tensors that are stored alike
	Odd     bool    `json:"odd"`
}

// Limits of layers and tensors. A layer of the same weights differs by 1e-6 in float32 (measured on SmolLM2: builtin 2e-6, mlx 1.3e-5 at most); a wrong one by 1e-2 and more.
const (
	layerLimit  = 1e-4
	layerJump   = 4    // times the layer before, for other weights
	tensorLimit = 1e-2 // of a tensor that is not quantized: a cast to bfloat16 is 2e-3
	tensorOdd   = 3    // times the median of tensors that are stored alike
)

func (a *app) layerDetails(p *project, validations []report.Validation) (out []*layerDetail, err error) {
	for _, v := range validations {
		d := &layerDetail{Name: v.Name, Target: v.Target, Layers: v.Report.Layers, First: -1, Tensors: []tensorDetail{}}
		if v.Report.Kind == spec.Parity {
			d.Limit = layerLimit
		}
		d.First = firstOff(d.Layers, d.Limit)
		reference, target := p.comparedFolders(v)
		if d.Same = reference == target; !d.Same {
			if err := d.compareFolders(reference, target); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// firstOff is the first layer over a limit. Without one it is the layer whose error grows most, if it grows by more than layerJump.
func firstOff(layers []validate.LayerReport, limit float64) int {
	best, jump := -1, float64(layerJump)
	for i, l := range layers {
		e := float64(l.Error)
		switch {
		case limit > 0 && !(e <= limit):
			return i
		case limit == 0 && e != e:
			return i
		case limit == 0 && i > 0 && layers[i-1].Error > 0 && e/float64(layers[i-1].Error) > jump:
			best, jump = i, e/float64(layers[i-1].Error)
		}
	}
	return best
}

// comparedFolders are the folders of the two sides.
func (p *project) comparedFolders(v report.Validation) (reference, target string) {
	role := func(s step.Step, name string) string {
		for _, in := range s.Ins {
			if in.Role == name {
				maker := p.graph.Steps[p.graph.Maker(in.Artifact)]
				if maker.Source != nil {
					return maker.Source.Dir()
				}
				return maker.Folder
			}
		}
		return ""
	}
	s := p.graph.Steps[v.Step]
	reference, target = role(s, "reference_model"), role(s, "model")
	if v.Report.Reference.Weights == "source" {
		for _, id := range p.graph.Needs(step.ID(v.Step)) {
			if dir := role(p.graph.Steps[id], "source"); dir != "" {
				reference = dir
			}
		}
	}
	return reference, target
}

func (d *layerDetail) compareFolders(reference, target string) (err error) {
	if d.Settings, err = validate.SettingsDifferences(reference, target); err != nil {
		return err
	}
	all, err := builtin.CompareWeights(reference, target)
	if err != nil {
		return err
	}
	d.Compared = len(all)
	typical := medians(all)
	for _, x := range all {
		t := tensorDetail{x, typical[x.How], !(x.Error <= tensorLimit)}
		if x.How != "float" {
			t.Odd = !(x.Error <= tensorOdd*typical[x.How])
		}
		if t.Odd || len(d.Tensors) < 5 && x.Error != 0 {
			d.Tensors = append(d.Tensors, t)
		}
	}
	if len(d.Tensors) > 20 {
		d.Tensors = d.Tensors[:20]
	}
	return nil
}

// medians of the errors of tensors that are stored alike.
func medians(all []builtin.Difference) map[string]float64 {
	errors := map[string][]float64{}
	for _, x := range all {
		errors[x.How] = append(errors[x.How], x.Error)
	}
	out := map[string]float64{}
	for how, e := range errors {
		sort.Float64s(e)
		out[how] = e[len(e)/2]
	}
	return out
}

func layerName(i int) string {
	if i == 0 {
		return "embeddings"
	}
	return fmt.Sprintf("block %d", i-1)
}

// printLayers shows the layers as bars of their error's magnitude, then what stands out.
func (a *app) printLayers(w io.Writer, d *layerDetail) {
	fmt.Fprintf(w, "\n%s %s, layer by layer: largest |difference| / |reference| of a token's state\n", d.Name, d.Target)
	for i, l := range d.Layers {
		mark := ""
		if i == d.First {
			mark = "  <- the first over " + fmt.Sprint(d.Limit)
			if d.Limit == 0 {
				mark = "  <- the error grows most here"
			}
		}
		fmt.Fprintf(w, "  %-11s %8.1e%s\n", layerName(i), float64(l.Error), mark)
	}
	if d.First < 0 && d.Limit > 0 {
		fmt.Fprintf(w, "  no layer differs by more than %v\n", d.Limit)
	}
	if d.Same {
		fmt.Fprintln(w, "  both sides read the same folder, so no tensor differs")
		return
	}
	fmt.Fprintf(w, "\n  %d tensors compared", d.Compared)
	if len(d.Tensors) == 0 {
		fmt.Fprintln(w, ": all are the same")
	} else {
		fmt.Fprintln(w, ", the worst:")
	}
	for _, t := range d.Tensors {
		mark := ""
		if t.Odd {
			mark = "  <- stands out"
			if t.How != "float" {
				mark += fmt.Sprintf(": others of %s differ by %.1e", t.How, t.Typical)
			}
		}
		fmt.Fprintf(w, "  %8.1e  %-45s %s%s\n", t.Error, t.Name, t.How, mark)
	}
	for _, s := range d.Settings {
		fmt.Fprintf(w, "  config.json differs: %s\n", s)
	}
}
