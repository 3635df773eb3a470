package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The test binary is also the child that store is traced in.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == storeCommand {
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
	f := newFindings("states")
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
