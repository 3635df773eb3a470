package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/fault"
)

// rivals are recipes that have some of their targets in common.
var rivals = []string{
	"{bf16: {quantize: false}, q4: {bits: 4}}",
	"{q4: {bits: 4}, q8: {bits: 8}, mx: {mode: mxfp4}}",
	"{q3: {bits: 3}, q4: {bits: 4, overrides: [{match: embed_tokens, bits: 8}]}}",
	"{a: {bits: 4}, b: {bits: 4}, q6: {bits: 6}}",
	"{bf16: {quantize: false}, mx8: {mode: mxfp8}}",
	"{q2: {bits: 2}, q3: {bits: 3}}",
	"{q5: {bits: 5}, q8: {bits: 8, group_size: 32}}",
	"{nv: {mode: nvfp4}, mx: {mode: mxfp4}}",
}

// concurrency lets processes build recipes on one cache, two and more of them in one folder, while others collect it and some are killed. In every third round locks keep nobody out.
func (s *soak) concurrency() (*findings, error) {
	processes, recipes := 64, len(rivals)
	if s.sample > 0 {
		processes, recipes = s.sample, 4
	}
	dir := filepath.Join(s.work, "rivals")
	scenes, wants, err := s.rivals(dir, recipes)
	if err != nil {
		return nil, err
	}
	defer removeAll(dir)
	f := s.newFindings("rounds", "processes")
	rng := rand.New(rand.NewPCG(s.seed, 3))
	started := time.Now()
	for round := 0; round < 1000 && (s.sample == 0 && !s.overAfter(started, 30) || s.sample > 0 && round < 6 && !s.over()); round++ {
		if round%4 == 0 {
			removeAll(scenes[0].cache())
		}
		if err := s.round(f, scenes, wants, processes, round%3 == 2, rng); err != nil {
			return f, err
		}
		f.add("rounds", 1)
	}
	return f, nil
}

// rivals makes a scene for each recipe, all with the cache of the first, and builds each once in peace.
func (s *soak) rivals(dir string, n int) (scenes []scene, wants []map[string]string, err error) {
	for i := range n {
		sc := scene{bin: s.bin, dir: filepath.Join(dir, fmt.Sprint(i)), shared: filepath.Join(dir, "cache")}
		if err := os.MkdirAll(sc.dir, 0o755); err != nil {
			return nil, nil, err
		}
		text := fmt.Sprintf("version: 1\nmodels: {m: %q}\nquantizations: %s\n", "path:"+filepath.Join(s.work, "tiny"), rivals[i])
		if err := os.WriteFile(filepath.Join(sc.dir, "r.yaml"), []byte(text), 0o644); err != nil {
			return nil, nil, err
		}
		if _, err := sc.run("build", "r.yaml"); err != nil {
			return nil, nil, err
		}
		want, err := sc.outputs()
		if err != nil {
			return nil, nil, err
		}
		scenes, wants = append(scenes, sc), append(wants, want)
	}
	return scenes, wants, nil
}

// round starts all processes and waits for them; then everything is built once more and has to be right.
func (s *soak) round(f *findings, scenes []scene, wants []map[string]string, processes int, noLocks bool, rng *rand.Rand) error {
	for i := range scenes {
		if rng.IntN(2) == 0 {
			removeAll(filepath.Join(scenes[i].dir, "build"))
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for i := range processes {
		sc, args := scenes[i%len(scenes)], []string{"build", "r.yaml"}
		if i%8 == 7 {
			args = []string{"cache", "gc", "--max-size", "300kB"}
		}
		kill, after := 0, time.Duration(0)
		switch rng.IntN(6) {
		case 0:
			kill = 1 + rng.IntN([]int{15, 100, 600}[rng.IntN(3)]) // a build with little to do has few calls
		case 1:
			after = time.Duration(rng.IntN(processes*15)) * time.Millisecond
		}
		wait := time.Duration(rng.IntN(30)) * time.Millisecond
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(wait)
			killed, said, err := rival(sc, args, kill, after, noLocks)
			mu.Lock()
			defer mu.Unlock()
			f.add("processes", 1)
			var exit *exitError
			switch {
			case killed:
				f.add("killed", 1)
			case errors.As(err, &exit):
				f.bad("round %d, locks that work %v: mlxbuild %s in %s: %v\n%s", f.counts["rounds"], !noLocks, args[0], filepath.Base(sc.dir), err, said)
			case err != nil:
				failed = err
			}
		}()
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	for i, sc := range scenes {
		if _, err := sc.run("build", "r.yaml"); err != nil {
			f.bad("after round %d: %v", f.counts["rounds"], err)
			continue
		}
		if problem := sc.check(wants[i]); problem != "" {
			f.bad("after round %d, recipe %d, locks that work %v: %s", f.counts["rounds"], i, !noLocks, problem)
		}
	}
	return s.storedOnce(f, scenes[0])
}

type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprint("exit code ", e.code) }

// rival runs the program, traced where a call of it is to be its last or locks are to do nothing. after kills it so long after its start.
func rival(sc scene, args []string, kill int, after time.Duration, noLocks bool) (killed bool, said string, err error) {
	if kill == 0 && !noLocks {
		return killAfter(sc, args, after)
	}
	plan := fault.Plan{At: kill, Do: fault.Kill, Counts: inScene(sc), Timeout: 5 * time.Minute}
	if noLocks { // and then nobody is killed: a plan does one thing
		plan = fault.Plan{At: 1, Stays: true, Do: fault.Skip, Counts: func(c *fault.Call) bool { return c.Name == "flock" }, Timeout: 5 * time.Minute}
	}
	p := proof{args: args}
	r, said, err := p.traced(sc, plan)
	if err == nil && r.Code > 0 {
		err = &exitError{r.Code}
	}
	return r.Signal != 0 && !r.TimedOut, said, err
}

// killAfter runs the program and kills it some time after its start, if it still runs; 0 = never.
func killAfter(sc scene, args []string, after time.Duration) (killed bool, said string, err error) {
	ctx := context.Background()
	if after > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, after)
		defer cancel()
	}
	cmd := sc.commandContext(ctx, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded): // before it ran at all
		return true, "", nil
	case errors.As(err, &exit) && exit.ExitCode() < 0:
		return true, string(out), nil
	case errors.As(err, &exit):
		err = &exitError{exit.ExitCode()}
	}
	return false, string(out), err
}

// storedOnce counts what lies in the cache: each blob once and no stage of the dead is left when it is old.
func (s *soak) storedOnce(f *findings, sc scene) error {
	c, err := cache.Open(sc.cache(), cache.Options{})
	if err != nil {
		return err
	}
	stats, err := c.Stats()
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(sc.cache(), "blobs", "*", "[0-9a-f]*"))
	if err == nil && len(found) != stats.Blobs {
		f.bad("%d files for %d blobs", len(found), stats.Blobs)
	}
	return err
}
