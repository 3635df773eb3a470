package rebuild

import (
	"bytes"
	"io"
	"os"
	"slices"

	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Tensor is the first of a weight file that differs from the recorded one.
type Tensor struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	What  string `json:"what,omitempty"` // when it is not its bytes: "is gone", "has the shape [2 3], not [3 2]"
	Bytes int64  `json:"bytes"`          // of it that differ
	Of    int64  `json:"of"`
	More  int    `json:"more"` // further tensors that differ
}

// firstTensor compares two weight files tensor by tensor, in the recorded file's order; nil when either is none that can be read, or the difference is in no tensor.
func firstTensor(recorded, found string) *Tensor {
	if recorded == "" {
		return nil
	}
	a, err := openWeights(recorded)
	if err != nil {
		return nil
	}
	defer a.file.Close()
	b, err := openWeights(found)
	if err != nil {
		return nil
	}
	defer b.file.Close()
	var first *Tensor
	for _, t := range a.header.Tensors {
		d := a.compare(t, b)
		switch {
		case d == nil:
		case first == nil:
			first = d
		default:
			first.More++
		}
	}
	for _, t := range b.header.Tensors {
		if _, ok := a.find(t.Name); ok {
			continue
		}
		if first == nil {
			first = &Tensor{Name: t.Name, DType: t.DType, What: "is new", Of: t.Bytes()}
			continue
		}
		first.More++
	}
	return first
}

type weights struct {
	file   *os.File
	header *safetensors.Header
	at     map[string]int // in header.Tensors, by name
}

func openWeights(path string) (*weights, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var h *safetensors.Header
		if h, err = safetensors.ParseHeader(f, info.Size()); err == nil {
			w := &weights{f, h, map[string]int{}}
			for i, t := range h.Tensors {
				w.at[t.Name] = i
			}
			return w, nil
		}
	}
	f.Close()
	return nil, err
}

func (w *weights) find(name string) (safetensors.Tensor, bool) {
	i, ok := w.at[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return w.header.Tensors[i], true
}

// compare one tensor with that of the same name in another file; nil when they are equal.
func (w *weights) compare(t safetensors.Tensor, other *weights) *Tensor {
	out := &Tensor{Name: t.Name, DType: t.DType, Of: t.Bytes()}
	o, ok := other.find(t.Name)
	switch {
	case !ok:
		out.What = "is gone"
	case o.DType != t.DType:
		out.What = "is of the type " + o.DType
	case !slices.Equal(o.Shape, t.Shape):
		out.What = "has another shape"
	default:
		out.Bytes = countDiffering(io.NewSectionReader(w.file, t.Begin, t.Bytes()), io.NewSectionReader(other.file, o.Begin, o.Bytes()))
		if out.Bytes == 0 {
			return nil
		}
	}
	return out
}

// countDiffering counts positions at which two streams of one length have other bytes.
func countDiffering(a, b io.Reader) (n int64) {
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		i, err := io.ReadFull(a, x)
		j, _ := io.ReadFull(b, y)
		m := min(i, j)
		n += int64(max(i, j) - m)
		if !bytes.Equal(x[:m], y[:m]) {
			for k := range m {
				if x[k] != y[k] {
					n++
				}
			}
		}
		if err != nil {
			return n
		}
	}
}
