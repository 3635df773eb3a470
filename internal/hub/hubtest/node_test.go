package hubtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// node runs a script of @huggingface/hub, whose functions are in hub, against the Hub, and returns what it prints.
func node(t *testing.T, h *Hub, script string, args ...string) string {
	t.Helper()
	dir := os.Getenv("MLXBUILD_ORACLE_NODE_HUB")
	if dir == "" {
		oracle.Missing(t, "MLXBUILD_ORACLE_NODE_HUB names no folder with @huggingface/hub (scripts/oracle_hub_js.sh makes one)")
	}
	name := filepath.Join(t.TempDir(), "script.cjs")
	text := `const hub = require(process.argv[2] + "/node_modules/@huggingface/hub");
const fs = require("fs"), assert = require("assert"), hubUrl = process.argv[3], args = process.argv.slice(4);
async function all(generator) { const list = []; for await (const one of generator) list.push(one); return list; }
async function fails(promise, status) {
  try { await promise } catch (e) { assert.equal(e.statusCode, status, e); return }
  assert.fail("no failure with " + status);
}
(async () => {` + script + `})().catch((e) => { console.error(e); process.exit(1); });
`
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(oracle.Program(t, "node"), append([]string{name, dir, h.Endpoint()}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the script failed: %v\n%s%s", err, out, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

func TestNodeDownloads(t *testing.T) {
	h := New(t, Options{})
	h.Token("hf_alice", Token{User: "alice"})
	commit := h.Repo("models", "org/name").Commit("main", model())
	gated := h.Repo("models", "org/gated")
	gated.Commit("main", model())
	gated.Gate("auto")
	gated.Admit("alice")
	dir := t.TempDir()
	node(t, h, `
const files = await all(hub.listFiles({repo: "org/name", recursive: true, hubUrl}));
assert.equal(files.length, 8);
assert.equal(files.find((f) => f.path == "model.safetensors").lfs.size, 1060921);
const info = await hub.modelInfo({name: "org/name", hubUrl, additionalFields: ["sha"]});
assert.equal(info.sha, args[1]);
assert.equal(await hub.fileExists({repo: "org/name", path: "nothing", hubUrl}), false);
assert.equal(await hub.downloadFile({repo: "org/name", path: "nothing", hubUrl}), null);
await fails(hub.downloadFile({repo: "org/name", path: "config.json", revision: "nope", hubUrl}), 404);
await fails(hub.downloadFile({repo: "org/nothing", path: "config.json", hubUrl}), 401);
await fails(hub.downloadFile({repo: "org/gated", path: "config.json", hubUrl}), 401);
await hub.downloadFile({repo: "org/gated", path: "config.json", hubUrl, accessToken: "hf_alice"});
for (const f of files.filter((f) => f.type == "file" && f.size > 0)) { // it cannot fetch an empty file: there is no byte 0
  const blob = await hub.downloadFile({repo: "org/name", path: f.path, hubUrl});
  assert.equal(blob.size, f.size);
  fs.mkdirSync(args[0] + "/" + f.path.split("/").slice(0, -1).join("/"), {recursive: true});
  fs.writeFileSync(args[0] + "/" + f.path, Buffer.from(await blob.arrayBuffer()));
}
const blob = await hub.downloadFile({repo: "org/name", path: "model.safetensors", hubUrl});
assert.equal((await blob.slice(1000, 2000).arrayBuffer()).byteLength, 1000);
`, dir, commit)
	want := model()
	delete(want, "empty.txt")
	sameFiles(t, "downloaded", folder(t, dir), want)
	for _, r := range h.Requests() {
		if r.HasAuthorization && r.Origin != "hub" {
			t.Errorf("the token went to %+v", r)
		}
		if r.Route == "unknown" {
			t.Errorf("the library asks for something that is not served: %s %s", r.Method, r.Path)
		}
	}
}

func TestNodeUploads(t *testing.T) {
	h := New(t, Options{MultipartOver: 400_000, LFSOver: 50_000})
	h.Token("hf_alice", Token{User: "alice", Write: true})
	dir := t.TempDir()
	for name, data := range map[string][]byte{"w.safetensors": weights(), "tokenizer.json": weights()[:60_000]} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	node(t, h, `
const repo = "alice/up", accessToken = "hf_alice";
await hub.createRepo({repo, accessToken, hubUrl});
await fails(hub.createRepo({repo, accessToken, hubUrl}), 409);
const read = (name) => new Blob([fs.readFileSync(args[0] + "/" + name)]);
const one = await hub.uploadFiles({repo, accessToken, hubUrl, files: [
  {path: "w.safetensors", content: read("w.safetensors")}, {path: "tokenizer.json", content: read("tokenizer.json")},
  {path: "sub/a.txt", content: new Blob(["text\n"])}, {path: "gone.txt", content: new Blob(["gone"])}]});
await fails(hub.uploadFiles({repo, accessToken, hubUrl, parentCommit: "0".repeat(40), files: [{path: "x", content: new Blob(["x"])}]}), 412);
const pr = await hub.uploadFiles({repo, accessToken, hubUrl, isPullRequest: true, parentCommit: one.commit.oid, files: [{path: "p.txt", content: new Blob(["p"])}]});
assert.match(pr.pullRequestUrl, /discussions\/1$/);
await hub.deleteFiles({repo, accessToken, hubUrl, paths: ["gone.txt", ".gitattributes"]});
assert.equal((await all(hub.listCommits({repo, hubUrl}))).length, 3);
`, dir)
	got, err := h.Repo("models", "alice/up").Files("main")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"w.safetensors": weights(), "tokenizer.json": weights()[:60_000], "sub/a.txt": []byte("text\n")}
	sameFiles(t, "uploaded", got, want)
	for _, r := range h.Requests() {
		if r.Route == "unknown" {
			t.Errorf("the library asks for something that is not served: %s %s", r.Method, r.Path)
		}
	}
}
