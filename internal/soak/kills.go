package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/fault"
)

// trial is a command in a state that it may be run in.
type trial struct {
	name  string
	state string // of stages
	args  []string
	then  []string // what is run when the command went through, so that there is something to compare; nil = the command itself made it
	slow  bool     // left out of samples
}

// trials are the commands that write.
var trials = []trial{
	{name: "build", state: "empty", args: []string{"build", "r.yaml"}},
	{name: "build from the cache", state: "cached", args: []string{"build", "r.yaml"}},
	{name: "build after a change", state: "changed", args: []string{"build", "r.yaml"}},
	{name: "convert", state: "cached", args: []string{"convert", "--hf-path", "MODEL", "--mlx-path", "out", "-q", "--q-bits", "8"}},
	{name: "cache gc", state: "cached", args: []string{"cache", "gc", "--max-size", "1kB"}, then: []string{"build", "r.yaml"}},
	{name: "cache verify", state: "built", args: []string{"cache", "verify"}, then: []string{"build", "r.yaml"}},
	{name: "cache repair", state: "damaged", args: []string{"cache", "repair"}, then: []string{"build", "r.yaml"}},
	{name: "accept", state: "validated", args: []string{"accept", "all.yaml"}},
	{name: "lock", state: "empty", args: []string{"lock", "hub.yaml"}, then: []string{"build", "hub.yaml"}},
	{name: "fetch", state: "empty", args: []string{"fetch", "hub.yaml"}, then: []string{"build", "hub.yaml"}},
	{name: "build from the Hub", state: "empty", args: []string{"build", "hub.yaml"}},
	{name: "build with everything", state: "built", args: []string{"build", "all.yaml"}, slow: true},
	{name: "init", state: "empty", args: []string{"init", "--model", "MODEL"}},
}

// stages makes the states that trials begin with.
func (s *soak) stages() (map[string]scene, error) {
	if s.staged != nil {
		return s.staged, nil
	}
	stages := map[string]scene{}
	stage := func(name string, from string, change func(scene) error) error {
		sc, err := s.newScene(filepath.Join(s.work, "stages", name))
		if err == nil && from != "" {
			removeAll(sc.dir)
			sc, err = stages[from].copyTo(sc.dir)
		}
		if err == nil && change != nil {
			err = change(sc)
		}
		stages[name] = sc
		return err
	}
	run := func(args ...string) func(scene) error {
		return func(sc scene) error { _, err := sc.run(args...); return err }
	}
	for _, make := range []struct {
		name, from string
		change     func(scene) error
	}{
		{"empty", "", nil},
		{"built", "empty", run("build", "r.yaml")},
		{"cached", "built", func(sc scene) error { return os.RemoveAll(filepath.Join(sc.dir, "build")) }},
		{"damaged", "cached", damageScene},
		{"changed", "built", func(sc scene) error {
			return os.Rename(filepath.Join(sc.dir, "r2.yaml"), filepath.Join(sc.dir, "r.yaml"))
		}},
		{"validated", "built", run("build", "all.yaml")},
	} {
		if err := stage(make.name, make.from, make.change); err != nil {
			return nil, err
		}
	}
	s.staged = stages
	return stages, nil
}

// damageScene flips a bit in the largest blob and cuts a record.
func damageScene(sc scene) error {
	largest, size := "", int64(0)
	blobs, err := filepath.Glob(filepath.Join(sc.cache(), "blobs", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range blobs {
		if info, err := os.Stat(path); err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
	}
	data, err := os.ReadFile(largest)
	if err != nil {
		return err
	}
	data[size/2] ^= 4
	if err := os.Chmod(largest, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(largest, data, 0o444); err != nil {
		return err
	}
	records, err := filepath.Glob(filepath.Join(sc.cache(), "records", "*", "*"))
	if err != nil || len(records) == 0 {
		return fmt.Errorf("the stage has no records: %v", err)
	}
	return os.Truncate(records[0], 100)
}

// arguments of a trial's command.
func (s *soak) arguments(t trial) []string {
	var out []string
	for _, a := range t.args {
		out = append(out, strings.ReplaceAll(a, "MODEL", filepath.Join(s.work, "tiny")))
	}
	return out
}

// proof is a trial with what it has to come to.
type proof struct {
	trial
	from   scene
	args   []string
	want   map[string]string
	points int // calls that change files
}

// proofs runs each trial once without a fault.
func (s *soak) proofs(pick func(trial) bool, counts func(sc scene) func(*fault.Call) bool) ([]proof, error) {
	stages, err := s.stages()
	if err != nil {
		return nil, err
	}
	var out []proof
	for _, t := range trials {
		if !pick(t) {
			continue
		}
		p := proof{trial: t, from: stages[t.state], args: s.arguments(t)}
		sc, err := p.from.copyTo(filepath.Join(s.work, "once"))
		if err != nil {
			return nil, err
		}
		r, said, err := p.traced(sc, fault.Plan{Counts: counts(sc)})
		if err != nil {
			return nil, err
		}
		if r.Code != 0 {
			return nil, fmt.Errorf("%s without a fault: exit code %d\n%s", p.name, r.Code, said)
		}
		if p.then != nil {
			if _, err := sc.run(p.then...); err != nil {
				return nil, err
			}
		}
		if p.want, err = sc.outputs(); err != nil {
			return nil, err
		}
		p.points = r.Calls
		out = append(out, p)
		removeAll(sc.dir)
	}
	return out, nil
}

// traced runs the trial's command under a plan; said is what it printed.
func (p proof) traced(sc scene, plan fault.Plan) (r fault.Result, said string, err error) {
	log, err := os.CreateTemp("", "soak-")
	if err != nil {
		return r, "", err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := sc.command(p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if r, err = fault.Run(cmd, plan); err != nil {
		return r, "", err
	}
	text, err := os.ReadFile(log.Name())
	return r, string(text), err
}

// inScene counts the calls that change the scene's files.
func inScene(sc scene) func(*fault.Call) bool {
	return func(c *fault.Call) bool {
		ours := func(path string) bool {
			return strings.HasPrefix(path, sc.dir+"/") || strings.HasPrefix(path, sc.cache()+"/")
		}
		return fault.Changes(c) && (ours(c.Path) || ours(c.To))
	}
}

// point is a place in a proof where something goes wrong.
type point struct {
	proof *proof
	at    int
	do    fault.Action
}

// kills kills each command at each call that changes a file. Afterwards the same command has to go through, and everything has to be as if nothing had happened.
func (s *soak) kills() (*findings, error) {
	proofs, err := s.proofs(func(t trial) bool { return s.sample == 0 || !t.slow }, inScene)
	if err != nil {
		return nil, err
	}
	var points []point
	f := s.newFindings("points", "commands")
	for i := range proofs {
		f.add("commands", 1)
		for at := 1; at <= proofs[i].points+2; at++ { // threads take turns as they like: a run may have a call or two more
			points = append(points, point{&proofs[i], at, fault.Kill})
			if at%3 == 0 {
				points = append(points, point{&proofs[i], at, fault.Tear})
			}
		}
	}
	points = spread(points, s.sample, s.seed)
	s.mix(len(points), func(i, k int) { points[i], points[k] = points[k], points[i] })
	if err := s.each(len(points), func(i int, dir string) error { return s.kill(f, points[i], dir) }); err != nil || s.sample > 0 {
		return f, err
	}
	return f, s.randomKills(f, proofs, 10_000)
}

// randomKills kills commands at any time, also between calls, until there are so many or the time is up.
func (s *soak) randomKills(f *findings, proofs []proof, n int) error {
	started := time.Now()
	return s.each(n, func(i int, dir string) error {
		if s.overAfter(started, 30) {
			return nil
		}
		rng := rand.New(rand.NewPCG(s.seed, uint64(i)))
		p := proofs[rng.IntN(len(proofs))]
		sc, err := p.from.copyTo(dir)
		if err != nil {
			return err
		}
		after := time.Duration(rng.IntN(80_000)) * time.Microsecond
		killed, said, err := killAfter(sc, p.args, after+1)
		if err != nil {
			f.bad("%s, to be killed after %v: %v\n%s", p.name, after, err, said)
			return nil
		}
		f.add("random kills", 1)
		if killed {
			f.add("killed", 1)
		}
		if problem := p.goesOn(sc); problem != "" {
			f.bad("%s, killed after %v: %s", p.name, after, problem)
		}
		return nil
	})
}

// spread takes a sample that is spread over all of them, if one was asked for.
func spread[T any](all []T, sample int, seed uint64) []T {
	if sample == 0 || sample >= len(all) {
		return all
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	var out []T
	for i := range sample {
		from, to := i*len(all)/sample, (i+1)*len(all)/sample
		out = append(out, all[from+rng.IntN(to-from)])
	}
	return out
}

// mix changes the order of n things where there may not be time for all, so that what is done is of every kind.
func (s *soak) mix(n int, swap func(i, k int)) {
	if !s.ends.IsZero() {
		rand.New(rand.NewPCG(s.seed, 4)).Shuffle(n, swap)
	}
}

// each does n things, some at a time, each in an empty folder of its own, until the part is over.
func (s *soak) each(n int, do func(i int, dir string) error) error {
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for w := range max(1, s.workers) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			dir := filepath.Join(s.work, fmt.Sprint("scene", w))
			for i := range next {
				removeAll(dir)
				if err := do(i, dir); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
					}
					mu.Unlock()
				}
			}
			removeAll(dir)
		}()
	}
	for i := range n {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop || s.ctx.Err() != nil || i > 0 && s.over() { // a part that did nothing would have proved nothing
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return failed
}

func (s *soak) kill(f *findings, at point, dir string) error {
	p := at.proof
	sc, err := p.from.copyTo(dir)
	if err != nil {
		return err
	}
	r, said, err := p.traced(sc, fault.Plan{Counts: inScene(sc), At: at.at, Do: at.do})
	if err != nil {
		return err
	}
	f.add("points", 1)
	where := fmt.Sprintf("%s, killed at call %d", p.name, at.at)
	if r.Hit != nil {
		f.add("killed", 1)
		where = fmt.Sprintf("%s, killed at call %d (%s %s)", p.name, at.at, r.Hit.Name, strings.TrimPrefix(r.Hit.Path, sc.dir+"/"))
	} else if r.Code != 0 {
		f.bad("%s: it ended with %d before\n%s", where, r.Code, said)
		return nil
	}
	if r.TimedOut {
		f.bad("%s: it hung before", where)
		return nil
	}
	if problem := p.goesOn(sc); problem != "" {
		f.bad("%s: %s", where, problem)
	}
	return nil
}

// goesOn runs the command again after a fault, and says what is not as it has to be.
func (p proof) goesOn(sc scene) string {
	if _, err := sc.run(p.args...); err != nil && !(p.name == "init" && strings.Contains(err.Error(), "exists already")) {
		return "again: " + err.Error()
	}
	if problem := sc.checkCache(); problem != "" {
		return "after the second run: " + problem
	}
	if p.then != nil {
		if _, err := sc.run(p.then...); err != nil {
			return "then: " + err.Error()
		}
	}
	if problem := sc.check(p.want); problem != "" {
		return problem
	}
	return sc.leftovers()
}
