package hubtest

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// python runs a script of huggingface_hub against the Hub, with a home of its own, and returns what it prints, without blanks at the ends. The plain route is
// the only one here: without that variable the library would look for the Hub's other protocol.
func python(t *testing.T, h *Hub, home, token, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Python(t), append([]string{"-c", script}, args...)...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+h.Endpoint(), "HF_HOME="+home, "HF_TOKEN="+token, "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_TELEMETRY=1",
		"HF_HUB_DISABLE_PROGRESS_BARS=1", "HF_HUB_OFFLINE=", "HF_HUB_CACHE=", "NO_PROXY=127.0.0.1,localhost", "PYTHONWARNINGS=ignore")
	cmd.Env = slices.DeleteFunc(cmd.Env, func(e string) bool { return e == "HF_TOKEN=" || e == "HF_HUB_CACHE=" || e == "HF_HUB_OFFLINE=" })
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the script failed: %v\n%s%s", err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// folder reads all files below a folder, links followed.
func folder(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(rel)], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameFiles(t *testing.T, what string, got, want map[string][]byte) {
	t.Helper()
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%s: the files %v are not those that were committed, %v", what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestPythonDownloads(t *testing.T) {
	oracle.Python(t)
	h := New(t, Options{})
	h.Token("hf_alice", Token{User: "alice"})
	h.Token("hf_bob", Token{User: "bob"})
	r := h.Repo("models", "org/name")
	commit := r.Commit("main", model())
	r.Tag("v1", "main")
	later := r.Commit("dev/x", map[string][]byte{"config.json": []byte("{}"), "sub/one.txt": nil})
	h.Repo("datasets", "org/texts").Commit("main", map[string][]byte{"a.jsonl": []byte("{}\n")})
	gated := h.Repo("models", "org/gated")
	gated.Commit("main", model())
	gated.Gate("auto")
	gated.Admit("alice")
	private := h.Repo("models", "org/private")
	private.Commit("main", model())
	private.Private(true)
	disabled := h.Repo("models", "org/disabled")
	disabled.Commit("main", model())
	disabled.Disabled(true)
	old := h.Repo("models", "org/old")
	old.Commit("main", map[string][]byte{"config.json": []byte("renamed"), "w.bin": []byte("weights")})
	old.Rename("org/new")

	home := t.TempDir()
	out := python(t, h, home, "", `
import sys
from huggingface_hub import *
from huggingface_hub.hf_api import RepoFolder
from huggingface_hub.errors import *
commit, later = sys.argv[1:]
api = HfApi()
info = api.model_info("org/name", files_metadata=True)
assert info.sha == commit and info.gated is False and info.card_data.license == "mit", info
assert {s.rfilename: s.size for s in info.siblings}["model.safetensors"] == 1060921, info.siblings
assert [s.lfs.sha256 for s in info.siblings if s.lfs], info.siblings
tree = {e.path: e for e in api.list_repo_tree("org/name", recursive=True)}
assert len(tree) == 8 and tree["model.safetensors"].lfs.size == 1060921 and isinstance(tree["sub"], RepoFolder), tree
assert len(list(api.list_repo_tree("org/name"))) == 5
assert api.list_repo_files("org/name", revision="dev/x") == sorted(["config.json", "README.md", "model.safetensors", "sub/deep/two.txt", "empty.txt"])
paths = api.get_paths_info("org/name", ["config.json", "sub", "nothing"])
assert sorted(p.path for p in paths) == ["config.json", "sub"], paths
refs = api.list_repo_refs("org/name", include_pull_requests=True)
assert [b.name for b in refs.branches] == ["dev/x", "main"] and refs.tags[0].target_commit == commit, refs
assert [c.commit_id for c in api.list_repo_commits("org/name", revision="dev/x")] == [later, commit]
assert get_hf_file_metadata(hf_hub_url("org/name", "config.json")).commit_hash == commit
print(snapshot_download("org/name"))
print(snapshot_download("org/name", revision="dev/x"))
print(snapshot_download("org/texts", repo_type="dataset"))
print(hf_hub_download("org/old", "config.json"))
print(hf_hub_download("org/old", "w.bin"))
print(hf_hub_download("org/name", "sub/deep/two.txt", revision="v1"))
def fails(kind, f):
    try:
        f()
    except kind as e:
        assert type(e) is kind or kind is LocalEntryNotFoundError, repr(e)
        return
    except Exception as e:
        raise AssertionError("not " + kind.__name__) from e
    raise AssertionError("no " + kind.__name__)
fails(RevisionNotFoundError, lambda: api.model_info("org/name", revision="nope"))
fails(RevisionNotFoundError, lambda: hf_hub_download("org/name", "config.json", revision="nope"))
fails(RemoteEntryNotFoundError, lambda: hf_hub_download("org/name", "nothing.json"))
fails(RepositoryNotFoundError, lambda: api.model_info("org/nothing"))
fails(RepositoryNotFoundError, lambda: hf_hub_download("org/private", "config.json"))
fails(GatedRepoError, lambda: hf_hub_download("org/gated", "config.json"))
fails(GatedRepoError, lambda: hf_hub_download("org/gated", "config.json", token="hf_bob"))
fails(GatedRepoError, lambda: api.auth_check("org/gated"))
fails(DisabledRepoError, lambda: api.model_info("org/disabled"))
fails(HfHubHTTPError, lambda: api.model_info("org/name", token="hf_wrong"))
hf_hub_download("org/gated", "config.json", token="hf_alice")
assert api.whoami(token="hf_alice")["name"] == "alice"
`, commit, later)
	lines := strings.Split(out, "\n")
	if len(lines) != 6 {
		t.Fatal(out)
	}
	want, err := r.Files(later)
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, "main", folder(t, lines[0]), model())
	sameFiles(t, "dev/x", folder(t, lines[1]), want)
	sameFiles(t, "dataset", folder(t, lines[2]), map[string][]byte{"a.jsonl": []byte("{}\n")})
	for _, r := range h.Requests() {
		if r.HasAuthorization && r.Origin != "hub" {
			t.Errorf("the token went to %+v", r)
		}
		if r.Route == "unknown" && !strings.HasPrefix(r.Path, "/api/agent-harnesses") {
			t.Errorf("the library asks for something that is not served: %s %s", r.Method, r.Path)
		}
	}
}

// TestPythonResumes breaks a download in the middle: the library asks for the rest, and gets it. It keeps whole blocks of 10 MB.
func TestPythonResumes(t *testing.T) {
	oracle.Python(t)
	h := New(t, Options{})
	files := model()
	files["large.bin"] = bytes.Repeat(weights(), 13)
	h.Repo("models", "org/name").Commit("main", files)
	h.Faults([]Fault{{Kind: Drop, Route: "cdn", Path: "large.bin", At: 12_345_678}, {Kind: Status503, Route: "tree"}, {Kind: Limit, Route: "tree", Skip: 1, N: 1}})
	out := python(t, h, t.TempDir(), "", `
from huggingface_hub import *
print(snapshot_download("org/name"))`)
	sameFiles(t, "after faults", folder(t, out), files)
	if h.Hits() != 3 {
		t.Errorf("%d of 3 faults hit", h.Hits())
	}
	resumed := slices.ContainsFunc(h.Requests(), func(r Request) bool { return r.Route == "cdn" && r.Range == "bytes=10485760-" && r.Status == 206 })
	if !resumed {
		t.Error("no request for the rest")
	}
}

func TestPythonUploads(t *testing.T) {
	oracle.Python(t)
	h := New(t, Options{MultipartOver: 400_000, LFSOver: 50_000})
	h.Token("hf_alice", Token{User: "alice", Write: true})
	h.Token("hf_read", Token{User: "alice"})
	dir := t.TempDir()
	files := model()
	files["tokenizer.json"] = weights()[:60_000] // LFS by its size, in one piece
	delete(files, "empty.txt")
	files["nothing.bin"] = []byte{} // LFS by its name, but for being empty
	for name, data := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := python(t, h, t.TempDir(), "hf_alice", `
import sys
from huggingface_hub import *
from huggingface_hub.errors import *
api = HfApi()
url = api.create_repo("alice/up")
assert url.repo_id == "alice/up", url
api.create_repo("alice/up", exist_ok=True)
first = api.upload_folder(repo_id="alice/up", folder_path=sys.argv[1], commit_message="Add all")
assert first.oid == api.model_info("alice/up").sha, first
try:
    api.upload_file(repo_id="alice/up", path_or_fileobj=b"x", path_in_repo="x", parent_commit="0" * 40)
    raise SystemExit("a commit on top of another parent was taken")
except HfHubHTTPError as e:
    assert e.response.status_code == 412, e
try:
    api.upload_file(repo_id="alice/up", path_or_fileobj=b"x", path_in_repo="x", token="hf_read")
    raise SystemExit("a commit with a token for reading was taken")
except HfHubHTTPError as e:
    assert e.response.status_code == 403, e
pr = api.upload_file(repo_id="alice/up", path_or_fileobj=b"proposed", path_in_repo="p.txt", create_pr=True, parent_commit=first.oid)
assert pr.pr_num == 1 and pr.pr_revision == "refs/pr/1", pr
print(snapshot_download("alice/up"))
print(snapshot_download("alice/up", revision="refs/pr/1"))
api.delete_file("README.md", "alice/up")
api.delete_folder("sub", "alice/up")
assert api.list_repo_files("alice/up") == [".gitattributes", "config.json", "model.safetensors", "nothing.bin", "tokenizer.json"], api.list_repo_files("alice/up")
api.create_branch("alice/up", branch="b", revision=first.oid)
api.create_tag("alice/up", tag="t", revision="b")
api.delete_branch("alice/up", branch="b")
assert api.model_info("alice/up", revision="t").sha == first.oid
api.move_repo("alice/up", "alice/moved")
assert api.model_info("alice/up").id == "alice/moved"
api.create_repo("alice/data", repo_type="dataset", private=True)
api.upload_file(repo_id="alice/data", repo_type="dataset", path_or_fileobj=b"1,2\n", path_in_repo="a.csv")
api.delete_repo("alice/data", repo_type="dataset")
assert not api.repo_exists("alice/data", repo_type="dataset")
`, dir)
	lines := strings.Split(out, "\n")
	if len(lines) != 2 {
		t.Fatal(out)
	}
	for i, line := range lines {
		got := folder(t, line)
		delete(got, ".gitattributes")
		if i == 1 {
			files["p.txt"] = []byte("proposed")
		}
		sameFiles(t, line, got, files)
	}
	parts := 0
	for _, r := range h.Requests() {
		if r.Route == "lfs-part" {
			parts++
		}
		if r.HasAuthorization && r.Origin != "hub" {
			t.Errorf("the token went to %+v", r)
		}
		if r.Route == "unknown" && !strings.HasPrefix(r.Path, "/api/agent-harnesses") {
			t.Errorf("the library asks for something that is not served: %s %s", r.Method, r.Path)
		}
	}
	if parts != 3 {
		t.Errorf("%d parts, want 3 of 400,000 bytes", parts)
	}
}

// TestMLXLM converts a model that mlx-lm itself downloads.
func TestMLXLM(t *testing.T) {
	oracle.Python(t)
	h := New(t, Options{})
	r := h.Repo("models", "mlxbuild/tiny-stories")
	if _, err := r.CommitDir("main", oracle.TinyStories(t)); err != nil {
		t.Fatal(err)
	}
	r.Commit("main", map[string][]byte{"README.md": []byte("---\nlicense: mit\n---\n# Tiny stories\n")}) // mlx-lm wants a model card
	out := filepath.Join(t.TempDir(), "converted")
	python(t, h, t.TempDir(), "", `
import sys
from mlx_lm import convert
convert("mlxbuild/tiny-stories", mlx_path=sys.argv[1], quantize=False)`, out)
	if got := folder(t, out); len(got["model.safetensors"]) == 0 || len(got["config.json"]) == 0 {
		t.Errorf("mlx-lm made %v", slices.Sorted(maps.Keys(got)))
	}
}
