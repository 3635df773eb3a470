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

// gate makes a soak of a test: what it says goes to the test's log.
func gate(t *testing.T) *soak {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		oracle.Missing(t, "programs can be traced on Linux/amd64 only")
	}
	work := t.TempDir()
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
