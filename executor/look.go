package executor

import (
	"runtime"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// sight is what looking at a step shows. Looking changes nothing.
type sight struct {
	known   bool // the key is known
	text    string
	key     cache.Digest
	settled bool           // a record for the key is there, so tree is known
	tree    cache.Digest   // digest of the output
	placed  bool           // the output folder is in place (true for steps without one)
	outputs []cache.Output // of a step without a folder
}

// looker looks at steps. The state of the output folders is taken for all of them at once, on every core, while keys are worked out.
type looker struct {
	graph  *planner.Graph
	cache  *cache.Cache
	prints []cache.Digest // of output folders by step; zero where there is none
	ready  chan struct{}  // closed when prints is whole
	again  func(step.ID) bool
	taken  func(step.ID) *Taken
}

// Taken is the output of a step that was made elsewhere.
type Taken struct {
	Tree  cache.Digest
	Dir   string            // where its files lie, as of a step with a folder
	Files map[string]string // path of each by name, as of a step whose outputs lie in the cache only
}

func newLooker(g *planner.Graph, o Options, ids []step.ID) *looker {
	if o.Again == nil {
		o.Again = func(step.ID) bool { return false }
	}
	if o.Taken == nil {
		o.Taken = func(step.ID) *Taken { return nil }
	}
	l := &looker{graph: g, cache: o.Cache, again: o.Again, taken: o.Taken, prints: make([]cache.Digest, len(g.Steps)), ready: make(chan struct{})}
	go l.takePrints(ids)
	return l
}

func (l *looker) takePrints(ids []step.ID) {
	defer close(l.ready)
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(ids)/64+1)
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(ids); i += workers {
				if folder := l.graph.Steps[ids[i]].Folder; folder != "" {
					l.prints[ids[i]], _ = Fingerprint(folder) // a folder that cannot be read is not in place
				}
			}
		}()
	}
	wg.Wait()
}

// look shows where a step stands, given its inputs' digests.
func (l *looker) look(id step.ID, inputs []cache.Digest) sight {
	s := l.graph.Steps[id]
	if t := l.taken(id); t != nil {
		return sight{known: true, settled: true, tree: t.Tree, placed: true}
	}
	if s.Source != nil {
		tree, ok := s.Source.Known(l.cache)
		return sight{known: ok, settled: ok, tree: tree, placed: ok && s.Source.Ready(l.cache)}
	}
	text, key := l.graph.Key(id, inputs)
	v := sight{known: true, text: text, key: key}
	if l.again(id) {
		return v
	}
	if s.Folder != "" {
		if tree, ok := l.cache.Memo(treeMemo(key)); ok && l.inPlace(id, key) {
			return sight{known: true, text: text, key: key, settled: true, tree: tree, placed: true}
		}
	}
	if rec, ok := l.cache.Record(key); ok && l.cache.Complete(rec) {
		v.settled, v.tree, v.placed, v.outputs = true, rec.Tree, s.Folder == "", rec.Outputs
	}
	return v
}

// inPlace reports whether the output folder is exactly as it was when the outputs of this key were put there.
func (l *looker) inPlace(id step.ID, key cache.Digest) bool {
	<-l.ready
	want, ok := l.cache.Memo(placeMemo(key, l.graph.Steps[id].Folder))
	return ok && want == l.prints[id] && want != (cache.Digest{})
}

// remembered is a guess at look for a build in which nothing changed: from the memo alone, without the output folders. untouched then says whether the guess was right.
func (l *looker) remembered(id step.ID, inputs []cache.Digest) (v sight, ok bool) {
	s := l.graph.Steps[id]
	if s.Source != nil { // nothing will run, so its content need not be there
		tree, ok := s.Source.Known(l.cache)
		return sight{known: ok, settled: ok, tree: tree}, ok
	}
	if s.Folder == "" {
		v = l.look(id, inputs)
		return v, v.settled && v.placed
	}
	text, key := l.graph.Key(id, inputs)
	tree, ok := l.cache.Memo(treeMemo(key))
	return sight{known: true, text: text, key: key, settled: true, tree: tree, placed: true}, ok
}

// Facts that the memo keeps for looking. Each is only a shortcut: without it the record is read and the outputs are put in place again.
func treeMemo(key cache.Digest) cache.Digest { return cache.SumBytes([]byte("tree\n" + key.String())) }
func placeMemo(key cache.Digest, folder string) cache.Digest {
	return cache.SumBytes([]byte("placed\n" + key.String() + "\n" + folder))
}
func lastMemo(buildDir, name string) cache.Digest {
	return cache.SumBytes([]byte("last\n" + buildDir + "\n" + name))
}
