package hubtest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// weights is a large file: more than 1 MiB, no two blocks alike.
func weights() []byte {
	data := make([]byte, 1<<20+12345)
	for i := range data {
		data[i] = byte(i*i>>7 ^ i>>11)
	}
	return data
}

func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// model is what most tests have on the Hub.
func model() map[string][]byte {
	return map[string][]byte{
		"config.json": []byte(`{"model_type": "llama"}` + "\n"), "README.md": []byte("---\nlicense: mit\nlibrary_name: mlx\n---\n# A model\n"),
		"model.safetensors": weights(), "sub/one.txt": []byte("one\n"), "sub/deep/two.txt": []byte("two\n"), "empty.txt": {},
	}
}

// client follows no redirects and asks for nothing that a test did not.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// call sends a request with headers given as "name: value".
func call(t *testing.T, method, url string, headers ...string) (*http.Response, []byte, error) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := client(t).Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// get is a call that must come back with a status.
func get(t *testing.T, status int, method, url string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	resp, body, err := call(t, method, url, headers...)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %v, %v, want %d: %s", method, url, resp, err, status, body)
	}
	return resp, body
}

func parseJSON[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return v
}

type entry struct {
	Type, OID, Path, XetHash string
	Size                     int64
	LFS                      *struct {
		OID               string
		Size, PointerSize int64
	}
}

// list walks a tree by its links alone.
func list(t *testing.T, url string) (all []entry, pages int) {
	t.Helper()
	for url != "" {
		if pages++; pages > 100 {
			t.Fatal("the tree does not end")
		}
		resp, body := get(t, 200, "GET", url)
		all = append(all, parseJSON[[]entry](t, body)...)
		link, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
		url = link
	}
	return all, pages
}

func TestTree(t *testing.T) {
	h := New(t, Options{})
	commit := h.Repo("models", "org/name").Commit("main", model())
	all, pages := list(t, h.Endpoint()+"/api/models/org/name/tree/"+commit+"?recursive=true&expand=false")
	if pages != 4 || len(all) != 8 {
		t.Errorf("%d entries on %d pages, want 8 (six files, two folders) on 4", len(all), pages)
	}
	files := model()
	for _, e := range all {
		data, ok := files[e.Path]
		if e.Type == "directory" {
			continue
		}
		if !ok || e.Size != int64(len(data)) || (e.LFS != nil) != (e.Path == "model.safetensors") {
			t.Errorf("%+v is not what was committed", e)
		}
		if e.LFS != nil && (e.LFS.OID != hexOf(data) || e.LFS.Size != e.Size || e.OID != object("blob", pointer(e.LFS.OID, e.Size))) {
			t.Errorf("%+v has wrong ids", e)
		}
	}
	top, _ := list(t, h.Endpoint()+"/api/models/org/name/tree/main")
	deep, _ := list(t, h.Endpoint()+"/api/models/org/name/tree/main/sub?recursive=true")
	if len(top) != 5 || len(deep) != 3 {
		t.Errorf("%d entries at the top, %d below sub, want 5 and 3", len(top), len(deep))
	}
	get(t, 404, "GET", h.Endpoint()+"/api/models/org/name/tree/main/nothing")
}

// TestIDsAreGits commits the same files with git itself.
func TestIDsAreGits(t *testing.T) {
	git := oracle.Program(t, "git")
	h := New(t, Options{LFSOver: 1 << 30})
	r := h.Repo("models", "org/name")
	files := model()
	delete(files, "model.safetensors")
	files["sub.txt"], files["sub-a/x"] = []byte("sorted before the folder sub\n"), []byte("x") // git's order of folders is not that of names
	r.Commit("main", files)
	commit := r.Commit("main", map[string][]byte{"empty.txt": nil})
	dir := t.TempDir()
	for name, data := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	date := "1700000001 +0000"
	run := func(args ...string) string {
		cmd := exec.Command(git, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Hub 0", "GIT_AUTHOR_EMAIL=hub@example.com", "GIT_COMMITTER_NAME=Hub 0",
			"GIT_COMMITTER_EMAIL=hub@example.com", "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q", "-b", "main")
	run("add", "-A")
	run("commit", "-qm", "Change main")
	if err := os.Remove(filepath.Join(dir, "empty.txt")); err != nil {
		t.Fatal(err)
	}
	date = "1700000002 +0000"
	run("commit", "-qam", "Change main")
	if got := run("rev-parse", "HEAD"); got != commit {
		t.Errorf("git makes the commit %s of the same files, the Hub %s", got, commit)
	}
	all, _ := list(t, h.Endpoint()+"/api/models/org/name/tree/main?recursive=true")
	for _, e := range all {
		if got := run("rev-parse", "HEAD:"+e.Path); got != e.OID {
			t.Errorf("%s has the id %s, git says %s", e.Path, e.OID, got)
		}
	}
}

func TestInfo(t *testing.T) {
	h := New(t, Options{})
	r := h.Repo("models", "org/name")
	type info struct {
		ID, SHA, Author string
		Gated           any
		CardData        map[string]string
		Siblings        []struct{ RFilename, BlobID string }
	}
	_, body := get(t, 200, "GET", h.Endpoint()+"/api/models/org/name")
	if i := parseJSON[info](t, body); i.SHA != "" || i.ID != "org/name" {
		t.Errorf("an empty repository says %s", body)
	}
	get(t, 404, "GET", h.Endpoint()+"/api/models/org/name/tree/main")
	commit := r.Commit("main", model())
	r.Tag("v1", "main")
	later := r.Commit("dev/x", map[string][]byte{"config.json": []byte("{}")})
	for rev, want := range map[string]string{"": commit, "/revision/main": commit, "/revision/v1": commit, "/revision/dev%2Fx": later, "/revision/" + later: later} {
		_, body := get(t, 200, "GET", h.Endpoint()+"/api/models/org/name"+rev+"?blobs=true")
		i := parseJSON[info](t, body)
		if i.SHA != want || i.Author != "org" || i.Gated != false || want == commit && (len(i.Siblings) != 6 || i.CardData["license"] != "mit" || i.Siblings[0].BlobID == "") {
			t.Errorf("%s: %s", rev, body)
		}
	}
	resp, _ := get(t, 404, "GET", h.Endpoint()+"/api/models/org/name/revision/nope")
	if resp.Header.Get("X-Error-Code") != "RevisionNotFound" || resp.Header.Get("X-Request-Id") == "" || !strings.Contains(resp.Header.Get("RateLimit"), `"api";r=`) {
		t.Error(resp.Header)
	}
	_, body = get(t, 200, "GET", h.Endpoint()+"/api/models/org/name/refs")
	if !strings.Contains(string(body), `"ref":"refs/tags/v1"`) || !strings.Contains(string(body), `"name":"dev/x"`) {
		t.Errorf("%s", body)
	}
	_, body = get(t, 200, "GET", h.Endpoint()+"/api/models/org/name/commits/main")
	if !strings.Contains(string(body), commit) {
		t.Errorf("%s", body)
	}
}

func TestResolve(t *testing.T) {
	h := New(t, Options{})
	commit := h.Repo("datasets", "org/name").Commit("main", model())
	at := h.Endpoint() + "/datasets/org/name/resolve/main/"
	for _, method := range []string{"HEAD", "GET"} {
		resp, _ := get(t, 307, method, at+"config.json")
		location := resp.Header.Get("Location")
		if !strings.HasPrefix(location, "/api/resolve-cache/datasets/org/name/"+commit+"/config.json?") || resp.Header.Get("X-Repo-Commit") != commit || resp.Header.Get("X-Linked-Size") != "24" {
			t.Errorf("%s: %v", method, resp.Header)
		}
		resp, body := get(t, 200, method, h.Endpoint()+location)
		if resp.Header.Get("Content-Length") != "24" || resp.Header.Get("ETag") != `"`+object("blob", model()["config.json"])+`"` || method == "GET" && !bytes.Equal(body, model()["config.json"]) {
			t.Errorf("%s: %v %s", method, resp.Header, body)
		}
		resp, _ = get(t, 302, method, at+"model.safetensors")
		location = resp.Header.Get("Location")
		if !strings.HasPrefix(location, h.CDN()+"/") || strings.HasPrefix(location, h.Endpoint()) || resp.Header.Get("X-Linked-Etag") != `"`+hexOf(weights())+`"` {
			t.Errorf("%s: %v", method, resp.Header)
		}
		if _, body = get(t, 200, method, location); method == "GET" && !bytes.Equal(body, weights()) {
			t.Errorf("the CDN sends other bytes")
		}
		get(t, 403, method, strings.Replace(location, "Signature=", "Signature=0", 1))
	}
	resp, _ := get(t, 404, "GET", at+"nothing")
	if resp.Header.Get("X-Error-Code") != "EntryNotFound" || resp.Header.Get("X-Repo-Commit") != commit {
		t.Error(resp.Header)
	}
	get(t, 304, "GET", at+"config.json", `If-None-Match: "`+object("blob", model()["config.json"])+`"`)
	resp, body := get(t, 307, "GET", at+"config.json")
	resp, body = get(t, 200, "GET", h.Endpoint()+resp.Header.Get("Location"), "Accept-Encoding: gzip")
	plain, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil || resp.ContentLength >= 0 || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v %v", err, resp.Header)
	}
	if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, model()["config.json"]) {
		t.Errorf("%q %v", got, err)
	}
}

// TestXet: the hashes of the other protocol are told where that is asked for, and nothing else changes.
func TestXet(t *testing.T) {
	for _, xet := range []bool{false, true} {
		h := New(t, Options{Xet: xet, PageSize: 100})
		h.Repo("models", "org/name").Commit("main", model())
		_, body := get(t, 200, "GET", h.Endpoint()+"/api/models/org/name/tree/main?recursive=true")
		for _, e := range parseJSON[[]entry](t, body) {
			if want := xet && e.LFS != nil; (len(e.XetHash) == 64) != want {
				t.Errorf("%+v", e)
			}
		}
		resp, _ := get(t, 302, "HEAD", h.Endpoint()+"/org/name/resolve/main/model.safetensors")
		if (len(resp.Header.Get("X-Xet-Hash")) == 64) != xet || (resp.Header.Get("Link") != "") != xet {
			t.Error(resp.Header)
		}
	}
}

func TestRanges(t *testing.T) {
	h := New(t, Options{})
	h.Repo("models", "org/name").Commit("main", map[string][]byte{"a.bin": []byte("0123456789")})
	resp, _ := get(t, 302, "GET", h.Endpoint()+"/org/name/resolve/main/a.bin")
	url, etag := resp.Header.Get("Location"), resp.Header.Get("ETag")
	for _, c := range []struct {
		headers []string
		status  int
		body    string
		content string
	}{
		{[]string{"Range: bytes=0-0"}, 206, "0", "bytes 0-0/10"},
		{[]string{"Range: bytes=3-"}, 206, "3456789", "bytes 3-9/10"},
		{[]string{"Range: bytes=3-5"}, 206, "345", "bytes 3-5/10"},
		{[]string{"Range: bytes=8-100"}, 206, "89", "bytes 8-9/10"},
		{[]string{"Range: bytes=-4"}, 206, "6789", "bytes 6-9/10"},
		{[]string{"Range: bytes=-40"}, 206, "0123456789", "bytes 0-9/10"},
		{[]string{"Range: bytes=10-"}, 416, "", "bytes */10"},
		{[]string{"Range: bytes=5-3"}, 200, "0123456789", ""},
		{[]string{"Range: bytes=0-1,3-4"}, 200, "0123456789", ""},
		{[]string{"Range: lines=0-1"}, 200, "0123456789", ""},
		{[]string{"Range: bytes=3-5", "If-Range: " + etag}, 206, "345", "bytes 3-5/10"},
		{[]string{"Range: bytes=3-5", `If-Range: "other"`}, 200, "0123456789", ""},
		{[]string{"If-None-Match: " + etag}, 304, "", ""},
	} {
		resp, body := get(t, c.status, "GET", url, c.headers...)
		if string(body) != c.body || resp.Header.Get("Content-Range") != c.content || resp.Header.Get("ETag") != etag && c.status != 416 {
			t.Errorf("%v: %q, %v", c.headers, body, resp.Header)
		}
	}
}

func TestAccess(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	h := New(t, Options{Now: func() time.Time { return now }, SignedFor: time.Minute})
	h.Token("alice", Token{User: "alice", Write: true})
	h.Token("bob", Token{User: "bob", Reads: []string{"alice/secret"}})
	h.Token("carol", Token{User: "carol"})
	secret, gated := h.Repo("models", "alice/secret"), h.Repo("models", "alice/gated")
	secret.Commit("main", model())
	gated.Commit("main", model())
	secret.Private(true)
	gated.Gate("manual")
	gated.Admit("bob")
	api, file := h.Endpoint()+"/api/models/", "/resolve/main/model.safetensors"
	for _, c := range []struct {
		url, token string
		status     int
		code       string
	}{
		{api + "alice/secret", "", 401, "RepoNotFound"},
		{api + "alice/secret", "carol", 404, "RepoNotFound"},
		{api + "alice/secret", "bob", 200, ""},
		{api + "alice/secret", "alice", 200, ""},
		{api + "alice/nothing", "", 401, "RepoNotFound"},
		{api + "alice/gated", "", 200, ""},
		{api + "alice/gated", "wrong", 401, ""},
		{api + "alice/gated/tree/main", "", 200, ""},
		{h.Endpoint() + "/alice/gated" + file, "", 401, "GatedRepo"},
		{h.Endpoint() + "/alice/gated" + file, "carol", 403, "GatedRepo"},
		{h.Endpoint() + "/alice/gated" + file, "bob", 302, ""},
		{api + "alice/gated/auth-check", "carol", 403, "GatedRepo"},
		{api + "alice/gated/auth-check", "bob", 200, ""},
		{h.Endpoint() + "/api/whoami-v2", "bob", 200, ""},
		{h.Endpoint() + "/api/whoami-v2", "", 401, ""},
		{h.Endpoint() + "/api/agent-harnesses", "", 404, ""},
	} {
		headers := []string{}
		if c.token != "" {
			headers = append(headers, "Authorization: Bearer "+c.token)
		}
		resp, _ := get(t, c.status, "GET", c.url, headers...)
		if got := resp.Header.Get("X-Error-Code"); got != c.code || c.status >= 400 && resp.Header.Get("X-Error-Message") == "" {
			t.Errorf("%s as %q: %v, want %q", c.url, c.token, resp.Header, c.code)
		}
	}
	gated.Gate("")
	resp, _ := get(t, 302, "GET", h.Endpoint()+"/alice/gated"+file)
	get(t, 200, "HEAD", resp.Header.Get("Location"))
	now = now.Add(2 * time.Minute)
	get(t, 403, "HEAD", resp.Header.Get("Location"))

	gated.Rename("alice/opened")
	resp, _ = get(t, 307, "GET", api+"alice/gated/tree/main?recursive=true")
	if got := resp.Header.Get("Location"); got != "/api/models/alice/opened/tree/main?recursive=true" {
		t.Errorf("redirected to %s", got)
	}
	resp, _ = get(t, 307, "HEAD", h.Endpoint()+"/alice/gated/resolve/main/config.json")
	if got := resp.Header.Get("Location"); got != "/alice/opened/resolve/main/config.json" {
		t.Errorf("redirected to %s", got)
	}
	gated.Disabled(true)
	resp, _ = get(t, 403, "GET", api+"alice/opened")
	if resp.Header.Get("X-Error-Message") != "Access to this resource is disabled." {
		t.Error(resp.Header)
	}
	old := secret.Head("main")
	secret.Delete()
	h.Repo("models", "alice/secret").Commit("main", map[string][]byte{"config.json": []byte("taken over")})
	get(t, 404, "GET", api+"alice/secret/revision/"+old)
}

func TestJournal(t *testing.T) {
	h := New(t, Options{})
	h.Token("t", Token{User: "u"})
	h.Repo("models", "org/name").Commit("main", model())
	resp, _ := get(t, 302, "GET", h.Endpoint()+"/org/name/resolve/main/model.safetensors", "Authorization: Bearer t")
	get(t, 206, "GET", resp.Header.Get("Location"), "Range: bytes=5-14")
	all := h.Requests()
	if len(all) != 2 || h.Connections() != 2 {
		t.Fatalf("%d requests, %d connections", len(all), h.Connections())
	}
	first, second := all[0], all[1]
	if first.Origin != "hub" || first.Route != "resolve" || first.File != "model.safetensors" || !first.HasAuthorization || first.Token != "t" || first.Status != 302 {
		t.Errorf("%+v", first)
	}
	if second.Origin != "cdn" || second.File != "model.safetensors" || second.HasAuthorization || second.Range != "bytes=5-14" || second.Status != 206 ||
		second.Bytes != 10 || !strings.HasPrefix(second.Host, "localhost:") {
		t.Errorf("%+v", second)
	}
	h.ResetRequests()
	if len(h.Requests()) != 0 || h.Connections() != 0 {
		t.Error("the journal is not empty")
	}
}

func TestCommitDir(t *testing.T) {
	dir := t.TempDir()
	files := model()
	for name, data := range files {
		os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := New(t, Options{})
	r := h.Repo("models", "name")
	r.Commit("main", map[string][]byte{"old.txt": []byte("old")})
	commit, err := r.CommitDir("main", dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Files(commit)
	if err != nil || !maps.EqualFunc(got, files, bytes.Equal) {
		t.Errorf("%v, files %v", err, slices.Sorted(maps.Keys(got)))
	}
	resp, _ := get(t, 302, "GET", h.Endpoint()+"/name/resolve/"+commit+"/model.safetensors")
	if _, body := get(t, 206, "GET", resp.Header.Get("Location"), "Range: bytes=1048576-"); !bytes.Equal(body, weights()[1<<20:]) {
		t.Error("a file on disk is served wrong")
	}
	get(t, 200, "GET", h.Endpoint()+"/api/models/name/tree/main")
	get(t, 307, "GET", h.Endpoint()+"/name/resolve/main/sub/deep/two.txt")
}

func TestTLSAndRefusal(t *testing.T) {
	h := New(t, Options{TLS: true})
	h.Repo("models", "org/name").Commit("main", model())
	if _, _, err := call(t, "GET", h.Endpoint()+"/api/models/org/name"); err == nil {
		t.Error("an unknown certificate was accepted")
	}
	c := client(t)
	c.Transport.(*http.Transport).TLSClientConfig = tlsConfig(h)
	resp, err := c.Get(h.Endpoint() + "/org/name/resolve/main/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	resp, err = c.Get(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !bytes.Equal(data, weights()) || !strings.HasPrefix(h.CDN(), "https://") {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	h.Refuse()
	if _, err := c.Get(h.Endpoint()); err == nil {
		t.Error("a Hub that refuses answers")
	}
	if err := h.Accept(); err != nil {
		t.Fatal(err)
	}
	if resp, err = c.Get(h.Endpoint() + "/api/models/org/name"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
