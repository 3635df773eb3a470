package builtin

import (
	"fmt"
	"math"
)

// Difference is by how much one parameter of two folders differs: |a - b| / |a|, Euclidean, of the weights as numbers, whatever they are stored as.
type Difference struct {
	Name  string
	Error float64
	// Mode and Bits are how the second folder stores it; Mode is "" for floats.
	Mode string
	Bits int
}

// CompareWeights reads two folders of one model and compares every parameter, in the model's order. Shapes that differ are an error.
func CompareWeights(reference, target string) ([]Difference, error) {
	a, wa, err := readFolder(reference)
	if err != nil {
		return nil, err
	}
	defer wa.close()
	b, wb, err := readFolder(target)
	if err != nil {
		return nil, err
	}
	defer wb.close()
	if len(a.model.Params()) != len(b.model.Params()) {
		return nil, fmt.Errorf("%s has %d parameters, %s has %d", reference, len(a.model.Params()), target, len(b.model.Params()))
	}
	var out []Difference
	for _, p := range b.model.Params() {
		d := Difference{Name: p.Name}
		if !p.Quantizable {
			x, y := wa.vectors[p.Name], wb.vectors[p.Name]
			if len(x) != len(y) {
				return nil, fmt.Errorf("%s has %d values in %s and %d in %s", p.Name, len(x), reference, len(y), target)
			}
			d.Error = quotient(squares(x, y))
		} else {
			m, n := wa.matrices[p.Module], wb.matrices[p.Module]
			if m == nil || m.Rows != n.Rows || m.Cols != n.Cols {
				return nil, fmt.Errorf("%s has not the same shape in %s and %s", p.Name, reference, target)
			}
			x, y := make([]float32, m.Cols), make([]float32, m.Cols)
			var dd, aa float64
			for r := range m.Rows {
				m.Row(x, r)
				n.Row(y, r)
				rd, ra := squares(x, y)
				dd, aa = dd+rd, aa+ra
			}
			d.Error, d.Mode, d.Bits = quotient(dd, aa), string(n.Scheme.Mode), n.Scheme.Bits
		}
		out = append(out, d)
	}
	return out, nil
}

// squares are the sums of squares of a - b and of a.
func squares(a, b []float32) (dd, aa float64) {
	for i, x := range a {
		d := float64(x) - float64(b[i])
		dd, aa = dd+float64(d*d), aa+float64(float64(x)*float64(x))
	}
	return dd, aa
}

func quotient(dd, aa float64) float64 {
	if dd == 0 {
		return 0
	}
	return math.Sqrt(dd / aa)
}
