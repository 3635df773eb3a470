package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain is also the program of TestKill's process.
func TestMain(m *testing.M) {
	if text := os.Getenv("HUB_TEST_DOWNLOAD"); text != "" {
		os.Exit(downloadForKill(text))
	}
	verify(m)
}

// killed says what the process that is to be killed downloads.
type killed struct {
	Endpoint string
	File     File
	Parts    string
	Path     string
}

func downloadForKill(text string) int {
	var k killed
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c := New(Settings{Endpoint: k.Endpoint}, Options{})
	c.limits = testLimits
	d := Download{Parts: k.Parts, Path: k.Path, Progress: func(n int64) { fmt.Println(n) }}
	if _, err := c.Download(context.Background(), repo, commit, k.File, d); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (h *testHub) setHold(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = f
}

// holdAfter makes the server wait after so many bytes until it may go on.
func (h *testHub) holdAfter(limit int64) (waits <-chan struct{}, goOn func()) {
	wait, open := make(chan struct{}), make(chan struct{})
	var once, done sync.Once
	h.setHold(func() {
		if h.total() >= limit {
			once.Do(func() { close(wait) })
			<-open
		}
	})
	return wait, func() { done.Do(func() { close(open) }) }
}

// TestResume: a download that is cancelled goes on where it stood. No byte comes twice but those that were on their way.
func TestResume(t *testing.T) {
	data := content(2_000_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	f := lfsFile("model.safetensors", data)
	d := newPlace(t)
	c := h.client(t, Settings{}, Options{Connections: 3})
	waits, goOn := h.holdAfter(1_000_000)
	defer goOn()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-waits
		cancel()
		goOn()
	}()
	var came int64
	d.Progress = func(n int64) { came += n }
	if _, err := c.Download(ctx, repo, commit, f, d); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if _, err := os.Lstat(d.Path); err == nil {
		t.Fatal("there is a file already")
	}
	var first, total int64
	var tee teeBuffer
	d.Tee = &tee
	d.Progress = func(n int64) {
		if first == 0 {
			first = n
		}
		total += n
	}
	sum, err := h.client(t, Settings{}, Options{Connections: 3, UserAgent: "second"}).Download(t.Context(), repo, commit, f, d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	if first != came || total != f.Size || tee.Len() > 0 {
		t.Errorf("%d of %d bytes were taken over; %d in all; tee %d", first, came, total, tee.Len())
	}
	if again := h.sentTo("second"); again != f.Size-came {
		t.Errorf("%d bytes were sent for the missing %d", again, f.Size-came)
	}
}

// TestKill: a process that is killed loses what was not in its journal, no more, and whoever comes next has the right bytes.
func TestKill(t *testing.T) {
	data := content(3_000_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	f := lfsFile("model.safetensors", data)
	d := newPlace(t)
	for round := range 4 {
		_, goOn := h.holdAfter(h.total() + 600_000)
		kill(t, h, f, d)
		goOn()
		parts := partsIn(d.Parts, func(string) bool { return true })
		if len(parts) == 0 {
			t.Fatalf("round %d: nothing is left", round)
		}
	}
	h.setHold(nil)
	var first int64
	d.Progress = func(n int64) {
		if first == 0 {
			first = n
		}
	}
	sum, err := h.client(t, Settings{}, Options{UserAgent: "last"}).Download(t.Context(), repo, commit, f, d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	if sent := h.sentTo("last"); first < f.Size/4 || sent != f.Size-first {
		t.Errorf("%d bytes were left after four processes; %d were sent then", first, sent)
	}
}

// kill runs a download in a process of its own and kills it when nothing comes any more.
func kill(t *testing.T, h *testHub, f File, d Download) {
	t.Helper()
	text, err := json.Marshal(killed{h.URL, f, d.Parts, d.Path})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "HUB_TEST_DOWNLOAD="+string(text))
	cmd.Stderr = os.Stderr
	start := h.total()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); h.total() < start+500_000; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the process does not get on")
			break
		}
	}
	time.Sleep(150 * time.Millisecond) // three ticks of its journal
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

// interrupted leaves a part of a file: all but the last piece.
func interrupted(t *testing.T, h *testHub, f File, d Download) (base string) {
	t.Helper()
	waits, goOn := h.holdAfter(h.total() + f.Size*3/4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-waits
		time.Sleep(20 * time.Millisecond)
		cancel()
		goOn()
	}()
	if _, err := h.client(t, Settings{}, Options{Connections: 2}).Download(ctx, repo, commit, f, d); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	h.setHold(nil)
	found := partsIn(d.Parts, func(string) bool { return true })
	if len(found) != 1 {
		t.Fatalf("%d parts are left", len(found))
	}
	return filepath.Join(d.Parts, found[0].base)
}

// What was left is damaged: it is found out, whatever was done to it, and the bytes are right in the end.
func TestDamagedPart(t *testing.T) {
	data := content(700_000)
	f := lfsFile("model.safetensors", data)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	flip := func(at int64) func(base string) {
		return func(base string) {
			file, err := os.OpenFile(base+".part", os.O_RDWR, 0)
			must(err)
			b := make([]byte, 1)
			_, err = file.ReadAt(b, at)
			must(err)
			b[0] ^= 4
			_, err = file.WriteAt(b, at)
			must(err)
			must(file.Close())
		}
	}
	for name, damage := range map[string]func(base string){
		"first byte":      flip(0),
		"bit in the data": flip(100_000),
		"bit behind":      flip(500_000),
		"cut off":         func(base string) { must(os.Truncate(base+".part", 1000)) },
		"empty":           func(base string) { must(os.Truncate(base+".part", 0)) },
		"zeros":           func(base string) { must(os.WriteFile(base+".part", make([]byte, len(data)), 0o600)) },
		"no journal":      func(base string) { must(os.Remove(base + ".journal")) },
		"no part":         func(base string) { must(os.Remove(base + ".part")) },
		"empty journal":   func(base string) { must(os.Truncate(base+".journal", 0)) },
		"journal of another size": func(base string) {
			slot, err := record{Seq: 99, OID: f.oid(), Size: f.Size + 1, Spans: [][2]int64{{0, 1000}}}.encode()
			must(err)
			must(os.WriteFile(base+".journal", slot, 0o600))
		},
		"journal that lies": func(base string) {
			slot, err := record{Seq: 99, OID: f.oid(), Size: f.Size, Spans: [][2]int64{{0, f.Size}}}.encode()
			must(err)
			must(os.WriteFile(base+".journal", slot, 0o600))
			must(os.Truncate(base+".part", f.Size))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			h := newHub(t, map[string][]byte{"model.safetensors": data})
			d := newPlace(t)
			damage(interrupted(t, h, f, d))
			var total int64
			d.Progress = func(n int64) { total += n }
			sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
			if err != nil {
				t.Fatal(err)
			}
			mustHave(t, d, sum, data)
			if total != f.Size {
				t.Errorf("progress says %d", total)
			}
		})
	}
}

// A link is planted where we write: it is replaced or refused, never followed.
func TestPlantedLinks(t *testing.T) {
	data := content(700_000)
	f := lfsFile("model.safetensors", data)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".part", ".journal", ".lock", "path"} {
		d := newPlace(t)
		at := interrupted(t, h, f, d) + ext
		if ext == "path" {
			at = d.Path
		}
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, at); err != nil {
			t.Logf("no links here: %v", err)
			return
		}
		sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
		if err != nil {
			t.Fatalf("%s: %v", ext, err)
		}
		mustHave(t, d, sum, data)
		if info, err := os.Lstat(d.Path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: what is in place is no file", ext)
		}
		if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
			t.Fatalf("%s: the link was followed: %d bytes, %v", ext, len(text), err)
		}
	}
}

// Many want the same file at once, each for itself; nobody takes what another one works on.
func TestTogether(t *testing.T) {
	data := content(500_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	c := h.client(t, Settings{}, Options{Connections: 4})
	parts := newPlace(t).Parts
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			path := filepath.Join(filepath.Dir(parts), fmt.Sprint("file", i))
			_, err := c.Download(t.Context(), repo, commit, lfsFile("model.safetensors", data), Download{Parts: parts, Path: path})
			if got, _ := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if rest, _ := os.ReadDir(parts); len(rest) > 0 {
		t.Errorf("left over: %v", rest)
	}
}

// All downloads together have no more connections than they may.
func TestConnections(t *testing.T) {
	data := content(500_000)
	h := newHub(t, map[string][]byte{"a.bin": data, "b.bin": data, "c.bin": data[:1000]})
	now, most := 0, 0
	h.during = func(n int) {
		h.mu.Lock()
		now += n
		most = max(most, now)
		h.mu.Unlock()
		if n > 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	c := h.client(t, Settings{}, Options{Connections: 3})
	var wg sync.WaitGroup
	for name, data := range h.files {
		wg.Go(func() {
			d := newPlace(t)
			if _, err := c.Download(t.Context(), repo, commit, lfsFile(name, data), d); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if most > 3 || most < 2 {
		t.Errorf("%d connections at a time", most)
	}
}

// What is small waits for its turn behind bytes of files, and that wait is not taken for a silence of the server.
func TestSmallRequestsWait(t *testing.T) {
	data := content(500_000)
	h := newHub(t, map[string][]byte{"big.txt": data}) // which comes from the Hub itself
	c := h.client(t, Settings{MetaTimeout: 10 * time.Millisecond}, Options{Connections: 1})
	waits, goOn := h.holdAfter(100_000)
	defer goOn()
	d := newPlace(t)
	downloaded, asked := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Download(t.Context(), repo, commit, gitFile("big.txt", data), d)
		downloaded <- err
	}()
	<-waits
	go func() {
		_, err := c.Info(t.Context(), repo, "main")
		asked <- err
	}()
	select {
	case err := <-asked:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	goOn()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if err := <-downloaded; err != nil {
		t.Error(err)
	}
}

// Our own part is taken away while we work, as it is from a process that was stopped for long: the download starts again and is right.
func TestRobbed(t *testing.T) {
	data := content(700_000)
	f := lfsFile("model.safetensors", data)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	d := newPlace(t)
	waits, goOn := h.holdAfter(300_000)
	go func() {
		<-waits
		for _, n := range partsIn(d.Parts, func(string) bool { return true }) {
			if err := os.Rename(filepath.Join(d.Parts, n.base+".part"), filepath.Join(d.Parts, "stolen")); err != nil {
				t.Error(err)
			}
		}
		goOn()
	}()
	sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.Parts, "stolen")); err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
}

// If-Range: the server says by 200 that the file is another one; what was left of the old one is not mixed with it.
func TestChangedBetween(t *testing.T) {
	data := content(700_000)
	f := lfsFile("model.safetensors", data)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	d := newPlace(t)
	interrupted(t, h, f, d)
	h.setSum("model.safetensors", strings.Repeat("b", 64))
	h.setBefore(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.Contains(r.URL.Path, "/resolve/") {
			http.Redirect(w, r, h.cdn.URL+"/blob/model.safetensors", http.StatusFound)
			return true
		}
		return false
	})
	var taken int64
	d.Progress = func(n int64) { taken = min(taken, n) }
	sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	if taken >= 0 {
		t.Error("what was left was not given up")
	}
}

// Connections are used again: the pieces of a file need no more of them than there are at a time.
func TestConnectionsUsedAgain(t *testing.T) {
	data := content(1_000_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	var fresh atomic.Int64
	cdn := httptest.NewUnstartedServer(http.HandlerFunc(h.serveFile))
	cdn.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fresh.Add(1)
		}
	}
	cdn.Start()
	defer cdn.Close()
	h.cdn.Close()
	h.cdn = cdn
	c := h.client(t, Settings{}, Options{Connections: 3})
	d := newPlace(t)
	sum, err := c.Download(t.Context(), repo, commit, lfsFile("model.safetensors", data), d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	c.Close()
	if n, pieces := fresh.Load(), h.requests("/blob/"); n > 3 || pieces < 30 {
		t.Errorf("%d connections for %d pieces", n, pieces)
	}
}
