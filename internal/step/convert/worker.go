package convert

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
)

// worker does blocks, with buffers of its own. Offsets are known beforehand, so workers never wait for one another.
type worker struct {
	*pass
	crc     *crc32.Table
	job     job
	read    bool  // whether the job's block is in sources
	readErr error // why it is not
	tmp     []byte
	inPlace bool      // whether sources are parts of mapped files
	sources [3][]byte // the block
	room    [3][]byte // for blocks that are read
	made    [3][]byte // room for what is computed
	results [3][]byte // what is to be written: views of made, or of sources that were read
}

func newWorker(p *pass) *worker { return &worker{pass: p, crc: crc32.MakeTable(crc32.Castagnoli)} }

// do a block for every conversion that has not failed.
func (k *worker) do(ctx context.Context, j job) {
	k.job, k.read, k.inPlace = j, false, !passesOn(j.parts)
	defer k.release()
	for _, p := range j.parts {
		if ctx.Err() != nil {
			return
		}
		if !p.run.enter() {
			continue
		}
		if err := k.part(p); err != nil {
			p.run.fail(err)
		}
		p.run.leave()
	}
}

func (k *worker) part(p part) error {
	sum, ok := k.copyFound(p)
	if !ok {
		if err := k.make(p); err != nil {
			return err
		}
		if p.run.reuse.on() {
			sum = k.sum(p)
		}
	}
	p.run.reuse.made(p.index, k.job.block, sum)
	for i, o := range p.tensor.Outputs {
		s := p.run.places[p.index][i]
		if err := p.run.outputs[s.shard].write(k.results[i], s.at+outputOffset(p.tensor, o, k.job.row)); err != nil {
			return err
		}
	}
	p.run.env.Progress(k.sourceBytes(p.tensor))
	return nil
}

// sourceBytes of the block, read or not.
func (k *worker) sourceBytes(t *Tensor) (n int64) {
	for _, name := range t.From {
		_, begin, end := k.sourceAt(name, k.job.row, k.job.rows)
		n += end - begin
	}
	return n
}

// sum is the checksum of the block's results, one behind the other: CRC-32C, which file systems use for the same end. It has to notice bits that were lost, not an enemy, who could write the
// table as well; SHA-256 here would double the time of copying.
func (k *worker) sum(p part) (sum uint32) {
	for i := range p.tensor.Outputs {
		sum = crc32.Update(sum, k.crc, k.results[i])
	}
	return sum
}

// copyFound reads a block's results from the blobs that have them. Bytes that are not those that were once made are not taken: else a flipped bit of one blob would become the truth of the next.
func (k *worker) copyFound(p part) (sum uint32, ok bool) {
	if p.from == nil {
		return sum, false
	}
	var n int64
	for i, o := range p.tensor.Outputs {
		b := grow(&k.made[i], int(outputOffset(p.tensor, o, k.job.rows)))
		if _, err := p.from.files[i].ReadAt(b, p.from.at[i]+outputOffset(p.tensor, o, k.job.row)); err != nil {
			return sum, false
		}
		k.results[i] = b
		n += int64(len(b))
	}
	if sum = k.sum(p); sum != p.from.sums[k.job.block] {
		p.run.reuse.distrust(p.from)
		return sum, false
	}
	p.run.env.Stats.Cache.Add(n)
	return sum, true
}

// make leaves the results in k.results.
func (k *worker) make(p part) error {
	cut, err := safetensors.Faults(func() error { return k.makeOnce(p) })
	if cut { // reading says why
		k.read, k.inPlace = false, false
		err = k.makeOnce(p)
	}
	return err
}

func (k *worker) makeOnce(p part) error {
	if !k.read {
		k.read, k.readErr = true, k.readSources(p)
	}
	if k.readErr != nil {
		return k.readErr
	}
	t := p.tensor
	to, _ := quant.ParseFloat(t.DType)
	rows, cols := int(k.job.rows), int(t.cols)
	switch {
	case t.Op == OpQuantize:
		return k.quantize(t, to, rows, cols)
	case t.Op == OpDequantize:
		k.dequantize(t, to, rows, cols)
	case t.Scheme.Bits != 0: // a layer that is quantized already
		k.results = k.sources
		if t.Op == OpCast {
			k.results[1], k.results[2] = k.castTo(1, to, t.from), k.castTo(2, to, t.from)
		}
	default:
		k.results[0] = k.castTo(0, to, t.from)
		k.checkFinite(p, to)
	}
	return nil
}

// passesOn reports whether a part's results are the source's own bytes. They are read then: they are still needed when they are written and hashed, and copying is all that is done.
func passesOn(parts []part) bool {
	for _, p := range parts {
		if t := p.tensor; t.Op == OpCopy || t.Op == OpCast && t.Scheme.Bits != 0 {
			return true
		}
	}
	return false
}

// release lets go of what was mapped of the job's block.
func (k *worker) release() {
	if k.job.stretch.left.Add(-1) > 0 || !k.inPlace {
		return
	}
	for _, name := range k.job.parts[0].tensor.From {
		if file, begin, end := k.sourceAt(name, k.job.stretch.row, k.job.stretch.rows); k.mapped[file] != nil {
			k.mapped[file].Release(begin, end)
		}
	}
}

// sourceAt is where some rows of a source tensor of the job lie.
func (k *worker) sourceAt(name string, row, rows int64) (file int, begin, end int64) {
	file, s, _ := k.source.Weights.Find(name)
	perRow := s.Bytes() / k.job.parts[0].tensor.rows
	begin = s.Begin + perRow*row
	return file, begin, begin + perRow*rows
}

// readSources reads the block's rows of the source tensors.
func (k *worker) readSources(p part) error {
	for i, name := range p.tensor.From {
		if err := k.readSource(i, name, p); err != nil {
			return err
		}
	}
	return nil
}

func (k *worker) readSource(i int, name string, p part) error {
	file, begin, end := k.sourceAt(name, k.job.row, k.job.rows)
	if m := k.mapped[file]; m != nil && k.inPlace {
		k.sources[i] = m.Part(begin, end)
		p.run.env.Stats.Source.Add(end - begin)
		return nil
	}
	k.sources[i] = grow(&k.room[i], int(end-begin))
	n, err := k.inputs[file].ReadAt(k.sources[i], begin)
	p.run.env.Stats.Source.Add(int64(n))
	if n == len(k.sources[i]) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = &source.Error{What: k.source.Weights.Files[file].Path + " became shorter while it was read", Do: "run again when it is complete"}
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
func (k *worker) quantize(t *Tensor, to quant.Float, rows, cols int) error {
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
		return &source.Error{What: fmt.Sprintf("tensor %s has %v in row %d, column %d; such a weight cannot be quantized", t.Param, bad.Value, int64(bad.Row)+k.job.row, bad.Col),
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
func (k *worker) checkFinite(p part, to quant.Float) {
	i, bad := quant.FirstNonFinite(k.results[0], to)
	if !bad {
		return
	}
	t := p.tensor
	w := warning{row: k.job.row + int64(i)/t.cols, col: int64(i) % t.cols}
	size := t.from.Size()
	_, already := quant.FirstNonFinite(k.sources[0][i*size:(i+1)*size], t.from)
	w.overflow = !already
	p.run.warnings.add(p.index, w)
}
