package hub_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
)

const canary = "hf_canaryDoNotShow"

// noise is n bytes that no compression makes fewer.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// repository has a file of each sort: of many pieces and of one, in LFS and in git, empty, in a folder.
func repository() map[string][]byte {
	return map[string][]byte{
		"config.json": []byte(`{"model_type": "llama"}` + "\n"), "tokenizer.json": noise(1, 150_000), "sub/deep/empty.txt": {},
		"model.safetensors": noise(2, 200_001),
	}
}

// site is a Hub with a repository, and a machine that fetches it.
type site struct {
	h      *hubtest.Hub
	files  map[string][]byte
	parts  string
	dir    string
	runs   int
	commit string
}

func newSite(t *testing.T, o hubtest.Options) *site {
	t.Helper()
	s := &site{h: hubtest.New(t, o), files: repository(), dir: t.TempDir()}
	s.h.Token(canary, hubtest.Token{User: "me"})
	s.commit = s.h.Repo("models", "org/name").Commit("main", s.files)
	s.parts = filepath.Join(s.dir, "parts")
	if err := os.Mkdir(s.parts, 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) client(t testing.TB, transport http.RoundTripper) *hub.Client {
	c := hub.New(hub.Settings{Endpoint: s.h.Endpoint(), Token: canary, TokenFrom: "HF_TOKEN", MetaTimeout: 200 * time.Millisecond, DataTimeout: 200 * time.Millisecond},
		hub.Options{Transport: transport, Sleep: func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }})
	c.SmallPieces()
	t.Cleanup(c.Close)
	return c
}

// fetch does what a build does: what is main, what has it, and all of it. It returns the files that are in place, whole or not.
func (s *site) fetch(ctx context.Context, c *hub.Client) (got map[string][]byte, err error) {
	s.runs++
	to := filepath.Join(s.dir, fmt.Sprint("run", s.runs))
	if err := os.Mkdir(to, 0o700); err != nil {
		return nil, err
	}
	err = s.fetchInto(ctx, c, to)
	got = map[string][]byte{}
	entries, readErr := os.ReadDir(to)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(to, e.Name()))
		readErr = errors.Join(readErr, err)
		got[strings.ReplaceAll(e.Name(), "+", "/")] = data
	}
	return got, errors.Join(err, readErr)
}

func (s *site) fetchInto(ctx context.Context, c *hub.Client, to string) error {
	r := hub.Repo{Kind: "models", ID: "org/name"}
	info, err := c.Info(ctx, r, "main")
	if err != nil {
		return err
	}
	list, err := c.Files(ctx, r, info.Commit)
	if err != nil {
		return err
	}
	var paths []string
	for _, f := range list {
		paths = append(paths, f.Path)
	}
	if err := hub.CheckPaths(paths); err != nil {
		return err
	}
	for _, f := range list {
		if f.Size > 1<<30 {
			return &hub.Error{Class: hub.Full, What: f.Path + " has too many bytes for this test", Do: "see what declares them"}
		}
		sum, err := c.Download(ctx, r, info.Commit, f, hub.Download{Parts: s.parts, Path: filepath.Join(to, strings.ReplaceAll(f.Path, "/", "+"))})
		if err != nil {
			return err
		}
		if sum != sha256.Sum256(s.files[f.Path]) {
			return fmt.Errorf("%s: Download returned another sha256", f.Path)
		}
	}
	return nil
}

// hit runs a fetch under faults and one after them, and checks what must hold whatever happens.
func (s *site) hit(t *testing.T, faults []hubtest.Fault) (err error) {
	t.Helper()
	s.h.Faults(faults)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := s.client(t, nil)
	defer c.Close()
	got, err := s.fetch(ctx, c)
	if took := time.Since(start); ctx.Err() != nil || took > 20*time.Second {
		t.Errorf("%v: took %v", faults, took)
	}
	for name, data := range got {
		if !bytes.Equal(data, s.files[name]) {
			t.Errorf("%v: %s has %d bytes that are not those of the repository", faults, name, len(data))
		}
	}
	if err != nil {
		s.clear(t, err, faults)
	}
	for _, r := range s.h.Requests() {
		if r.Token == canary && r.Origin != "hub" {
			t.Errorf("%v: the token went to %s%s", faults, r.Host, r.Path)
		}
	}
	s.h.ClearFaults()
	if again, err := s.fetch(t.Context(), c); err != nil || !maps.EqualFunc(again, s.files, bytes.Equal) {
		t.Errorf("%v: a run without faults after it: %v, %v", faults, slices.Sorted(maps.Keys(again)), err)
	}
	if left, _ := os.ReadDir(s.parts); len(left) > 0 {
		t.Errorf("%v: left over: %v", faults, left)
	}
	if err == nil && !maps.EqualFunc(got, s.files, bytes.Equal) {
		return errIncomplete
	}
	return err
}

var errIncomplete = errors.New("the fetch says that all is well, and files are missing")

// clear checks that an error says what is wrong and what to do, and shows no secret.
func (s *site) clear(t *testing.T, err error, faults []hubtest.Fault) {
	t.Helper()
	var e *hub.Error
	if !errors.As(err, &e) || e.Class == "" || e.Hint() == "" || len(e.Error()) < 20 {
		t.Errorf("%v: the error is not clear: %T %v", faults, err, err)
	}
	for _, secret := range []string{canary, "Signature="} {
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, secret) {
			t.Errorf("%v: the error shows a secret: %s", faults, text)
		}
	}
}

// positions are the bytes at which faults of a kind are worth trying.
func positions(k hubtest.Kind) []int64 {
	switch k {
	case hubtest.Reset:
		return []int64{-1, 0, 1, 30_000, 1 << 40}
	case hubtest.Stall:
		return []int64{0, 30_000}
	case hubtest.Drop, hubtest.BareCut, hubtest.Flip, hubtest.Zeros:
		return []int64{0, 1, 30_000, 1 << 40}
	case hubtest.Slow, hubtest.JSONCut, hubtest.GzipCut:
		return []int64{0, 70}
	}
	return []int64{0}
}

// TestEveryFault tries every fault on every route of a fetch, once and without end. One that passes must end in the right files; others in the right files or a clear error; none in
// wrong bytes, and none may leave anything that keeps the next run from being right.
func TestEveryFault(t *testing.T) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8) // most of the time is spent waiting: for the disk, or for what does not come
	for _, kind := range hubtest.Kinds() {
		if kind == hubtest.PlainHTTP || kind == hubtest.PrivateAddress || kind == hubtest.Landed {
			continue // TestFaultsWithTLS and TestRedirectsRefused have the first two, and nothing is uploaded here
		}
		s := newSite(t, hubtest.Options{})
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s.everywhere(t, kind)
		})
	}
	wg.Wait()
}

// everywhere tries one kind of fault.
func (s *site) everywhere(t *testing.T, kind hubtest.Kind) {
	hits := 0
	for _, route := range kind.Routes() {
		if !slices.Contains([]string{"info", "tree", "resolve", "resolve-cache", "cdn"}, route) {
			continue
		}
		for _, at := range positions(kind) {
			for _, times := range []int{1, -1} {
				if times < 0 && at > 0 && kind == hubtest.Stall {
					continue // each try waits for the whole time that nothing comes: once is enough
				}
				f := hubtest.Fault{Kind: kind, Route: route, At: at, Times: times, Wait: 400 * time.Millisecond}
				if kind == hubtest.Slow {
					f.Wait = 5 * time.Millisecond
				}
				s.h.ResetRequests()
				err := s.hit(t, []hubtest.Fault{f})
				if slices.ContainsFunc(s.h.Requests(), func(r hubtest.Request) bool { return slices.Contains(r.Faults, kind) }) {
					hits++
				}
				if errors.Is(err, errIncomplete) && kind != hubtest.TreeCut || err != nil && times == 1 && kind.Ends() != hubtest.Lasting {
					t.Errorf("%v: %v", f, err)
				}
			}
		}
	}
	if hits == 0 {
		t.Errorf("%s: nothing was hit", kind)
	}
}

// TestRandomPlans tries plans of several faults.
func TestRandomPlans(t *testing.T) {
	s := newSite(t, hubtest.Options{})
	isCut := func(f hubtest.Fault) bool { return f.Kind == hubtest.TreeCut }
	for seed := range uint64(60) {
		plan := hubtest.RandomFaults(seed)
		if err := s.hit(t, plan); errors.Is(err, errIncomplete) && !slices.ContainsFunc(plan, isCut) {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestFaultsWithTLS(t *testing.T) {
	s := newSite(t, hubtest.Options{TLS: true})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.h.Certificates()}}
	t.Cleanup(transport.CloseIdleConnections)
	if got, err := s.fetch(t.Context(), s.client(t, transport)); err != nil || !maps.EqualFunc(got, s.files, bytes.Equal) {
		t.Errorf("%v, %v", slices.Sorted(maps.Keys(got)), err)
	}
	_, err := s.fetch(t.Context(), s.client(t, nil))
	if s.clear(t, err, nil); hub.ClassOf(err) != hub.Network {
		t.Errorf("an unknown certificate: %v", err)
	}
	for _, route := range []string{"info", "tree", "resolve", "resolve-cache", "cdn"} {
		s.h.Fault(hubtest.Fault{Kind: hubtest.PlainHTTP, Route: route})
		_, err := s.fetch(t.Context(), s.client(t, transport))
		if s.clear(t, err, nil); hub.ClassOf(err) != hub.Protocol {
			t.Errorf("led from https to http at %s: %v", route, err)
		}
		s.h.ClearFaults()
	}
	for _, r := range s.h.Requests() {
		if r.Origin == "plain" || r.Origin != "hub" && r.HasAuthorization {
			t.Errorf("asked at %s: %+v", r.Origin, r)
		}
	}
}

// TestNoHub: nobody listens, or the name means nothing.
func TestNoHub(t *testing.T) {
	s := newSite(t, hubtest.Options{})
	c := s.client(t, nil)
	if _, err := s.fetch(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s.h.Refuse()
	_, err := s.fetch(t.Context(), c)
	if s.clear(t, err, nil); hub.ClassOf(err) != hub.Network {
		t.Errorf("connection refused: %v", err)
	}
	if err := s.h.Accept(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.fetch(t.Context(), c); err != nil || !maps.EqualFunc(got, s.files, bytes.Equal) {
		t.Errorf("the Hub is back: %v", err)
	}
	lost := hub.New(hub.Settings{Endpoint: "http://hub.invalid", MetaTimeout: time.Second}, hub.Options{Sleep: func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }})
	defer lost.Close()
	_, err = lost.Info(t.Context(), hub.Repo{Kind: "models", ID: "org/name"}, "")
	if s.clear(t, err, nil); hub.ClassOf(err) != hub.Network {
		t.Errorf("a host that does not exist: %v", err)
	}
}
