package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The test binary is also the child that store is traced in, and the children that fuzz.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && (os.Args[1] == storeCommand || os.Args[1] == fuzzCommand) {
		main()
		return
	}
	os.Exit(m.Run())
}

// gate makes a soak of a test: what it says goes to the test's log.
func gate(t *testing.T) *soak {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		oracle.Missing(t, "programs can be traced on Linux/amd64 only")
	}
	work, err := os.MkdirTemp(inMemory(), "mlxbuild-soak-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(work) })
	s := &soak{ctx: context.Background(), seed: 1, workers: 2, say: t.Logf}
	if err := s.prepare(work); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.hub.Close)
	return s
}

// found fails the test with what a part found.
func found(t *testing.T, f *findings, err error) {
	t.Helper()
	if errors.Is(err, os.ErrPermission) {
		oracle.Missing(t, "programs cannot be traced here: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Log(f)
	for _, w := range f.wrong {
		t.Error(w)
	}
}

// Killed at any call that changes a file, whatever the command: it goes through the second time, with the right bytes, and nothing is left for ever.
func TestKills(t *testing.T) {
	s := gate(t)
	s.sample = 200
	f, err := s.kills()
	found(t, f, err)
	if n := f.counts["killed"]; n < 180 && err == nil {
		t.Errorf("%d were killed of 200: the test proves less than it says", n)
	}
	if left, _ := filepath.Glob(filepath.Join(s.work, "scene*")); left != nil {
		t.Errorf("scenes are left: %v", left)
	}
}

// What kills leave is seen, in the user's folder too: the lock of a run that is dead goes with a collection, one that somebody holds does not.
func TestLeftovers(t *testing.T) {
	s := gate(t)
	stages, err := s.stages()
	if err != nil {
		t.Fatal(err)
	}
	sc := stages["built"]
	t.Setenv("HOME", filepath.Join(sc.dir, "home"))
	t.Setenv("XDG_CACHE_HOME", "")
	c, err := cache.Open(sc.cache(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	release, err := c.LockForUser(t.Context(), "held", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	locks := filepath.Join("home", ".cache", "mlxbuild", "locks")
	if err := os.WriteFile(filepath.Join(sc.dir, locks, "dead.lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if said, want := sc.leftovers(), "left behind for ever: "+filepath.Join(locks, "held.lock"); said != want {
		t.Errorf("%q, want %q", said, want)
	}
	release()
	if err := os.Remove(filepath.Join(sc.dir, "another.yaml")); err != nil { // that it made
		t.Fatal(err)
	}
	if said := sc.leftovers(); said != "" {
		t.Errorf("%q", said)
	}
}

// A disk that fails in any way, at any call: right bytes or a clear error, and the same command goes through when the disk is well again.
func TestDisk(t *testing.T) {
	s := gate(t)
	s.sample = 150
	f, err := s.disk()
	found(t, f, err)
	if err == nil && (f.counts["said so"] < 40 || f.counts["went through"] < 40) {
		t.Errorf("%s: the faults do not hit what they should", f)
	}
}

// The power is cut after each operation of a build and of a store, in every way: no wrong byte is believed, and the next build is right.
func TestPower(t *testing.T) {
	s := gate(t)
	s.sample = 800
	f, err := s.power()
	found(t, f, err)
}

// Power cuts would find a file that was not synced: the same journal without its syncs of files gives wrong bytes.
func TestPowerFinds(t *testing.T) {
	s := gate(t)
	j, err := s.storeJournal()
	if err != nil {
		found(t, nil, err)
	}
	var ops []op
	for _, o := range j.ops {
		if o.kind != opSync || o.node.dir {
			ops = append(ops, o)
		}
	}
	for i := range ops { // metadata is that of the end: the numbers of operations have moved
		for k := range ops[i].node.metas {
			ops[i].node.metas[k].at = 0
		}
	}
	j.ops = ops
	f := s.newFindings("states")
	if err := s.prefixes(f, j, 2, nil); err != nil {
		t.Fatal(err)
	}
	if f.counts["wrong"] == 0 {
		t.Errorf("%s: nothing is wrong though nothing was synced", f)
	}
}

// Every state file, cut at every length and with every bit flipped: it is read as what it was, refused with what to do, or made again.
func TestState(t *testing.T) {
	s := gate(t)
	s.sample = 5000
	f, err := s.state()
	found(t, f, err)
}

// A thousand corruptions are found, each of them, and repair takes out nothing else.
func TestCorrupt(t *testing.T) {
	s := gate(t)
	s.sample = 1000
	f, err := s.corrupt()
	found(t, f, err)
	if err == nil && f.counts["found"] != f.counts["corruptions"] || f.counts["corruptions"] < 1000 {
		t.Error(f)
	}
}

// Eight processes on one cache, two in each folder, with collections, kills and locks that keep nobody out: every build is right, and nothing is lost.
func TestConcurrency(t *testing.T) {
	s := gate(t)
	s.sample = 8
	f, err := s.concurrency()
	found(t, f, err)
}

// Every parser stands some seconds of inputs that are nearly right.
func TestFuzz(t *testing.T) {
	s := gate(t)
	s.minutes = 0.25
	f, err := s.fuzz()
	found(t, f, err)
	if err == nil && f.counts["runs"] < 10_000 {
		t.Error(f)
	}
}

// The driver sees what it is there to see.
func TestFuzzFinds(t *testing.T) {
	for want, parse := range map[string]func([]byte) string{
		"panic: boom": func(b []byte) string {
			if len(b) == 3 {
				panic("boom")
			}
			return ""
		},
		"wrong": func(b []byte) string {
			if len(b) > 5 {
				return "wrong"
			}
			return ""
		},
		"it takes 1": func(b []byte) string {
			if len(b) == 3 {
				time.Sleep(1100 * time.Millisecond)
			}
			return ""
		},
		"MB of memory": func(b []byte) string {
			if len(b) == 3 {
				held := make([][]byte, 0, 100)
				for range 100 {
					held = append(held, make([]byte, 1<<20))
				}
				time.Sleep(time.Millisecond)
				return strings.Repeat("x", len(held)-100)
			}
			return ""
		},
	} {
		f, err := newFuzzer(target{name: "t", seeds: texts("abcd", "[1]"), open: pure(parse)}, "", t.TempDir(), 1)
		if err != nil {
			t.Fatal(err)
		}
		m := newMutator(rand.New(rand.NewPCG(0, 0)), f.seeds)
		for i := 0; i < 20 && f.report.Wrong == nil; i++ {
			f.batch(m)
		}
		if !strings.Contains(strings.Join(f.report.Wrong, "\n"), want) {
			t.Errorf("%s is not found: %q", want, f.report.Wrong)
		}
	}
}

// -minutes bounds every part, also what is counted and not random, and what was done till then is written down.
func TestMinutes(t *testing.T) {
	s := gate(t)
	s.minutes = 0.1
	picked, err := pick([]string{"kills", "power", "state", "corrupt"}) // which take hours when nobody ends them
	if err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(t.TempDir(), "results.md")
	if ok, err := s.all(picked, results); err != nil || !ok {
		t.Errorf("%v, %v", ok, err)
	}
	text, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range picked {
		m := regexp.MustCompile(`\| ` + p.name + ` \| ([0-9,]+) [^|]* 0 wrong \| ([0-9.]+) \|`).FindStringSubmatch(string(text))
		if m == nil || m[1] == "0" || len(m[2]) != 3 || m[2] > "0.5" { // a machine may be busy
			t.Errorf("%s: %q of\n%s", p.name, m, text)
		}
	}
}

// What a part has found when it is interrupted is told.
func TestInterrupted(t *testing.T) {
	s := gate(t)
	for _, name := range []string{"state", "corrupt", "fuzz"} {
		ctx, cancel := context.WithCancel(t.Context())
		s.ctx, s.minutes = ctx, 1
		time.AfterFunc(3*time.Second, cancel)
		picked, err := pick([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		results := filepath.Join(t.TempDir(), "results.md")
		if ok, err := s.all(picked, results); ok || err == nil || err.Error() != "interrupted" {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		if text, err := os.ReadFile(results); err != nil || !regexp.MustCompile(`\| [1-9][^|]*, 0 wrong, interrupted \|`).Match(text) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// A Hub that goes wrong in seeded ways: right bytes or a clear error, in time, and the same command goes through when the Hub is well again.
func TestNetwork(t *testing.T) {
	s := gate(t)
	s.sample = 12
	f, err := s.network()
	found(t, f, err)
}
