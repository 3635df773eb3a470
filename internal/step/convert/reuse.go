package convert

import (
	"encoding/json"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// reuse finds tensors that were made before. What was made is known by an id (the digests of its sources, what was done, in which arithmetic); the cache's memo leads from the id to a table, a small
// blob that says where each id's outputs lie in which blobs. Anything missing on the way only means that the tensor is made again.
type reuse struct {
	plan   *Plan
	env    WriteEnv
	tables map[cache.Digest]table
	placed map[string]placed // by output name: where this conversion puts it
	mu     sync.Mutex
}

// table maps a tensor's id to its outputs.
type table map[string][]placed

// placed is where an output lies.
type placed struct {
	Blob  cache.Digest `json:"blob"`
	At    int64        `json:"at"`
	Bytes int64        `json:"bytes"`
}

// found is a tensor that need not be made: the file that has it, and where each output begins in it.
type found struct {
	path string
	at   []int64
}

func newReuse(p *Plan, w WriteEnv) *reuse {
	return &reuse{plan: p, env: w, tables: map[cache.Digest]table{}, placed: map[string]placed{}}
}

// id of what a tensor is; ok is false when its sources' digests are not known.
func (r *reuse) id(t *Tensor) (id cache.Digest, ok bool) {
	k := cache.NewKey("tensor")
	k.Code(Code, quant.Code)
	k.Param("op", t.Op)
	k.Param("scheme", t.Scheme.String())
	k.Param("dtype", t.DType)
	k.Param("profile", quant.Profile)
	k.Param("shape", []any{t.rows, t.cols})
	for i, name := range t.From {
		d, ok := r.env.Digests[name]
		if !ok {
			return id, false
		}
		k.Input([]string{"weight", "scales", "biases"}[i], d)
		_, s, _ := r.plan.Source.Weights.Find(name)
		k.Param([]string{"from.weight", "from.scales", "from.biases"}[i], s.DType)
	}
	return k.Sum(), true
}

// find a tensor whose outputs all lie in one trusted blob.
func (r *reuse) find(t *Tensor) *found {
	id, ok := r.id(t)
	if !ok {
		return nil
	}
	d, ok := r.env.Cache.Memo(id)
	if !ok {
		return nil
	}
	outputs, ok := r.table(d)[id.String()]
	if !ok || len(outputs) != len(t.Outputs) {
		return nil
	}
	path, size, err := r.env.Cache.Blob(outputs[0].Blob)
	if err != nil {
		return nil
	}
	f := &found{path: path}
	for i, o := range outputs {
		if o.Blob != outputs[0].Blob || o.Bytes != outputBytes(t.Outputs[i]) || o.At < 0 || o.At+o.Bytes > size {
			return nil
		}
		f.at = append(f.at, o.At)
	}
	return f
}

const maxTable = 64 << 20

func (r *reuse) table(d cache.Digest) table {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.tables[d]; ok {
		return t
	}
	var t table
	if data, err := r.env.Cache.ReadBlob(d, maxTable); err == nil {
		_ = json.Unmarshal(data, &t) // what cannot be read finds nothing
	}
	r.tables[d] = t
	return t
}

// made notes where a finished shard has its tensors.
func (r *reuse) made(s safetensors.Shard, blob cache.Digest) {
	for _, t := range s.Tensors {
		r.placed[t.Name] = placed{blob, t.Begin, t.Bytes()}
	}
}

// remember writes the table of this conversion.
func (r *reuse) remember() error {
	if r.env.Digests == nil {
		return nil
	}
	t := table{}
	var ids []cache.Digest
	for i := range r.plan.Tensors {
		tensor := &r.plan.Tensors[i]
		id, ok := r.id(tensor)
		if !ok {
			continue
		}
		var outputs []placed
		for _, o := range tensor.Outputs {
			outputs = append(outputs, r.placed[o.Name])
		}
		t[id.String()] = outputs
		ids = append(ids, id)
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	d, err := r.env.Cache.AddBytes(data)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r.env.Cache.SetMemo(id, d)
	}
	return nil
}
