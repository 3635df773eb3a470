package convert

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// worker does blocks, with buffers of its own. Offsets are known beforehand, so workers never wait for one another.
type worker struct {
	*run
	crc     *crc32.Table
	tmp     []byte
	sources [3][]byte // the block, as read
	made    [3][]byte // room for what is computed
	results [3][]byte // what is to be written: views of the two above
}

func newWorker(r *run) *worker { return &worker{run: r, crc: crc32.MakeTable(crc32.Castagnoli)} }

func (k *worker) do(ctx context.Context, j job) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	sum, ok := k.copyFound(j)
	if !ok {
		if err := k.make(j); err != nil {
			return err
		}
		if k.reuse.on() {
			sum = k.sum(j)
		}
	}
	k.reuse.made(j, sum)
	for i, o := range j.tensor.Outputs {
		s := k.places[j.index][i]
		if err := k.outputs[s.shard].write(k.results[i], s.at+outputOffset(j.tensor, o, j.row)); err != nil {
			return err
		}
	}
	k.env.Progress(k.sourceBytes(j))
	return nil
}

// sourceBytes of a block, read or not.
func (k *worker) sourceBytes(j job) (n int64) {
	for _, name := range j.tensor.From {
		_, s, _ := k.plan.Source.Weights.Find(name)
		n += s.Bytes() / j.tensor.rows * j.rows
	}
	return n
}

// sum is the checksum of the block's results, one behind the other: CRC-32C, which file systems use for the same end. It has to notice bits that were lost, not an enemy, who could write the
// table as well; SHA-256 here would double the time of copying.
func (k *worker) sum(j job) (sum uint32) {
	for i := range j.tensor.Outputs {
		sum = crc32.Update(sum, k.crc, k.results[i])
	}
	return sum
}

// copyFound reads a block's results from the blobs that have them. Bytes that are not those that were once made are not taken: else a flipped bit of one blob would become the truth of the next.
func (k *worker) copyFound(j job) (sum uint32, ok bool) {
	if j.from == nil {
		return sum, false
	}
	var n int64
	for i, o := range j.tensor.Outputs {
		b := grow(&k.made[i], int(outputOffset(j.tensor, o, j.rows)))
		if _, err := j.from.files[i].ReadAt(b, j.from.at[i]+outputOffset(j.tensor, o, j.row)); err != nil {
			return sum, false
		}
		k.results[i] = b
		n += int64(len(b))
	}
	if sum = k.sum(j); sum != j.from.sums[j.block] {
		k.reuse.distrust(j.from)
		return sum, false
	}
	k.env.Stats.Cache.Add(n)
	return sum, true
}

// make reads a block of the sources and leaves the results in k.results.
func (k *worker) make(j job) error {
	t := j.tensor
	for i, name := range t.From {
		if err := k.read(i, name, j); err != nil {
			return err
		}
	}
	to, _ := quant.ParseFloat(t.DType)
	rows, cols := int(j.rows), int(t.cols)
	switch {
	case t.Op == OpQuantize:
		return k.quantize(j, to, rows, cols)
	case t.Op == OpDequantize:
		k.dequantize(t, to, rows, cols)
	case t.Scheme.Bits != 0: // a layer that is quantized already
		k.results = k.sources
		if t.Op == OpCast {
			k.results[1], k.results[2] = k.castTo(1, to, t.from), k.castTo(2, to, t.from)
		}
	default:
		k.results[0] = k.castTo(0, to, t.from)
		k.checkFinite(j, to)
	}
	return nil
}

// read reads the block's rows of one source tensor.
func (k *worker) read(i int, name string, j job) error {
	file, s, _ := k.plan.Source.Weights.Find(name)
	perRow := s.Bytes() / j.tensor.rows
	b := grow(&k.sources[i], int(perRow*j.rows))
	n, err := k.inputs[file].ReadAt(b, s.Begin+perRow*j.row)
	k.env.Stats.Source.Add(int64(n))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = &source.Error{What: k.plan.Source.Weights.Files[file].Path + " became shorter while it was read", Do: "run again when it is complete"}
	}
	return err
}

func grow(b *[]byte, n int) []byte {
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return *b
}

// castTo is the i-th source in another type: itself where the types are equal.
func (k *worker) castTo(i int, to, from quant.Float) []byte {
	if to == from {
		return k.sources[i]
	}
	dst := grow(&k.made[i], len(k.sources[i])/from.Size()*to.Size())
	quant.Cast(dst, to, k.sources[i], from)
	return dst
}

// quantize casts to the target type first, as mlx_lm does, so that scales follow from the cast weights.
func (k *worker) quantize(j job, to quant.Float, rows, cols int) error {
	t := j.tensor
	src := k.sources[0]
	if to != t.from {
		src = grow(&k.tmp, rows*cols*to.Size())
		quant.Cast(src, to, k.sources[0], t.from)
	}
	w, s, b := t.Scheme.Sizes(rows, cols, to)
	k.results = [3][]byte{grow(&k.made[0], w), grow(&k.made[1], s), grow(&k.made[2], b)}
	dst := quant.Packed{Weight: k.results[0], Scales: k.results[1], Biases: k.results[2]}
	if b == 0 {
		dst.Biases = nil
	}
	err := t.Scheme.Quantize(dst, src, to, rows, cols)
	var bad *quant.NonFiniteError
	if errors.As(err, &bad) {
		return &source.Error{What: fmt.Sprintf("tensor %s has %v in row %d, column %d; such a weight cannot be quantized", t.Param, bad.Value, int64(bad.Row)+j.row, bad.Col),
			Do: "the model is damaged, or overflowed in the cast to " + t.DType + "; leave this layer float with an override (quantize: false) to convert it all the same"}
	}
	return err
}

// dequantize casts scales and biases before, as mlx_lm does.
func (k *worker) dequantize(t *Tensor, to quant.Float, rows, cols int) {
	p := quant.Packed{Weight: k.sources[0], Scales: k.sources[1]}
	if t.Scheme.HasBiases() {
		p.Scales, p.Biases = k.castTo(1, to, t.from), k.castTo(2, to, t.from)
	}
	k.results[0] = grow(&k.made[0], rows*cols*to.Size())
	t.Scheme.Dequantize(k.results[0], p, to, rows, cols)
}

// checkFinite reports NaN and infinities where weights are only copied or cast, also those that the cast made.
func (k *worker) checkFinite(j job, to quant.Float) {
	i, bad := quant.FirstNonFinite(k.results[0], to)
	if !bad {
		return
	}
	t := j.tensor
	w := warning{row: j.row + int64(i)/t.cols, col: int64(i) % t.cols}
	size := t.from.Size()
	_, already := quant.FirstNonFinite(k.sources[0][i*size:(i+1)*size], t.from)
	w.overflow = !already
	k.warnings.add(j.index, w)
}
