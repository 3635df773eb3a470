package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/fault"
)

// storeCommand makes this program a child of itself that does store.
const storeCommand = "store-for-power-cuts"

// store does with small contents what a build does with a cache: steps' outputs and records, small blobs, links into a build folder, a file that is replaced again and again, and the memo. What is
// small is quickly written back after a power cut, so that very many can be tried.
func store(dir string) error {
	rng := rand.New(rand.NewPCG(5, 6))
	content := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.IntN(255)) + 1 // no zeros: they are what losses look like
		}
		return b
	}
	for round := range 3 {
		c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{})
		if err != nil {
			return err
		}
		if err := pointer(dir, round); err != nil {
			return err
		}
		table := content(700)
		if _, err := c.AddBytes(table); err != nil {
			return err
		}
		outputs := [][]byte{content(100), content(5000 + 512*round), content(9000)}
		if round == 1 {
			outputs = append(outputs, table) // a blob that was not synced becomes an output
		}
		r, err := storeStep(c, fmt.Sprint("step ", round), outputs)
		if err != nil {
			return err
		}
		build := filepath.Join(dir, "build", fmt.Sprint(round))
		if err := os.MkdirAll(build, 0o755); err != nil {
			return err
		}
		for i, out := range r.Outputs {
			if _, err := c.Place(out.Digest, filepath.Join(build, out.Path), i == 0); err != nil {
				return err
			}
		}
		c.AddRoot(build, []cache.Digest{r.Key})
		if err := c.Close(); err != nil {
			return err
		}
	}
	return pointer(dir, 3)
}

// pointerName is a file that always has to say something whole.
const pointerName = "mlxbuild.lock"

func pointer(dir string, round int) error {
	return atomicfile.Write(filepath.Join(dir, pointerName), pointerText(round), 0o644)
}

func pointerText(round int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("round %d\n", round)), 200)
}

// storeStep is what the executor does when a step has run.
func storeStep(c *cache.Cache, name string, outputs [][]byte) (*cache.Record, error) {
	stage, err := c.NewStage()
	if err != nil {
		return nil, err
	}
	defer stage.Remove()
	k := cache.NewKey("soak")
	k.Param("name", name)
	r := &cache.Record{Key: k.Sum(), KeyText: k.Text(), Step: name, Tree: cache.SumBytes([]byte(name)), Seconds: 1}
	for i, b := range outputs {
		out := cache.Output{Path: fmt.Sprint("out", i), Digest: cache.SumBytes(b), Size: int64(len(b)), Mode: 0o644}
		if err := os.WriteFile(stage.Path(out.Path), b, 0o644); err != nil {
			return nil, err
		}
		if err := c.AddFile(stage.Path(out.Path), out.Digest); err != nil {
			return nil, err
		}
		r.Outputs = append(r.Outputs, out)
	}
	return r, c.AddRecord(r)
}

// power cuts the power. The journals are of two programs: the real one, building a recipe, of which every prefix is tried in every way, and store, of which as many states as there is time for.
func (s *soak) power() (*findings, error) {
	f := s.newFindings("states", "builds")
	started := time.Now()
	small, err := s.storeJournal()
	if err != nil {
		return nil, err
	}
	if err := s.prefixes(f, small, 4, nil); err != nil {
		return f, err
	}
	if err := s.buildCuts(f); err != nil {
		return f, err
	}
	rng := rand.New(rand.NewPCG(s.seed, 2))
	var mu sync.Mutex
	most := 100_000
	if s.sample > 0 {
		most = s.sample
	}
	return f, s.each(most, func(i int, dir string) error {
		if s.overAfter(started, 60) {
			return nil
		}
		mu.Lock()
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
		mu.Unlock()
		return s.cut(f, small, small.crash(own.IntN(len(small.ops)+1), loseSome, own), dir, nil)
	})
}

func (s *soak) storeJournal() (*journal, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.work, "store")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	defer removeAll(dir)
	j := newJournal(dir)
	log, err := os.Create(filepath.Join(s.work, "store.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(self, storeCommand, dir)
	cmd.Stderr = log
	r, err := fault.Run(cmd, fault.Plan{Counts: j.counts, Record: j.record})
	if err != nil {
		return nil, err
	}
	if r.Code != 0 {
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("store: exit code %d\n%s", r.Code, said)
	}
	return j, j.agrees(dir)
}

// agrees compares the journal with the files that the program left: a journal that has missed something proves nothing.
func (j *journal) agrees(dir string) error {
	var check func(n *inode, path string) error
	check = func(n *inode, path string) error {
		if !n.dir {
			data, err := os.ReadFile(path)
			if err == nil && !bytes.Equal(data, n.data) {
				err = fmt.Errorf("the journal has other bytes of %s", path)
			}
			return err
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		if len(entries) != len(n.entries) {
			return fmt.Errorf("the journal has %d names in %s, and there are %d", len(n.entries), path, len(entries))
		}
		for name, e := range n.entries {
			if err := check(e, filepath.Join(path, name)); err != nil {
				return err
			}
		}
		return nil
	}
	return check(j.top, dir)
}

// prefixes tries every prefix of a journal in every way, the random one several times.
func (s *soak) prefixes(f *findings, j *journal, random int, then func(dir string) string) error {
	type cut struct {
		n   int
		how loss
	}
	var cuts []cut
	for n := range len(j.ops) + 1 {
		for how := range losses {
			times := 1
			if how == loseSome {
				times = random
			}
			for range times {
				cuts = append(cuts, cut{n, how})
			}
		}
	}
	s.mix(len(cuts), func(i, k int) { cuts[i], cuts[k] = cuts[k], cuts[i] })
	return s.each(len(cuts), func(i int, dir string) error {
		return s.cut(f, j, j.crash(cuts[i].n, cuts[i].how, rand.New(rand.NewPCG(s.seed, uint64(i)))), dir, then)
	})
}

// cut writes a state down and reads it as the next run would. then, if there is one, goes on from there and says what is wrong.
func (s *soak) cut(f *findings, j *journal, st state, dir string, then func(dir string) string) error {
	f.add("states", 1)
	before := ""
	if st.at > 0 {
		before = j.ops[st.at-1].what
	}
	where := fmt.Sprintf("power cut after operation %d (%s), loss %d", st.at, before, st.loss)
	if problem, err := readState(st, dir); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	} else if problem != "" {
		f.bad("%s: %s", where, problem)
	}
	if then != nil {
		f.add("builds", 1)
		if problem := then(dir); problem != "" {
			f.bad("%s: %s", where, problem)
		}
	}
	return nil
}

// readState writes a state to dir and reads everything in it through the cache. The memo is made to believe that metadata is as the program left it, also of files whose bytes are not.
func readState(st state, dir string) (problem string, err error) {
	files := map[string]*left{}
	if err := st.write(dir, func(path string, l *left) { files[path] = l }); err != nil {
		return "", err
	}
	c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{})
	if err != nil {
		return "the cache cannot be opened: " + err.Error(), nil
	}
	for path, l := range files {
		key, ok := l.of.metaAt(st.at)
		if !ok {
			continue
		}
		if d, known := c.Memo(key); known {
			if info, err := os.Lstat(path); err == nil {
				c.SetMemo(cache.StatKey(info), d)
			}
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, pointerName)); err == nil {
		whole := false
		for round := range 4 {
			whole = whole || bytes.Equal(data, pointerText(round))
		}
		if !whole {
			return fmt.Sprintf("%s has %d bytes that nobody wrote", pointerName, len(data)), nil
		}
	}
	return readAll(c, dir)
}

// readAll reads every blob and record of a cache, and says what is wrong.
func readAll(c *cache.Cache, dir string) (string, error) {
	blobs, err := filepath.Glob(filepath.Join(dir, "cache", "blobs", "*", "*"))
	if err != nil {
		return "", err
	}
	for _, path := range blobs {
		d, err := cache.ParseDigest(filepath.Base(path))
		if err != nil {
			continue
		}
		got, size, err := c.Blob(d) // before ReadBlob, which takes wrong ones away
		if errors.Is(err, cache.ErrMissing) {
			continue
		}
		if err != nil {
			return err.Error(), nil
		}
		data, err := os.ReadFile(got)
		if err != nil {
			return "", err
		}
		if cache.SumBytes(data) != d || int64(len(data)) != size {
			return fmt.Sprintf("Blob believes wrong bytes of %s", d.Short()), nil
		}
		if small, err := c.ReadBlob(d, 1<<30); err == nil && cache.SumBytes(small) != d {
			return "ReadBlob gives wrong bytes of " + d.Short(), nil
		}
	}
	problem := ""
	err = c.Records(func(r *cache.Record) bool {
		if cache.SumBytes([]byte(r.KeyText)) != r.Key {
			problem = "a record is read as what it is not"
		}
		return problem == ""
	})
	return problem, err
}

// buildCuts cuts the power of a build of the real program, at every prefix, and builds again.
func (s *soak) buildCuts(f *findings) error {
	stages, err := s.stages()
	if err != nil {
		return err
	}
	sc, err := stages["empty"].copyTo(filepath.Join(s.work, "cut"))
	if err != nil {
		return err
	}
	j := newJournal(sc.dir)
	for _, name := range []string{"r.yaml", "r2.yaml", "all.yaml", "hub.yaml"} {
		n := j.node(false)
		if n.data, err = os.ReadFile(filepath.Join(sc.dir, name)); err != nil {
			return err
		}
		j.ops = append(j.ops, op{kind: opLink, dir: j.top, name: name, node: n}, op{kind: opWrite, node: n, data: n.data}, op{kind: opSync, node: n}, op{kind: opSync, node: j.top})
		j.top.entries[name] = n
	}
	begin := len(j.ops)
	p := proof{trial: trial{name: "build"}, args: []string{"build", "r.yaml"}}
	r, said, err := p.traced(sc, fault.Plan{Counts: j.counts, Record: j.record})
	if err != nil || r.Code != 0 {
		return fmt.Errorf("build: exit code %d, %v\n%s", r.Code, err, said)
	}
	if err := j.agrees(sc.dir); err != nil {
		return err
	}
	want, err := sc.outputs()
	if err != nil {
		return err
	}
	again := func(dir string) string {
		sc := scene{bin: s.bin, dir: dir, env: s.env()}
		if _, err := sc.run("build", "r.yaml"); err != nil {
			return "the next build: " + err.Error()
		}
		return sc.check(want)
	}
	type cut struct {
		n   int
		how loss
	}
	var cuts []cut
	for n := begin; n <= len(j.ops); n++ {
		for how := range losses {
			cuts = append(cuts, cut{n, how})
		}
	}
	cuts = spread(cuts, s.sample/8, s.seed)
	s.mix(len(cuts), func(i, k int) { cuts[i], cuts[k] = cuts[k], cuts[i] })
	removeAll(sc.dir)
	return s.each(len(cuts), func(i int, dir string) error {
		st := j.crash(cuts[i].n, cuts[i].how, rand.New(rand.NewPCG(s.seed, uint64(i))))
		return s.cut(f, j, st, dir, again)
	})
}
