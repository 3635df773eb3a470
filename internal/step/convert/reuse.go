package convert

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// reuse finds tensors that were made before. What was made is known by an id (the digests of its sources, what was done, in which arithmetic); the cache's memo leads from the id to a table, a small
// blob that says where each id's outputs lie in which blobs, and what their blocks' checksums are. Anything missing on the way only means that the tensor is made again.
type reuse struct {
	plan   *Plan
	env    WriteEnv
	ids    []cache.Digest // by tensor; zero = not known
	tables map[cache.Digest]table
	files  map[cache.Digest]*os.File
	sums   [][]uint32 // of this conversion's blocks, by tensor

	mu         sync.Mutex
	distrusted map[cache.Digest]bool
}

// table maps a tensor's id to what was made.
type table map[string]tableEntry

// tableEntry is a tensor that was made: where its outputs lie, and the CRC-32C of each of its blocks, four bytes, little-endian.
type tableEntry struct {
	Outputs []placed `json:"outputs"`
	Rows    int64    `json:"rows"` // of a block
	Sums    []byte   `json:"sums"`
}

// placed is where an output lies.
type placed struct {
	Blob  cache.Digest `json:"blob"`
	At    int64        `json:"at"`
	Bytes int64        `json:"bytes"`
}

// found is a tensor that need not be made: by output the file that has it, and where it begins there; by block the checksum.
type found struct {
	blobs []cache.Digest
	files []*os.File
	at    []int64
	sums  []uint32
}

func newReuse(p *Plan, w WriteEnv) *reuse {
	r := &reuse{plan: p, env: w, tables: map[cache.Digest]table{}, files: map[cache.Digest]*os.File{}, distrusted: map[cache.Digest]bool{}}
	if !r.on() {
		return r
	}
	r.ids = make([]cache.Digest, len(p.Tensors))
	r.sums = make([][]uint32, len(p.Tensors))
	for i := range p.Tensors {
		r.ids[i] = r.id(&p.Tensors[i])
		r.sums[i] = make([]uint32, p.Tensors[i].blocks())
	}
	return r
}

// on reports whether tensors are looked up and remembered.
func (r *reuse) on() bool { return r.env.Digests != nil }

func (r *reuse) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// id of what a tensor is; zero when its sources' digests are not known.
func (r *reuse) id(t *Tensor) cache.Digest {
	k := cache.NewKey("tensor")
	k.Code(Code, quant.Code, "table/3")
	k.Param("op", t.Op)
	k.Param("scheme", t.Scheme.String())
	k.Param("dtype", t.DType)
	k.Param("profile", quant.Profile)
	k.Param("shape", []any{t.rows, t.cols})
	for i, name := range t.From {
		d, ok := r.env.Digests[name]
		if !ok {
			return cache.Digest{}
		}
		role := [...]string{"weight", "scales", "biases"}[i]
		_, s, _ := r.plan.Source.Weights.Find(name)
		k.Input(role, d)
		k.Param("from."+role, s.DType)
	}
	return k.Sum()
}

// find a tensor whose outputs lie in trusted blobs.
func (r *reuse) find(tensor int) *found {
	if !r.on() || r.ids[tensor] == (cache.Digest{}) {
		return nil
	}
	d, ok := r.env.Cache.Memo(r.ids[tensor])
	if !ok {
		return nil
	}
	t := &r.plan.Tensors[tensor]
	e, ok := r.table(d)[r.ids[tensor].String()]
	if !ok || len(e.Outputs) != len(t.Outputs) || e.Rows != t.blockRows() || len(e.Sums) != 4*t.blocks() {
		return nil
	}
	f := &found{sums: make([]uint32, t.blocks())}
	for i := range f.sums {
		f.sums[i] = binary.LittleEndian.Uint32(e.Sums[4*i:])
	}
	for i, o := range e.Outputs {
		file := r.open(o.Blob)
		if file == nil || o.Bytes != outputBytes(t.Outputs[i]) || o.At < 0 {
			return nil
		}
		f.blobs, f.files, f.at = append(f.blobs, o.Blob), append(f.files, file), append(f.at, o.At)
	}
	return f
}

// open a blob, nil when there is none that is trusted as it is: making tensors again takes less time than hashing the blob would, which another folder's end (it had a hard link) is enough to ask for.
func (r *reuse) open(blob cache.Digest) *os.File {
	if f, ok := r.files[blob]; ok {
		return f
	}
	path, _, ok := r.env.Cache.KnownBlob(blob)
	if !ok {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	r.files[blob] = f
	return f
}

// distrust a tensor's blobs, of which one is not what it was: the next step that takes one has it hashed.
func (r *reuse) distrust(f *found) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, blob := range f.blobs {
		if r.distrusted[blob] {
			continue
		}
		r.distrusted[blob] = true
		if info, err := f.files[i].Stat(); err == nil {
			r.env.Cache.SetMemo(cache.StatKey(info), cache.Digest{})
		}
		if r.env.Warn != nil {
			r.env.Warn(fmt.Sprintf("%s of the cache is damaged; what it held is made again (mlxbuild cache verify looks for more)", blob.Short()))
		}
	}
}

const maxTable = 256 << 20

func (r *reuse) table(d cache.Digest) table {
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

// made notes a finished block.
func (r *reuse) made(tensor, block int, sum uint32) {
	if r.on() {
		r.sums[tensor][block] = sum // each block has one worker
	}
}

// remember writes the table of this conversion. Tensors of which there was something to say are left out, so that it is said again. A table that cannot be written only costs time.
func (r *reuse) remember(places [][]spot, files []step.File, warned *warnings) {
	if !r.on() {
		return
	}
	t := table{}
	var ids []cache.Digest
	for i := range r.plan.Tensors {
		if r.ids[i] == (cache.Digest{}) || warned.of(i) {
			continue
		}
		tensor := &r.plan.Tensors[i]
		e := tableEntry{Rows: tensor.blockRows()}
		for j, s := range places[i] {
			e.Outputs = append(e.Outputs, placed{files[s.shard].Digest, s.at, outputBytes(tensor.Outputs[j])})
		}
		for _, sum := range r.sums[i] {
			e.Sums = binary.LittleEndian.AppendUint32(e.Sums, sum)
		}
		t[r.ids[i].String()] = e
		ids = append(ids, r.ids[i])
	}
	data, err := json.Marshal(t)
	if err != nil {
		return
	}
	d, err := r.env.Cache.AddBytes(data)
	if err != nil {
		return
	}
	for _, id := range ids {
		r.env.Cache.SetMemo(id, d)
	}
}
