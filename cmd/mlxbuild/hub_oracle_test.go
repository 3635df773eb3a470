package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// onFakeHub serves the tiny model as org/tiny, and lays out a project that takes it from there.
func onFakeHub(t *testing.T, recipe string) (h *hubtest.Hub, file string) {
	t.Helper()
	h = hubtest.New(t, hubtest.Options{LFSOver: 200_000})
	if _, err := h.Repo("models", "org/tiny").CommitDir("main", oracle.TinyStories(t)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, value := range map[string]string{"HF_ENDPOINT": h.Endpoint(), "HF_HOME": filepath.Join(dir, "hf"), "HF_TOKEN": "", "HF_HUB_CACHE": "", "HF_HUB_OFFLINE": "", "MLXBUILD_CACHE": filepath.Join(dir, "cache")} {
		t.Setenv(name, value)
	}
	file = filepath.Join(dir, "mlxbuild.yaml")
	if err := os.WriteFile(file, []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return h, file
}

// The versions that results are made with stand in the lock; another version is told, refused with --locked, and taken when that is asked for. The real mlx reads a model of the Hub through the links
// that are laid out for it.
func TestLockedTools(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	_, file := onFakeHub(t, "version: 1\nmodels: {tiny: \"hf:org/tiny\"}\nquantizations: {q4: {bits: 4}}\nconvert: {runtime: mlx}\n")
	lockPath := filepath.Join(filepath.Dir(file), "mlxbuild.lock")
	if code, _, stderr := mlxbuild(t, "build", file); code != exitOK {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	text, err := os.ReadFile(lockPath)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^tool mlx (.*)$`)
	version := line.FindStringSubmatch(string(text))
	if version == nil || !strings.Contains(string(text), "\ntool mlx-lm ") {
		t.Fatalf("no versions in the lock:\n%s", text)
	}
	if code, _, stderr := mlxbuild(t, "build", "--locked", "--offline", file); code != exitOK || !strings.Contains(stderr, "nothing to do") {
		t.Errorf("locked: exit %d\n%s", code, stderr)
	}
	other := line.ReplaceAllString(string(text), "tool mlx 0.1.2")
	if err := os.WriteFile(lockPath, []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := mlxbuild(t, "build", "--locked", file); code != exitLock || !strings.Contains(stderr, "tool mlx 0.1.2") || !strings.Contains(stderr, "mlxbuild lock --update") {
		t.Errorf("another version, locked: exit %d\n%s", code, stderr)
	}
	if code, _, stderr := mlxbuild(t, "build", file); code != exitOK || !strings.Contains(stderr, "warning: mlx is "+version[1]+" here") {
		t.Errorf("another version: exit %d\n%s", code, stderr)
	}
	if now, _ := os.ReadFile(lockPath); string(now) != other {
		t.Errorf("build moved a pin:\n%s", now)
	}
	if code, _, stderr := mlxbuild(t, "lock", "--update", "mlx", file); code != exitOK {
		t.Errorf("lock --update mlx: exit %d\n%s", code, stderr)
	}
	if now, _ := os.ReadFile(lockPath); string(now) != string(text) {
		t.Errorf("lock --update mlx made of it\n%s", now)
	}
	if code, _, stderr := mlxbuild(t, "lock", "--update", "mlz", file); code != exitUsage || !strings.Contains(stderr, "did you mean mlx?") {
		t.Errorf("lock --update mlz: exit %d\n%s", code, stderr)
	}
}
