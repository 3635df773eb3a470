package builtin

import (
	"crypto/sha256"
	"fmt"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// Head is the output matrix of a model folder, ready to turn final hidden states into logits. It computes exactly what the model itself computes in float32.
type Head struct {
	weights *weights
	pool    *tensor.Pool
	network arch.Network // nil in float64
	precise arch.Precise // nil in float32
	sizes   arch.Sizes
	digest  [32]byte
}

// OpenHead maps a folder, to compute in float64 or, where that is not asked for, float32. Of its weights only the output matrix is read.
func OpenHead(dir string, compute backend.Compute) (_ *Head, err error) {
	defer catchCut(dir, &err)()
	s, w, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	w.arena.Budget = budgetOf(machine.Available())
	h := &Head{weights: w, pool: tensor.NewPool(cores()), sizes: s.model.Sizes()}
	if compute == backend.Float64 {
		h.precise = s.model.Precise(w, h.pool)
	} else {
		h.network = s.model.Network(w, h.pool, block, tensor.Float32)
	}
	if h.digest, err = headDigest(dir, h.sizes.Head, w); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// headDigest is SHA-256 over the tensors of a module as they are stored: name, type, shape and bytes of each, in the order of their names.
func headDigest(dir, module string, w *weights) (sum [32]byte, err error) {
	files, err := safetensors.OpenFolder(dir)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	for _, last := range []string{"biases", "scales", "weight"} {
		file, t, ok := files.Find(module + "." + last)
		if !ok {
			continue
		}
		fmt.Fprintf(h, "%s %s %v\n", last, t.DType, t.Shape)
		data := w.maps[file].Bytes()
		if t.End > int64(len(data)) {
			return sum, &FolderError{dir, "it changed while it was opened", nil}
		}
		h.Write(data[t.Begin:t.End])
	}
	copy(sum[:], h.Sum(nil))
	return sum, nil
}

// Hidden is the size of a hidden state, Vocabulary that of a row of logits.
func (h *Head) Hidden() int     { return h.sizes.Hidden }
func (h *Head) Vocabulary() int { return h.sizes.Vocabulary }

// Digest of the matrix as it is stored.
func (h *Head) Digest() [32]byte { return h.digest }

// Logits multiplies rows of hidden states, [rows, hidden], with the matrix: [rows, vocabulary].
func (h *Head) Logits(dst, hidden []float32) (err error) {
	defer h.weights.guard(&err)()
	size, vocabulary := h.sizes.Hidden, h.sizes.Vocabulary
	for len(hidden) > 0 {
		n := min(block, len(hidden)/size)
		if h.precise != nil {
			h.logits64(dst[:n*vocabulary], hidden[:n*size])
		} else {
			h.network.Logits(dst[:n*vocabulary], hidden[:n*size])
		}
		dst, hidden = dst[n*vocabulary:], hidden[n*size:]
	}
	return nil
}

func (h *Head) logits64(dst, hidden []float32) {
	var rows [][]float64
	for at := 0; at < len(hidden); at += h.sizes.Hidden {
		row := make([]float64, h.sizes.Hidden)
		for i, v := range hidden[at : at+h.sizes.Hidden] {
			row[i] = float64(v)
		}
		rows = append(rows, row)
	}
	for i, row := range h.precise.Logits(rows) {
		round(dst[i*h.sizes.Vocabulary:][:0:h.sizes.Vocabulary], row)
	}
}

// Close ends the workers and the mapping.
func (h *Head) Close() error {
	h.pool.Close()
	return h.weights.close()
}
