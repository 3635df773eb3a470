package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// blockBytes is about how much of a source tensor a worker holds. Memory is a few blocks for each core, whatever the model's size; a block still is large enough that reading and writing it
// costs little beside quantizing it (SmolLM2-135M, two cores: 256 KiB to 4 MiB take the same time).
const blockBytes = 1 << 20

// WriteEnv is what Write works with.
type WriteEnv struct {
	Cache    *cache.Cache
	Stage    *cache.Stage
	Digests  map[string]cache.Digest // of source tensors; nil = no tensor is looked up or remembered
	Inputs   []source.Input          // what the source's digest is made of, for the manifest
	Progress func(bytes int64)       // source bytes done, also of tensors that were found
	Warn     func(sentence string)
}

// Write makes the files of a plan in the stage, hashed. Tensors that were made before, by whatever conversion, are copied from the blob that has them, and their source is not read.
func (p *Plan) Write(ctx context.Context, w WriteEnv) ([]step.File, error) {
	before, err := p.sourceState()
	if err != nil {
		return nil, err
	}
	w.Warn = once(w.Warn)
	reuse := newReuse(p, w)
	var files []step.File
	for _, s := range p.Shards {
		d, err := p.writeShard(ctx, w, s, reuse)
		if err != nil {
			return nil, err
		}
		files = append(files, step.File{Path: s.Name, Digest: d, Size: s.Size})
		reuse.made(s, d)
	}
	after, err := p.sourceState()
	if err != nil || after != before {
		return nil, &source.Error{What: p.Source.Dir + " changed while it was converted", Do: "run again when it is complete"}
	}
	if files, err = p.writeSmall(w, files); err != nil {
		return nil, err
	}
	return files, reuse.remember()
}

// once makes a warning safe for many goroutines and says each sentence's beginning, which names the tensor, only once.
func once(warn func(string)) func(string) {
	var mu sync.Mutex
	said := map[string]bool{}
	return func(sentence string) {
		mu.Lock()
		defer mu.Unlock()
		tensor, _, _ := strings.Cut(sentence, " has ")
		if warn != nil && !said[tensor] {
			said[tensor] = true
			warn(sentence)
		}
	}
}

// sourceState is the metadata of all weight files.
func (p *Plan) sourceState() (string, error) {
	state := ""
	for _, f := range p.Source.Weights.Files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return "", err
		}
		state += cache.StatKey(info).String()
	}
	return state, nil
}

func maxWorkers() int { return runtime.GOMAXPROCS(0) }

// job is one block of rows of one tensor, or a whole tensor that is copied from a blob.
type job struct {
	tensor *Tensor
	at     []int64 // file offsets of the tensor's outputs
	row    int64   // first row
	rows   int64
	from   *found // not nil: copy from here
}

// writeShard writes one file: its header, then all blocks by workers, each to its place; the file is hashed in order behind them.
func (p *Plan) writeShard(ctx context.Context, w WriteEnv, s safetensors.Shard, reuse *reuse) (cache.Digest, error) {
	out, err := os.OpenFile(w.Stage.Path(s.Name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return cache.Digest{}, err
	}
	defer out.Close()
	if _, err := out.WriteAt(s.Header, 0); err != nil {
		return cache.Digest{}, err
	}
	inputs, err := p.openSources()
	if err != nil {
		return cache.Digest{}, err
	}
	defer inputs.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	behind := newBehind(s)
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range maxWorkers() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			k := worker{plan: p, env: w, inputs: inputs, out: out, behind: behind}
			for j := range jobs {
				if err := k.do(ctx, j); err != nil {
					cancel(err)
					behind.stop()
					return
				}
			}
		}()
	}
	sum := make(chan cache.Digest, 1)
	go func() { sum <- behind.hash(out, s.Size) }()
	p.feed(ctx, s, reuse, jobs)
	close(jobs)
	wg.Wait()
	behind.stop()
	d := <-sum
	if err := context.Cause(ctx); err != nil {
		return d, err
	}
	return d, behind.err
}

// feed sends the blocks of a shard, in file order of the tensors' first outputs so that hashing can follow. A tensor whose outputs lie in several shards is made whole in the first and its later
// outputs again in theirs: layouts put scales behind all weights, so with many shards that happens; it costs time, never bytes.
func (p *Plan) feed(ctx context.Context, s safetensors.Shard, reuse *reuse, jobs chan<- job) {
	where := map[string]int64{}
	for _, t := range s.Tensors {
		where[t.Name] = t.Begin
	}
	byFirst := map[string]*Tensor{}
	for i := range p.Tensors {
		for _, o := range p.Tensors[i].Outputs {
			if _, ok := where[o.Name]; ok {
				byFirst[o.Name] = &p.Tensors[i]
			}
		}
	}
	sent := map[*Tensor]bool{}
	for _, placed := range s.Tensors {
		t := byFirst[placed.Name]
		if sent[t] {
			continue
		}
		sent[t] = true
		for _, j := range p.blocks(t, where, reuse) {
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
	}
}

// blocks cuts a tensor into jobs.
func (p *Plan) blocks(t *Tensor, where map[string]int64, reuse *reuse) []job {
	at := make([]int64, len(t.Outputs))
	for i, o := range t.Outputs {
		at[i] = -1 // in another shard
		if offset, ok := where[o.Name]; ok {
			at[i] = offset
		}
	}
	if f := reuse.find(t); f != nil {
		return []job{{tensor: t, at: at, rows: t.rows, from: f}}
	}
	step := max(1, blockBytes/max(1, t.cols*4))
	var jobs []job
	for row := int64(0); row < t.rows; row += step {
		jobs = append(jobs, job{tensor: t, at: at, row: row, rows: min(step, t.rows-row)})
	}
	return jobs
}

// sources are the open weight files.
type sources struct{ files []*os.File }

func (p *Plan) openSources() (*sources, error) {
	s := &sources{}
	for _, f := range p.Source.Weights.Files {
		file, err := os.Open(f.Path)
		if err != nil {
			s.close()
			return nil, err
		}
		s.files = append(s.files, file)
	}
	return s, nil
}

func (s *sources) close() {
	for _, f := range s.files {
		f.Close()
	}
}

// worker does jobs, with buffers of its own.
type worker struct {
	plan    *Plan
	env     WriteEnv
	inputs  *sources
	out     *os.File
	behind  *behind
	in, tmp []byte
	sources [3][]byte // the block, as read
	made    [3][]byte // room for what is computed
	results [3][]byte // what is to be written: views of the two above
}

func (k *worker) do(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if j.from != nil {
		return k.copyFound(ctx, j)
	}
	if err := k.make(j); err != nil {
		return err
	}
	var read int64
	for i := range j.tensor.From {
		read += int64(len(k.sources[i]))
	}
	k.env.Progress(read)
	for i, o := range j.tensor.Outputs {
		if j.at[i] < 0 {
			continue
		}
		if err := k.write(k.results[i], j.at[i]+outputOffset(j.tensor, o, j.row)); err != nil {
			return err
		}
	}
	return nil
}

// outputOffset is where a row of the tensor begins in one of its outputs.
func outputOffset(t *Tensor, o Output, row int64) int64 {
	return outputBytes(o) / t.rows * row
}

func outputBytes(o Output) int64 {
	bits, _ := safetensors.DTypeSize(o.DType)
	n := int64(bits / 8)
	for _, d := range o.Shape {
		n *= d
	}
	return n
}

// write writes a block and tells the hasher. Offsets are known beforehand, so workers never wait for one another.
func (k *worker) write(b []byte, at int64) error {
	if _, err := k.out.WriteAt(b, at); err != nil {
		return err
	}
	k.behind.wrote(at, int64(len(b)))
	return nil
}

// make reads a block of the sources and leaves the results in k.results.
func (k *worker) make(j job) error {
	t := j.tensor
	for i, name := range t.From {
		b, err := k.read(i, name, j)
		if err != nil {
			return err
		}
		k.sources[i] = b
	}
	to, _ := quant.ParseFloat(t.DType)
	rows, cols := int(j.rows), int(t.cols)
	switch {
	case t.Op == OpQuantize:
		return k.quantize(j, to, rows, cols)
	case t.Op == OpDequantize:
		k.dequantize(t, to, rows, cols)
	case t.Scheme.Bits != 0: // a layer that is quantized already
		k.results[0] = k.sources[0]
		for i := 1; i < len(t.From); i++ {
			k.results[i] = k.sources[i]
			if t.Op == OpCast {
				k.results[i] = castTo(to, k.sources[i], t.from)
			}
		}
	default:
		k.warnNonFinite(t, k.sources[0], j)
		if t.Op == OpCopy {
			k.results[0] = k.sources[0]
			return nil
		}
		k.results[0] = grow(&k.made[0], len(k.sources[0])/t.from.Size()*to.Size())
		quant.Cast(k.results[0], to, k.sources[0], t.from)
	}
	return nil
}

// read reads the block's rows of one source tensor.
func (k *worker) read(i int, name string, j job) ([]byte, error) {
	file, s, _ := k.plan.Source.Weights.Find(name)
	perRow := s.Bytes() / j.tensor.rows
	b := grow(&k.sources[i], int(perRow*j.rows))
	n, err := k.inputs.files[file].ReadAt(b, s.Begin+perRow*j.row)
	if n == len(b) {
		return b, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = &source.Error{What: k.plan.Source.Weights.Files[file].Path + " became shorter while it was read", Do: "run again when it is complete"}
	}
	return nil, err
}

func grow(b *[]byte, n int) []byte {
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return *b
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

func (k *worker) dequantize(t *Tensor, to quant.Float, rows, cols int) {
	p := quant.Packed{Weight: k.sources[0], Scales: k.sources[1]}
	if t.Scheme.HasBiases() {
		p.Biases = k.sources[2]
		if to != t.from { // scales and biases are cast before, as mlx_lm does
			p.Scales = castTo(to, p.Scales, t.from)
			p.Biases = castTo(to, p.Biases, t.from)
		}
	}
	k.results[0] = grow(&k.made[0], rows*cols*to.Size())
	t.Scheme.Dequantize(k.results[0], p, to, rows, cols)
}

func castTo(to quant.Float, src []byte, from quant.Float) []byte {
	dst := make([]byte, len(src)/from.Size()*to.Size())
	quant.Cast(dst, to, src, from)
	return dst
}

// warnNonFinite reports NaN and infinities where weights are only copied or cast.
func (k *worker) warnNonFinite(t *Tensor, b []byte, j job) {
	if i, found := quant.FirstNonFinite(b, t.from); found {
		k.env.Warn(fmt.Sprintf("tensor %s has a weight that is not a finite number, in row %d, column %d", t.Param, j.row+int64(i)/t.cols, int64(i)%t.cols))
	}
}

// copyFound copies a tensor's outputs from a blob that has them.
func (k *worker) copyFound(ctx context.Context, j job) error {
	f, err := os.Open(j.from.path)
	if err != nil {
		return err
	}
	defer f.Close()
	for i, o := range j.tensor.Outputs {
		if j.at[i] < 0 {
			continue
		}
		for done := int64(0); done < outputBytes(o); {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			n := min(4*blockBytes, outputBytes(o)-done)
			if err := copyRange(k.out, j.at[i]+done, f, j.from.at[i]+done, n, &k.in); err != nil {
				return fmt.Errorf("cannot copy %s from the cache: %w", o.Name, err)
			}
			k.behind.wrote(j.at[i]+done, n)
			done += n
		}
	}
	var bytes int64
	for _, name := range j.tensor.From {
		_, s, _ := k.plan.Source.Weights.Find(name)
		bytes += s.Bytes()
	}
	k.env.Progress(bytes)
	return nil
}

// copyRange copies n bytes between files: in the kernel where it can, which halves the time, else through room.
func copyRange(dst *os.File, to int64, src *os.File, from, n int64, room *[]byte) error {
	if copyInKernel(dst, to, src, from, n) {
		return nil
	}
	b := grow(room, int(n))
	if _, err := src.ReadAt(b, from); err != nil {
		return err
	}
	_, err := dst.WriteAt(b, to)
	return err
}

// writeSmall writes config.json, the index, copies of small files, and the manifest over all.
func (p *Plan) writeSmall(w WriteEnv, files []step.File) ([]step.File, error) {
	add := func(name string, data []byte, describe bool) error {
		if err := os.WriteFile(w.Stage.Path(name), data, 0o644); err != nil {
			return err
		}
		files = append(files, step.File{Path: name, Digest: cache.Digest(sha256.Sum256(data)), Size: int64(len(data)), Describe: describe})
		return nil
	}
	if err := add("config.json", p.Config, false); err != nil {
		return nil, err
	}
	if err := add(safetensors.IndexName, p.Index, false); err != nil {
		return nil, err
	}
	for _, name := range p.Source.Copies {
		data, err := os.ReadFile(filepath.Join(p.Source.Dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if err := add(name, data, false); err != nil {
			return nil, err
		}
	}
	manifest, err := p.manifest(w.Inputs, files)
	if err != nil {
		return nil, err
	}
	err = add(ManifestName, manifest, true)
	return files, err
}
