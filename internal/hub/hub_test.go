package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func verify(m *testing.M) { goleak.VerifyTestMain(m) }

const commit = "0123456789abcdef0123456789abcdef01234567"

var repo = Repo{Kind: "models", ID: "org/name"}

// content of n bytes, always the same.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func gitSHA1(data []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
	return hex.EncodeToString(sum[:])
}

func lfsFile(path string, data []byte) File {
	return File{Path: path, Size: int64(len(data)), GitSHA1: strings.Repeat("a", 40), SHA256: sha256Hex(data)}
}

func gitFile(path string, data []byte) File {
	return File{Path: path, Size: int64(len(data)), GitSHA1: gitSHA1(data)}
}

// testHub is a Hub of one repository. Each request goes through before, which may answer it itself.
type testHub struct {
	*httptest.Server
	cdn    *httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	sums   map[string]string
	seen   []*http.Request
	before func(w http.ResponseWriter, r *http.Request, nth int) bool
	sent   map[string]int64 // bytes of files, by User-Agent
	busy   int              // answers with them that are not over
	hold   func()           // called before each write of bytes of files
	during func(n int)      // called with 1 and -1 around each answer with them
}

func newHub(t testing.TB, files map[string][]byte) *testHub {
	h := &testHub{files: files, sums: map[string]string{}, sent: map[string]int64{}}
	for name, data := range files {
		h.sums[name] = sha256Hex(data)
	}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	h.cdn = httptest.NewServer(http.HandlerFunc(h.serveFile))
	t.Cleanup(func() {
		h.Server.CloseClientConnections()
		h.cdn.CloseClientConnections()
		h.Close()
		h.cdn.Close()
	})
	return h
}

// setBefore changes what answers requests first. Answers to earlier ones may still be on their way.
func (h *testHub) setBefore(f func(w http.ResponseWriter, r *http.Request, nth int) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = f
}

func (h *testHub) setSum(name, sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sums[name] = sum
}

func (h *testHub) sum(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sums[name]
}

// record notes a request and lets the test answer it. nth counts those of the same server and path.
func (h *testHub) record(w http.ResponseWriter, r *http.Request) (answered bool) {
	h.mu.Lock()
	nth := 0
	for _, o := range h.seen {
		if o.Host == r.Host && o.URL.Path == r.URL.Path {
			nth++
		}
	}
	h.seen = append(h.seen, r)
	before := h.before
	h.mu.Unlock()
	return before != nil && before(w, r, nth)
}

func (h *testHub) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Repo-Commit", commit)
	w.Header().Set("X-Request-Id", "req-1")
	if h.record(w, r) {
		return
	}
	name, isFile := strings.CutPrefix(r.URL.Path, "/org/name/resolve/"+commit+"/")
	data, there := h.files[name]
	switch {
	case strings.HasPrefix(r.URL.Path, "/api/models/org/name/tree/"):
		h.tree(w)
	case r.URL.Path == "/api/models/org/name" || strings.HasPrefix(r.URL.Path, "/api/models/org/name/revision/"):
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprintf(w, `{"id":"org/name","sha":%q,"gated":false,"downloads":7,"author":"org","tags":["license:mit"]}`, commit)
	case isFile && there && strings.HasSuffix(name, ".safetensors"):
		w.Header().Set("X-Linked-Etag", `"`+h.sum(name)+`"`)
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(data)))
		http.Redirect(w, r, h.cdn.URL+"/blob/"+name+"?X-Amz-Signature=sesame", http.StatusFound)
	case isFile && there:
		h.content(w, r, name)
	default:
		w.Header().Set("X-Error-Code", "EntryNotFound")
		http.Error(w, "", http.StatusNotFound)
	}
}

func (h *testHub) serveFile(w http.ResponseWriter, r *http.Request) {
	if !h.record(w, r) {
		h.content(w, r, strings.TrimPrefix(r.URL.Path, "/blob/"))
	}
}

func (h *testHub) content(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("ETag", `"`+h.sum(name)[:20]+`"`)
	h.answering(1)
	defer h.answering(-1)
	if h.during != nil {
		h.during(1)
		defer h.during(-1)
	}
	http.ServeContent(&counted{w, h, r.UserAgent()}, r, "x.bin", time.Time{}, bytes.NewReader(h.files[name]))
}

func (h *testHub) answering(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy += n
}

type counted struct {
	http.ResponseWriter
	h     *testHub
	agent string
}

func (c *counted) Write(p []byte) (int, error) {
	c.h.mu.Lock()
	hold := c.h.hold
	c.h.mu.Unlock()
	if hold != nil {
		hold()
	}
	n, err := c.ResponseWriter.Write(p)
	c.h.mu.Lock()
	c.h.sent[c.agent] += int64(n)
	c.h.mu.Unlock()
	return n, err
}

func (h *testHub) tree(w http.ResponseWriter) {
	var list []map[string]any
	for name, data := range h.files {
		e := map[string]any{"type": "file", "path": name, "size": len(data), "oid": gitSHA1(data)}
		if strings.HasSuffix(name, ".safetensors") {
			e["lfs"] = map[string]any{"oid": h.sum(name), "size": len(data), "pointerSize": 130}
		}
		list = append(list, e)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

// client of a test: no pauses, small limits, so that a file of a few hundred kB has many pieces.
func (h *testHub) client(t testing.TB, s Settings, o Options) *Client {
	s.Endpoint = h.URL
	if o.Sleep == nil {
		o.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	}
	c := New(s, o)
	c.limits = testLimits
	t.Cleanup(c.Close)
	return c
}

var testLimits = limits{small: 64 << 10, piece: 32 << 10, pieces: 512, sync: 64 << 10, lag: 128 << 10, tick: 50 * time.Millisecond, worth: 4 << 10}

// total is how many bytes of files were sent.
func (h *testHub) total() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var n int64
	for _, sent := range h.sent {
		n += sent
	}
	return n
}

// sentTo is how many bytes of files were sent to a client that has got its last one. What is still being written to others, who went away, does not count.
func (h *testHub) sentTo(agent string) int64 {
	for {
		h.mu.Lock()
		busy, n := h.busy, h.sent[agent]
		h.mu.Unlock()
		if busy == 0 {
			return n
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *testHub) requests(path string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.seen {
		if strings.Contains(r.URL.Path, path) {
			n++
		}
	}
	return n
}

// place for a download.
func newPlace(t testing.TB) Download {
	dir := t.TempDir()
	parts := filepath.Join(dir, "parts")
	if err := os.Mkdir(parts, 0o700); err != nil {
		t.Fatal(err)
	}
	return Download{Parts: parts, Path: filepath.Join(dir, "file")}
}

// mustHave checks a finished download: the bytes, and nothing left over.
func mustHave(t *testing.T, d Download, sum [32]byte, data []byte) {
	t.Helper()
	got, err := os.ReadFile(d.Path)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(data))
	}
	if sum != sha256.Sum256(data) {
		t.Fatal("another SHA-256")
	}
	if rest, _ := os.ReadDir(d.Parts); len(rest) > 0 {
		t.Fatalf("left over: %v", rest)
	}
}

func TestInfoFilesBytesStart(t *testing.T) {
	config, weights := []byte(`{"model_type":"llama"}`), content(300_000)
	h := newHub(t, map[string][]byte{"config.json": config, "model.safetensors": weights})
	c := h.client(t, Settings{}, Options{})
	info, err := c.Info(t.Context(), repo, "main")
	if want := (Info{ID: "org/name", Commit: commit, Author: "org", Downloads: 7, License: "mit"}); err != nil || !reflect.DeepEqual(info, want) {
		t.Errorf("%+v, %v", info, err)
	}
	files, err := c.Files(t.Context(), repo, commit)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		want := lfsFile("model.safetensors", weights)
		want.GitSHA1 = gitSHA1(weights)
		if f.Path == "config.json" {
			want = gitFile("config.json", config)
		}
		if f != want {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	if got, err := c.Bytes(t.Context(), repo, commit, gitFile("config.json", config), 1<<20); err != nil || !bytes.Equal(got, config) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := c.Start(t.Context(), repo, commit, lfsFile("model.safetensors", weights), 1000); err != nil || !bytes.Equal(got, weights[:1000]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestDownload(t *testing.T) {
	for _, n := range []int{0, 1, 60_000, 64<<10 + 1, 700_001} {
		for _, name := range []string{"model.safetensors", "big.txt"} {
			data := content(n)
			h := newHub(t, map[string][]byte{name: data})
			f := gitFile(name, data)
			if name == "model.safetensors" {
				f = lfsFile(name, data)
			}
			d := newPlace(t)
			var progress int64
			var tee teeBuffer
			d.Progress, d.Tee = func(n int64) { progress += n }, &tee
			sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
			if err != nil {
				t.Fatalf("%s of %d: %v", name, n, err)
			}
			mustHave(t, d, sum, data)
			if progress != int64(n) || !bytes.Equal(tee.Bytes(), data) {
				t.Errorf("%s of %d: progress %d, tee %d bytes", name, n, progress, tee.Len())
			}
			if n > 64<<10 && name == "model.safetensors" && h.requests("/resolve/") != 1 {
				t.Errorf("the Hub was asked %d times where the bytes are", h.requests("/resolve/"))
			}
		}
	}
}

// A listing or an info that cannot be right, once, is asked for again: a proxy may have had a bad moment. Nothing of it stays.
func TestJSONOnceWrong(t *testing.T) {
	h := newHub(t, map[string][]byte{"a": nil, "b": nil})
	h.setBefore(func(w http.ResponseWriter, _ *http.Request, nth int) bool {
		if nth == 0 {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `[{"type":"file","path":"a","size":0,"oid":%q},{"type":"file","path":"b"}]`, gitSHA1(nil))
		}
		return nth == 0
	})
	c := h.client(t, Settings{}, Options{})
	if _, err := c.Info(t.Context(), repo, "main"); err != nil {
		t.Error(err)
	}
	if files, err := c.Files(t.Context(), repo, commit); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}
