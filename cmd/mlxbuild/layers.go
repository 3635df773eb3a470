package main

import (
	"fmt"
	"io"

	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

// layerDetail says where a target parts from its reference: by what runs through the layers, by its tensors, and by its settings.
type layerDetail struct {
	Layers []validate.LayerReport `json:"layers"`
	// Limit is what a layer of the same weights may differ by; 0 for other weights.
	Limit    float64           `json:"limit,omitempty"`
	First    int               `json:"first"` // first layer over the limit; for other weights the one where the error grows most. -1 when there is none
	Tensors  *validate.Tensors `json:"tensors"`
	Settings []string          `json:"settings"`
}

func detailOf(r *validate.Report) layerDetail {
	d := layerDetail{Layers: r.Layers, Tensors: r.Tensors, Settings: r.Settings}
	if r.Kind == spec.Parity {
		d.Limit = report.LayerLimit
	}
	d.First = report.Parts(r)
	return d
}

// printLayers shows the layers, then what stands out.
func (a *app) printLayers(w io.Writer, v report.Validation) {
	d := detailOf(v.Report)
	fmt.Fprintf(w, "\n%s %s, layer by layer: largest |difference| / |reference| of a token's state\n", v.Name, v.Target)
	for i, l := range d.Layers {
		mark := ""
		if i == d.First {
			mark = "  <- the first over " + fmt.Sprint(d.Limit)
			if d.Limit == 0 {
				mark = "  <- the error grows most here"
			}
		}
		fmt.Fprintf(w, "  %-11s %8.1e%s\n", report.LayerName(i), float64(l.Error), mark)
	}
	if d.First < 0 && d.Limit > 0 {
		fmt.Fprintf(w, "  no layer differs by more than %v\n", d.Limit)
	}
	a.printTensors(w, d.Tensors)
	for _, s := range d.Settings {
		fmt.Fprintf(w, "  config.json differs: %s\n", s)
	}
}

func (a *app) printTensors(w io.Writer, t *validate.Tensors) {
	switch {
	case t == nil:
		fmt.Fprintln(w, "\n  both sides read the same folder, so no tensor differs")
		return
	case t.Failed != "":
		fmt.Fprintln(w, "\n  the tensors were not compared:", t.Failed)
		return
	case len(t.Worst) == 0:
		fmt.Fprintf(w, "\n  %d tensors compared: all are the same\n", t.Compared)
		return
	}
	fmt.Fprintf(w, "\n  %d tensors compared, the worst:\n", t.Compared)
	for _, x := range t.Worst {
		mark := ""
		if x.Odd {
			mark = fmt.Sprintf("  <- stands out: rounding costs less than %.2g", float64(x.Limit))
		}
		fmt.Fprintf(w, "  %8.1e  %-45s %s%s\n", float64(x.Error), x.Name, x.How, mark)
	}
}
