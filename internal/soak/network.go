package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/fault"
	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
)

// network builds a recipe from Hubs that go wrong in ways that follow from seeds: nobody has thought of these together. The program has to make the right bytes or say clearly what is wrong, within its
// patience, and with a Hub that is well the same command has to go through. It waits most of the time, so that many runs stand beside each other.
func (s *soak) network() (*findings, error) {
	plans := 10_000
	if s.sample > 0 {
		plans = s.sample
	}
	f := s.newFindings("plans")
	want, err := s.fromHub()
	if err != nil {
		return nil, err
	}
	beside := *s
	beside.workers = 12 * max(1, s.workers)
	hubs := make(chan *hubtest.Hub, beside.workers)
	for range min(beside.workers, plans) {
		h, err := startHub(filepath.Join(s.work, "tiny"))
		if err != nil {
			return nil, err
		}
		defer h.Close()
		hubs <- h
	}
	started := time.Now()
	return f, beside.each(plans, func(i int, dir string) error {
		if s.overAfter(started, 60) {
			return nil
		}
		h := <-hubs
		defer func() { hubs <- h }()
		return s.networkPlan(f, h, s.seed*1_000_000+uint64(i), dir, want)
	})
}

// fromHub builds without faults.
func (s *soak) fromHub() (map[string]string, error) {
	sc, err := s.newScene(filepath.Join(s.work, "well"))
	if err != nil {
		return nil, err
	}
	defer removeAll(sc.dir)
	if _, err := sc.run("build", "hub.yaml"); err != nil {
		return nil, err
	}
	return sc.outputs()
}

func (s *soak) networkPlan(f *findings, h *hubtest.Hub, seed uint64, dir string, want map[string]string) error {
	sc, err := s.newScene(dir)
	if err != nil {
		return err
	}
	sc.env = []string{"HF_ENDPOINT=" + h.Endpoint()}
	plan := hubtest.RandomFaults(seed)
	var texts []string
	for _, p := range plan {
		texts = append(texts, p.String())
	}
	where := fmt.Sprintf("plan %d (%s)", seed, strings.Join(texts, "; "))
	moves := slices.ContainsFunc(plan, func(p hubtest.Fault) bool { return p.Kind == hubtest.Moved })
	h.Faults(plan)
	f.add("plans", 1)
	began := time.Now()
	code, said, err := within(sc, 5*time.Minute, "build", "hub.yaml")
	if err != nil {
		return err
	}
	f.add("hits", int64(h.Hits()))
	problem := unclear(fault.Result{Code: code, TimedOut: code < 0}, said)
	switch {
	case code == 0:
		f.add("went through", 1)
		if d := sc.differs(want); moves && strings.Contains(d, "mlxbuild.lock") {
			f.add("locked a branch that had moved", 1) // which is right: it was asked after it had
			want = nil
		} else if d != "" {
			f.bad("%s: it says that all is well, and %s\n%s", where, d, said)
		}
	case problem != nil:
		f.bad("%s: after %v %v\n%s", where, time.Since(began).Round(time.Second), problem, said)
	default:
		f.add("said so", 1)
	}
	h.ClearFaults()
	_, err = sc.run("build", "hub.yaml")
	if err != nil && moves {
		f.add("locked a branch that had moved", 1) // to a commit that was taken back with the faults
		return nil
	}
	if err != nil && slices.ContainsFunc(plan, func(p hubtest.Fault) bool { return p.Kind == hubtest.Size }) {
		f.add("locked what the Hub had said wrongly", 1) // a size is taken from the listing and proved when the file is fetched
		if _, err = sc.run("lock", "--update", "*", "hub.yaml"); err == nil {
			_, err = sc.run("build", "hub.yaml")
		}
	}
	if err != nil {
		f.bad("%s: with a Hub that is well: %v\nbefore: %s", where, err, said)
		return nil
	}
	if want == nil {
		return nil // the commit went with the faults
	}
	if d := sc.differs(want); moves && strings.Contains(d, "mlxbuild.lock") {
		f.add("locked a branch that had moved", 1)
	} else if d != "" {
		f.bad("%s: with a Hub that is well: %s", where, d)
	}
	if problem := sc.checkCache(); problem != "" {
		f.bad("%s: %s", where, problem)
	}
	return nil
}

// within runs the program for so long; code is -1 when it had to be killed.
func within(sc scene, long time.Duration, args ...string) (code int, said string, err error) {
	killed, said, err := killAfter(sc, args, long)
	if killed {
		return -1, said, nil
	}
	if exit, ok := err.(*exitError); ok {
		return exit.code, said, nil
	}
	return 0, said, err
}

// differs says in what the outputs are not as wanted.
func (sc scene) differs(want map[string]string) string {
	got, err := sc.outputs()
	if err != nil {
		return err.Error()
	}
	return differences(got, want)
}
