package hub_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// python runs a script of huggingface_hub with a cache of its own.
func python(t *testing.T, h *hubtest.Hub, home string, offline bool, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Python(t), append([]string{"-c", script}, args...)...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "HF_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "HF_ENDPOINT="+h.Endpoint(), "HF_HOME="+home, "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_PROGRESS_BARS=1",
		"NO_PROXY=127.0.0.1,localhost", "TRANSFORMERS_VERBOSITY=error")
	if offline {
		cmd.Env = append(cmd.Env, "HF_HUB_OFFLINE=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the script failed: %v\n%s%s", err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// TestPythonsCacheIsFound: what huggingface_hub has fetched need not be fetched again.
func TestPythonsCacheIsFound(t *testing.T) {
	oracle.Python(t)
	s := newSite(t, hubtest.Options{})
	home := t.TempDir()
	python(t, s.h, home, false, `from huggingface_hub import *
snapshot_download("org/name")`)
	list, err := s.client(t, nil).Files(t.Context(), hub.Repo{Kind: "models", ID: "org/name"}, s.commit)
	if err != nil || len(list) != len(s.files) {
		t.Fatalf("%v, %v", list, err)
	}
	settings := hub.Settings{CacheDir: filepath.Join(home, "hub")}
	for _, f := range list {
		path, ok := settings.Cached(hub.Repo{Kind: "models", ID: "org/name"}, s.commit, f)
		if !ok {
			t.Errorf("%s is not found", f.Path)
			continue
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, s.files[f.Path]) {
			t.Errorf("%s is found as %s, which has other bytes: %v", f.Path, path, err)
		}
	}
}

// TestPythonFindsOurCache: huggingface_hub takes what we wrote for its own, without the Hub, and with it asks for no file. mlx-lm loads the model from there.
func TestPythonFindsOurCache(t *testing.T) {
	oracle.Python(t)
	s := newSite(t, hubtest.Options{})
	r := s.h.Repo("models", "org/name")
	if _, err := r.CommitDir("main", oracle.TinyStories(t)); err != nil {
		t.Fatal(err)
	}
	s.commit = r.Commit("main", map[string][]byte{"sub/a.txt": []byte("a\n"), "empty.txt": {}})
	var err error
	if s.files, err = r.Files("main"); err != nil {
		t.Fatal(err)
	}
	c, id := s.client(t, nil), hub.Repo{Kind: "models", ID: "org/name"}
	list, err := c.Files(t.Context(), id, s.commit)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range list {
		files[f.Path] = filepath.Join(s.dir, strings.ReplaceAll(f.Path, "/", "+"))
		if _, err := c.Download(t.Context(), id, s.commit, f, hub.Download{Parts: s.parts, Path: files[f.Path]}); err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	if err := (hub.Settings{CacheDir: filepath.Join(home, "hub")}).WriteCache(id, "main", s.commit, files, list); err != nil {
		t.Fatal(err)
	}
	s.h.ResetRequests()
	dir := python(t, s.h, home, true, `import os
from huggingface_hub import *
from mlx_lm import load
from mlx_lm.utils import hf_repo_to_path
path = snapshot_download("org/name", local_files_only=True)
assert str(hf_repo_to_path("org/name")) == path
model, tokenizer = load("org/name")
assert tokenizer.encode("Once upon a time")
info = scan_cache_dir()
assert not info.warnings and len(info.repos) == 1, info
print(path)`)
	if n := s.h.Connections(); n > 0 {
		t.Errorf("%d connections offline", n)
	}
	for name, data := range s.files {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	python(t, s.h, home, false, `from huggingface_hub import *
snapshot_download("org/name")`)
	for _, r := range s.h.Requests() {
		if r.Method == "GET" && (r.Route == "cdn" || strings.HasPrefix(r.Route, "resolve")) {
			t.Errorf("asked again for %s", r.File)
		}
	}
}
