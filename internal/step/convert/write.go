package convert

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/mlxbuild/mlxbuild/internal/cache"
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
	Stats    *Stats     // may be nil
	Seat     *step.Seat // where other conversions of the source are met; may be nil
}

// Stats say where the bytes of a conversion came from.
type Stats struct {
	Source atomic.Int64 // bytes of source tensors that were read
	Cache  atomic.Int64 // bytes of outputs that were copied from blobs
}

// Write makes the files of a plan in the stage, hashed: one pass over the source's tensors, on all cores, shared with the other conversions at the seat. Tensors that were made before, by whatever conversion, are copied from the blobs that
// have them, and their source is not read.
func (p *Plan) Write(ctx context.Context, w WriteEnv) ([]step.File, error) {
	before, err := p.sourceState()
	if err != nil {
		return nil, err
	}
	if w.Stats == nil {
		w.Stats = &Stats{}
	}
	r := &run{plan: p, env: w, reuse: newReuse(p, w), warnings: newWarnings(), places: p.places(), passed: make(chan struct{}), failed: make(chan struct{})}
	defer r.reuse.close()
	small := p.startSmall(w)
	files, err := r.weights(ctx)
	beside := <-small
	if err == nil {
		err = beside.err
	}
	if err != nil {
		return nil, err
	}
	after, err := p.sourceState()
	if err != nil || after != before {
		return nil, &source.Error{What: p.Source.Dir + " changed while it was converted", Do: "run again when it is complete"}
	}
	r.warnings.tell(p, w.Warn)
	r.reuse.remember(r.places, files, r.warnings)
	files = append(files, beside.files...)
	manifest, err := p.manifest(w.Inputs, files)
	if err != nil {
		return nil, err
	}
	last, err := writeFile(w, ManifestName, manifest)
	last.Describe = true
	return append(files, last), err
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

// spot is where an output begins.
type spot struct {
	shard int
	at    int64
}

// places are the spots of all tensors' outputs.
func (p *Plan) places() [][]spot {
	where := map[string]spot{}
	for i, s := range p.Shards {
		for _, t := range s.Tensors {
			where[t.Name] = spot{i, t.Begin}
		}
	}
	places := make([][]spot, len(p.Tensors))
	for i, t := range p.Tensors {
		for _, o := range t.Outputs {
			places[i] = append(places[i], where[o.Name])
		}
	}
	return places
}

// run is one Write.
type run struct {
	plan     *Plan
	env      WriteEnv
	reuse    *reuse
	warnings *warnings
	places   [][]spot
	outputs  []*output
	passed   chan struct{} // closed when the pass over the source is through
	failed   chan struct{} // closed with the first error
	touched  sync.RWMutex  // read-locked by who works for this conversion

	mu  sync.Mutex
	err error
}

// fail notes the first error.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != nil {
		r.err = err
		close(r.failed)
	}
}

func (r *run) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// enter lets a worker of the pass at what is this conversion's until it leaves; false when the conversion has failed.
func (r *run) enter() bool {
	r.touched.RLock()
	if r.failure() == nil {
		return true
	}
	r.touched.RUnlock()
	return false
}

func (r *run) leave() { r.touched.RUnlock() }

// untouched waits until no worker is at what is this conversion's. It has failed, so that none comes any more.
func (r *run) untouched() {
	r.touched.Lock()
	defer r.touched.Unlock()
}

// weights writes all shards at once, because a tensor's weight, scales and biases may lie in different ones.
func (r *run) weights(ctx context.Context) ([]step.File, error) {
	defer r.close()
	for _, s := range r.plan.Shards {
		r.outputs = append(r.outputs, newOutput(s, r.env.Stage.Path(s.Name)))
	}
	if err := r.together(ctx, r.env.Seat); err != nil {
		return nil, err
	}
	var files []step.File
	for _, o := range r.outputs {
		d, err := o.finish()
		if err != nil {
			return nil, err
		}
		files = append(files, step.File{Path: o.shard.Name, Digest: d, Size: o.shard.Size})
	}
	return files, nil
}

func (r *run) close() {
	for _, o := range r.outputs {
		o.stop()
	}
}

func (s spot) before(t spot) bool { return s.shard < t.shard || s.shard == t.shard && s.at < t.at }

// blockRows is how many rows of a tensor a block has; the last one may have fewer.
func (t *Tensor) blockRows() int64 { return max(1, blockBytes/max(1, t.cols*4)) }

func (t *Tensor) blocks() int { return int((t.rows + t.blockRows() - 1) / t.blockRows()) }

// outputOffset is where a row of the tensor begins in one of its outputs.
func outputOffset(t *Tensor, o Output, row int64) int64 { return outputBytes(o) / t.rows * row }

func outputBytes(o Output) int64 {
	bits, _ := safetensors.DTypeSize(o.DType)
	n := int64(bits / 8)
	for _, d := range o.Shape {
		n *= d
	}
	return n
}

// beside are the files that lie beside the weights.
type beside struct {
	files []step.File
	err   error
}

// startSmall writes config.json, the index and the copies of small files while the weights are written: making files takes a disk its time.
func (p *Plan) startSmall(w WriteEnv) <-chan beside {
	done := make(chan beside, 1)
	go func() {
		files, err := p.writeSmall(w)
		done <- beside{files, err}
	}()
	return done
}

func (p *Plan) writeSmall(w WriteEnv) (files []step.File, err error) {
	add := func(name string, data []byte) {
		if err == nil {
			var f step.File
			f, err = writeFile(w, name, data)
			files = append(files, f)
		}
	}
	add("config.json", p.Config)
	add(safetensors.IndexName, p.Index)
	for _, name := range p.Source.Copies {
		data, err := p.readCopy(w, name)
		if err != nil {
			return nil, err
		}
		add(name, data)
	}
	return files, err
}

// readCopy reads a small file of the source, which has to be the one that is in the key.
func (p *Plan) readCopy(w WriteEnv, name string) ([]byte, error) {
	path := filepath.Join(p.Source.Dir, filepath.FromSlash(name))
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, in := range w.Inputs {
		if in.Role == name && in.Digest != cache.SumBytes(data) {
			return nil, &source.Error{What: path + " changed while the model was converted", Do: "run again when it is complete"}
		}
	}
	return data, nil
}

func writeFile(w WriteEnv, name string, data []byte) (step.File, error) {
	return step.File{Path: name, Digest: cache.SumBytes(data), Size: int64(len(data))}, os.WriteFile(w.Stage.Path(name), data, 0o644)
}
