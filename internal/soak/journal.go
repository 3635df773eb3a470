package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/fault"
)

// journal is what a program did to the files below a folder, from which come the states that a power cut can leave. The model is harsher than any file system: what was written since a file was synced may
// be there or not, block by block; a name that was made, changed or removed since its folder was synced may be as before or as after, each for itself; a file's size and times may be there before its
// bytes are. Only a rename is one thing.
type journal struct {
	root  string
	ops   []op
	files map[int]*inode // open files of the program, by descriptor
	nodes []*inode
	top   *inode
}

// inode is a file or folder as the program sees it.
type inode struct {
	id      int
	dir     bool
	data    []byte
	entries map[string]*inode
	metas   []meta
}

// meta is what a file's metadata was from an operation on.
type meta struct {
	at  int
	key cache.Digest
}

// op is one change.
type op struct {
	kind     opKind
	node     *inode
	offset   int64
	data     []byte
	dir, to  *inode // folders of names
	name, as string
	what     string // as the program called it
}

type opKind int

const (
	opWrite opKind = iota
	opTruncate
	opSync
	opLink // a name is made: a new file or folder, or a hard link
	opUnlink
	opRename
)

func newJournal(root string) *journal {
	j := &journal{root: root, files: map[int]*inode{}}
	j.top = j.node(true)
	return j
}

func (j *journal) node(dir bool) *inode {
	n := &inode{id: len(j.nodes), dir: dir}
	if dir {
		n.entries = map[string]*inode{}
	}
	j.nodes = append(j.nodes, n)
	return n
}

// find a path below the root.
func (j *journal) find(path string) *inode {
	rel, ok := strings.CutPrefix(path, j.root)
	if !ok {
		return nil
	}
	n := j.top
	for _, part := range strings.Split(strings.Trim(rel, "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n = n.entries[part]; n == nil {
			return nil
		}
	}
	return n
}

// counts the calls that the journal has to hear of: changes, and opens, so that it knows what descriptors stand for.
func (j *journal) counts(c *fault.Call) bool {
	if !strings.HasPrefix(c.Path, j.root) && !strings.HasPrefix(c.To, j.root) {
		return false
	}
	return fault.Changes(c) || c.Name == "openat"
}

// record a call that has returned.
func (j *journal) record(c *fault.Call) {
	if c.Result < 0 {
		return
	}
	what := fmt.Sprintf("%s %s", c.Name, strings.TrimPrefix(c.Path, j.root+"/"))
	dir, name := j.find(filepath.Dir(c.Path)), filepath.Base(c.Path)
	switch c.Name {
	case "openat":
		n := j.find(c.Path)
		if n == nil && dir != nil && c.Create {
			n = j.node(false)
			j.apply(op{kind: opLink, dir: dir, name: name, node: n, what: what})
		}
		if n != nil && c.Trunc && len(n.data) > 0 {
			j.apply(op{kind: opTruncate, node: n, what: what})
		}
		j.files[c.FD] = n
	case "write", "pwrite64":
		if n := j.files[c.FD]; n != nil {
			at := c.Offset
			if at < 0 { // everything here writes from the beginning to the end
				at = int64(len(n.data))
			}
			j.apply(op{kind: opWrite, node: n, offset: at, data: c.Data, what: what})
		}
	case "copy_file_range":
		if n, from := j.files[c.FD], j.files[c.From]; n != nil && from != nil && c.Result > 0 {
			at := len(n.data)
			j.apply(op{kind: opWrite, node: n, offset: int64(at), data: from.data[at : at+int(c.Result)], what: what})
		}
	case "ftruncate":
		if n := j.files[c.FD]; n != nil {
			j.apply(op{kind: opTruncate, node: n, offset: c.Size, what: what})
		}
	case "fsync", "fdatasync":
		if n := j.files[c.FD]; n != nil {
			j.apply(op{kind: opSync, node: n, what: what})
		}
	case "mkdirat":
		if dir != nil {
			j.apply(op{kind: opLink, dir: dir, name: name, node: j.node(true), what: what})
		}
	case "linkat":
		if n, to := j.find(c.Path), j.find(filepath.Dir(c.To)); n != nil && to != nil {
			j.apply(op{kind: opLink, dir: to, name: filepath.Base(c.To), node: n, what: what})
		}
	case "unlinkat":
		if dir != nil && dir.entries[name] != nil {
			j.apply(op{kind: opUnlink, dir: dir, name: name, node: dir.entries[name], what: what})
		}
	case "renameat":
		if to := j.find(filepath.Dir(c.To)); dir != nil && to != nil && dir.entries[name] != nil {
			j.apply(op{kind: opRename, dir: dir, name: name, to: to, as: filepath.Base(c.To), node: dir.entries[name], what: what + " " + filepath.Base(c.To)})
		}
	case "fchmod", "fchmodat":
	default:
		return
	}
	j.noteMeta(c)
}

// noteMeta notes the metadata of the file that a call was about.
func (j *journal) noteMeta(c *fault.Call) {
	path := c.Path
	if c.To != "" {
		path = c.To
	}
	n := j.find(path)
	info, err := os.Lstat(path)
	if n == nil || n.dir || err != nil {
		return
	}
	n.metas = append(n.metas, meta{len(j.ops), cache.StatKey(info)})
}

// apply a change as the program sees it, and keep it.
func (j *journal) apply(o op) {
	j.ops = append(j.ops, o)
	switch o.kind {
	case opWrite:
		o.node.data = written(o.node.data, o.offset, o.data)
	case opTruncate:
		o.node.data = resized(o.node.data, o.offset)
	case opLink:
		o.dir.entries[o.name] = o.node
	case opUnlink:
		delete(o.dir.entries, o.name)
	case opRename:
		delete(o.dir.entries, o.name)
		o.to.entries[o.as] = o.node
	}
}

func written(b []byte, at int64, data []byte) []byte {
	out := slices.Clone(b)
	if need := at + int64(len(data)); need > int64(len(out)) {
		out = append(out, make([]byte, need-int64(len(out)))...)
	}
	copy(out[at:], data)
	return out
}

func resized(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return slices.Clone(b[:n])
	}
	return append(slices.Clone(b), make([]byte, n-int64(len(b)))...)
}

// loss is how a power cut treats what was not synced.
type loss int

const (
	loseNothing loss = iota // also a mere kill
	loseAll
	loseBytes // names, sizes and times are there; bytes are zeros
	loseNames // bytes are there; names are as when their folders were synced
	loseSome  // each for itself, torn at 512 bytes or 4 KiB
	losses
)

// state is what a power cut leaves: the root of a tree of copies.
type state struct {
	top  *left
	at   int
	loss loss
}

// left is a file or folder after the power cut.
type left struct {
	of      *inode
	data    []byte
	entries map[string]*left
}

// crash cuts the power after n operations.
func (j *journal) crash(n int, how loss, rng *rand.Rand) state {
	type folder map[string]*inode
	durable := map[*inode]folder{j.top: {}} // of folders
	of := func(d *inode) folder {
		if durable[d] == nil {
			durable[d] = folder{}
		}
		return durable[d]
	}
	var pending []op // changes of names that may get lost
	change := func(o op) {
		switch o.kind {
		case opLink:
			of(o.dir)[o.name] = o.node
		case opUnlink:
			delete(of(o.dir), o.name)
		case opRename:
			if of(o.dir)[o.name] == o.node {
				delete(of(o.dir), o.name)
			}
			of(o.to)[o.as] = o.node
		}
	}
	settle := func(keep func(op) bool) {
		var rest []op
		for _, o := range pending {
			if keep(o) {
				change(o)
			} else {
				rest = append(rest, o)
			}
		}
		pending = rest
	}
	synced := map[*inode][]byte{}
	unsynced := map[*inode][]op{}
	now := map[*inode][]byte{}
	for _, o := range j.ops[:n] {
		switch o.kind {
		case opWrite:
			now[o.node] = written(now[o.node], o.offset, o.data)
			unsynced[o.node] = append(unsynced[o.node], o)
		case opTruncate:
			now[o.node] = resized(now[o.node], o.offset)
			unsynced[o.node] = append(unsynced[o.node], o)
		case opSync:
			if o.node.dir {
				settle(func(p op) bool { return p.dir == o.node || p.to == o.node })
			} else {
				synced[o.node] = slices.Clone(now[o.node])
				delete(unsynced, o.node)
			}
		default:
			pending = append(pending, o)
		}
	}
	names, whole := rng.IntN(2) == 0, rng.IntN(2) == 0 // of loseSome: all names are kept; a file is kept as a whole or loses its bytes as a whole
	settle(func(op) bool {
		return how == loseNothing || how == loseBytes || how == loseSome && (names || rng.IntN(2) == 0)
	})
	made := map[*inode]*left{}
	var build func(n *inode) *left
	build = func(n *inode) *left {
		if l := made[n]; l != nil {
			return l
		}
		l := &left{of: n}
		made[n] = l
		if n.dir {
			l.entries = map[string]*left{}
			for _, name := range slices.Sorted(maps.Keys(of(n))) {
				l.entries[name] = build(of(n)[name])
			}
			return l
		}
		each := how
		if how == loseSome && whole {
			each = []loss{loseNothing, loseBytes}[rng.IntN(2)]
		}
		l.data = survive(synced[n], now[n], unsynced[n], each, rng)
		return l
	}
	return state{build(j.top), n, how}
}

// survive is what a power cut leaves of a file's bytes.
func survive(synced, now []byte, unsynced []op, how loss, rng *rand.Rand) []byte {
	switch {
	case len(unsynced) == 0, how == loseNothing, how == loseNames:
		return now
	case how == loseAll:
		return synced
	case how == loseBytes:
		return resized(resized(synced, 0), int64(len(now)))
	}
	block := []int64{512, 4096}[rng.IntN(2)]
	out := slices.Clone(synced)
	switch rng.IntN(4) {
	case 0: // size first: zeros where nothing arrived
		out = resized(out, int64(len(now)))
	case 1: // cut short
		out = resized(out, int64(rng.IntN(len(now)+1))/block*block)
	}
	for _, o := range unsynced {
		if o.kind == opTruncate {
			if rng.IntN(2) == 0 {
				out = resized(out, o.offset)
			}
			continue
		}
		for at := o.offset; at < o.offset+int64(len(o.data)); {
			end := min((at/block+1)*block, o.offset+int64(len(o.data)))
			if rng.IntN(2) == 0 {
				out = written(out, at, o.data[at-o.offset:end-o.offset])
			}
			at = end
		}
	}
	return out
}

// write the state to a new folder. Files with several names get them as links. visit is told of each file.
func (s state) write(dir string, visit func(path string, l *left)) error {
	at := map[*left]string{}
	var write func(l *left, path string) error
	write = func(l *left, path string) error {
		if l.entries != nil {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(l.entries)) {
				if err := write(l.entries[name], filepath.Join(path, name)); err != nil {
					return err
				}
			}
			return nil
		}
		if first, ok := at[l]; ok {
			return os.Link(first, path)
		}
		at[l] = path
		return os.WriteFile(path, l.data, 0o644)
	}
	if err := write(s.top, dir); err != nil {
		return err
	}
	for l, path := range at {
		visit(path, l)
	}
	return nil
}

// metaAt is what the program last saw of a file's metadata before operation n.
func (n *inode) metaAt(at int) (cache.Digest, bool) {
	for i := len(n.metas) - 1; i >= 0; i-- {
		if n.metas[i].at <= at {
			return n.metas[i].key, true
		}
	}
	return cache.Digest{}, false
}
