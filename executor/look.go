package executor

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	settled bool         // a record for the key is there, so tree is known
	tree    cache.Digest // digest of the output
	placed  bool         // the output folder is in place (true for steps without one)
}

// looker looks at steps. prints holds the state of the output folders, taken for all of them at once.
type looker struct {
	graph  *planner.Graph
	cache  *cache.Cache
	prints map[step.ID]cache.Digest
}

func newLooker(g *planner.Graph, c *cache.Cache, ids []step.ID) *looker {
	return &looker{graph: g, cache: c, prints: fingerprints(g, ids)}
}

// look shows where a step stands, given its inputs' digests.
func (l *looker) look(id step.ID, inputs []cache.Digest) sight {
	s := l.graph.Steps[id]
	if s.Source != nil {
		tree, ok := s.Source.Known(l.cache)
		return sight{known: ok, settled: ok, tree: tree, placed: true}
	}
	text, key := l.graph.Key(id, inputs)
	v := sight{known: true, text: text, key: key}
	if s.Folder != "" {
		if tree, ok := l.cache.Memo(treeMemo(key)); ok && l.inPlace(id, key) {
			return sight{known: true, text: text, key: key, settled: true, tree: tree, placed: true}
		}
	}
	if rec, ok := l.cache.Record(key); ok && l.cache.Complete(rec) {
		v.settled, v.tree, v.placed = true, rec.Tree, s.Folder == ""
	}
	return v
}

// inPlace reports whether the output folder is exactly as it was when the outputs of this key were put there.
func (l *looker) inPlace(id step.ID, key cache.Digest) bool {
	print, ok := l.prints[id]
	if !ok {
		return false
	}
	want, ok := l.cache.Memo(placeMemo(key, l.graph.Steps[id].Folder))
	return ok && want == print
}

// Facts that the memo keeps for looking. Each is only a shortcut: without it the record is read and the outputs are put in place again.
func treeMemo(key cache.Digest) cache.Digest { return cache.SumBytes([]byte("tree\n" + key.String())) }
func placeMemo(key cache.Digest, folder string) cache.Digest {
	return cache.SumBytes([]byte("placed\n" + key.String() + "\n" + folder))
}
func lastMemo(buildDir, name string) cache.Digest {
	return cache.SumBytes([]byte("last\n" + buildDir + "\n" + name))
}

// fingerprints of the output folders of all given steps, taken on every core. Folders that are not there are left out.
func fingerprints(g *planner.Graph, ids []step.ID) map[step.ID]cache.Digest {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(ids)/64+1)
	found := make([]map[step.ID]cache.Digest, workers)
	for w := range workers {
		found[w] = map[step.ID]cache.Digest{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(ids); i += workers {
				if folder := g.Steps[ids[i]].Folder; folder != "" {
					if d, err := Fingerprint(folder); err == nil {
						found[w][ids[i]] = d
					}
				}
			}
		}()
	}
	wg.Wait()
	for _, more := range found[1:] {
		for id, d := range more {
			found[0][id] = d
		}
	}
	return found[0]
}

// Fingerprint is a digest of names and metadata of everything in a folder. It reads no file: equal fingerprints mean that nothing was touched.
func Fingerprint(dir string) (cache.Digest, error) {
	h := sha256.New()
	err := printFolder(dir, "", func(rel string, info fs.FileInfo) {
		k := cache.StatKey(info)
		fmt.Fprintf(h, "%s\x00", rel)
		h.Write(k[:])
	})
	return cache.Digest(h.Sum(nil)), err
}

func printFolder(dir, prefix string, add func(rel string, info fs.FileInfo)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := printFolder(filepath.Join(dir, e.Name()), prefix+e.Name()+"/", add); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		add(prefix+e.Name(), info)
	}
	return nil
}
