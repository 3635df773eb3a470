package validate

import (
	"fmt"
	"sort"

	"github.com/mlxbuild/mlxbuild/internal/metric"
)

// Tensor is by how much one parameter differs from the reference's: |difference| / |reference|, Euclidean, of the weights as numbers.
type Tensor struct {
	Name  string        `json:"name"`
	Error metric.Number `json:"error"`
	How   string        `json:"how"` // how it is stored: "affine 4 bits", "float"
	// Limit is beyond what rounding in this way can do.
	Limit metric.Number `json:"limit"`
	Odd   bool          `json:"odd"`
}

// Tensors are all parameters that were compared.
type Tensors struct {
	Compared int      `json:"compared"`
	Odd      int      `json:"odd"`
	Worst    []Tensor `json:"worst"` // those that stand out, then the next largest errors; at most 20
	// Errors of all, by name.
	Errors map[string]metric.Number `json:"errors,omitempty"`
	// Failed says why nothing was compared.
	Failed string `json:"failed,omitempty"`
}

// NewTensor judges one parameter by the way it is stored; mode is "" for floats.
func NewTensor(name string, err float64, mode string, bits int) Tensor {
	t := Tensor{Name: name, Error: metric.Number(err), How: "float", Limit: metric.Number(roundingLimit(mode, bits))}
	if mode != "" {
		t.How = fmt.Sprintf("%s %d bits", mode, bits)
	}
	t.Odd = !(t.Error <= t.Limit)
	return t
}

// roundingLimit is four times what rounding costs a matrix of normally distributed weights: a group of 64 spans 4.8 standard deviations, which 2^bits - 1 steps divide, and the error of a step is its
// 1/sqrt(12). MLX's modes with one-byte scales cost 0.03 (mxfp8), 0.13 (mxfp4) and 0.10 (nvfp4), measured. A cast to bfloat16 costs 0.002.
func roundingLimit(mode string, bits int) float64 {
	switch mode {
	case "":
		return 0.01
	case "mxfp8":
		return 0.15
	case "mxfp4", "nvfp4":
		return 0.5
	}
	if bits == 1 {
		return 4
	}
	return 4*1.39/float64(int(1)<<bits-1) + 0.01
}

// Summarize orders tensors by what stands out.
func Summarize(all []Tensor) *Tensors {
	out := &Tensors{Compared: len(all), Worst: []Tensor{}, Errors: map[string]metric.Number{}}
	for _, t := range all {
		out.Errors[t.Name] = t.Error
	}
	sorted := append([]Tensor{}, all...)
	sort.SliceStable(sorted, func(i, j int) bool {
		if sorted[i].Odd != sorted[j].Odd {
			return sorted[i].Odd
		}
		return sorted[i].Error > sorted[j].Error || sorted[i].Error != sorted[i].Error && sorted[j].Error == sorted[j].Error
	})
	for _, t := range sorted {
		if t.Odd {
			out.Odd++
		}
		if t.Error != 0 && (t.Odd || len(out.Worst) < 5) && len(out.Worst) < 20 {
			out.Worst = append(out.Worst, t)
		}
	}
	return out
}

// strange says that a few tensors are no rounding of the reference's while all others are. Where many are, the weights were changed on purpose (AWQ, fine-tuning), and only what comes out can be judged.
func (t *Tensors) strange() string {
	if t.Odd == 0 || t.Odd > t.Compared/4 {
		return ""
	}
	w := t.Worst[0]
	more := ""
	if t.Odd > 1 {
		more = fmt.Sprintf(", and %d more", t.Odd-1)
	}
	return fmt.Sprintf("%s is not what rounding makes of the reference's: it differs by %.2g where %s differ by less than %.2g%s", w.Name, float64(w.Error), w.How, float64(w.Limit), more)
}
