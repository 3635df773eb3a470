package hub

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a server does in place of an answer with the bytes of a file. data is the file, s what was asked for of it.
type fault struct {
	name  string
	class Class // when it does so always; "" when the right bytes come all the same
	do    func(w http.ResponseWriter, data []byte, s span, ranged bool)
}

// head writes the headers of a right answer.
func head(w http.ResponseWriter, data []byte, s span, ranged bool) {
	w.Header().Set("Content-Length", fmt.Sprint(s.len()))
	if ranged {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
}

// cut ends the connection with a reset.
func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

func changedAt(data []byte, s span, change func(b []byte)) []byte {
	b := bytes.Clone(data[s.from:s.to])
	change(b)
	return b
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		panic(err)
	}
	_, _ = z.Write(data) // into memory
	_ = z.Close()
	return b.Bytes()
}

func status(code int, headers ...string) func(http.ResponseWriter, []byte, span, bool) {
	return func(w http.ResponseWriter, _ []byte, _ span, _ bool) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		http.Error(w, "<html>no</html>", code)
	}
}

var faults = []fault{
	{"reset at once", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) { cut(w) }},
	{"reset midway", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) { // always some new bytes, but less and less
		head(w, data, s, ranged)
		_, _ = w.Write(data[s.from : s.from+(s.len()+1)/2])
		flush(w)
		cut(w)
	}},
	{"stall before the headers", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) { time.Sleep(500 * time.Millisecond) }},
	{"stall at the start", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		head(w, data, s, ranged)
		flush(w)
		time.Sleep(500 * time.Millisecond)
	}},
	{"drip", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		head(w, data, s, ranged)
		for i := range min(s.len(), 40) {
			_, _ = w.Write(data[s.from+i : s.from+i+1])
			flush(w)
			time.Sleep(10 * time.Millisecond)
		}
		cut(w)
	}},
	{"long body", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		if ranged {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(data[s.from:s.to])
		flush(w)
		_, _ = w.Write([]byte("and more"))
	}},
	{"flipped bit", Corrupt, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		head(w, data, s, ranged)
		_, _ = w.Write(changedAt(data, s, func(b []byte) { b[len(b)/2] ^= 1 }))
	}},
	{"zero block", Corrupt, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		head(w, data, s, ranged)
		_, _ = w.Write(changedAt(data, s, func(b []byte) { clear(b[len(b)/2:]) }))
	}},
	{"no Content-Length", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		if ranged {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		flush(w)
		_, _ = w.Write(data[s.from:s.to])
	}},
	{"short body without Content-Length", Network, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		if ranged {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		flush(w)
		_, _ = w.Write(data[s.from : s.from+1])
	}},
	{"Content-Length too small", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Length", fmt.Sprint(s.len()-1))
		_, _ = w.Write(data[s.from : s.to-1])
	}},
	{"Content-Length too large", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)+10))
		_, _ = w.Write(data)
	}},
	{"200 for a range", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) { _, _ = w.Write(data) }},
	{"wrong start of range", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) { // without ranges it goes
		if !ranged {
			_, _ = w.Write(data)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from+1, s.to-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[s.from+1 : s.to])
	}},
	{"wrong total of range", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		if !ranged {
			_, _ = w.Write(data)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.from, s.to-1, len(data)+1))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[s.from:s.to])
	}},
	{"206 for the whole", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-2, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[:len(data)-1])
	}},
	{"416 for a range", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		if ranged {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		_, _ = w.Write(data)
	}},
	{"416", Protocol, status(416)},
	{"gzip though identity was asked", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped(data))
	}},
	{"truncated gzip", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped(data)[:len(data)/2])
	}},
	{"no gzip", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(data)
	}},
	{"unknown encoding", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("Content-Encoding", "br")
		_, _ = w.Write(data)
	}},
	{"HTML with 200", Protocol, status(200, "Content-Type", "text/html")},
	{"another file's commit", Protocol, func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("X-Repo-Commit", strings.Repeat("f", 40))
		head(w, data, s, ranged)
		_, _ = w.Write(data[s.from:s.to])
	}},
	{"another ETag each time", "", func(w http.ResponseWriter, data []byte, s span, ranged bool) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, etags.Add(1)))
		head(w, data, s, ranged)
		_, _ = w.Write(data[s.from:s.to])
	}},
	{"429", RateLimited, status(429, "RateLimit", `"resolvers";r=0;t=3`)},
	{"429 with a date", RateLimited, status(429, "Retry-After", "Wed, 21 Oct 2065 07:28:00 GMT", "Date", "Wed, 21 Oct 2065 07:27:00 GMT")},
	{"429 without more", RateLimited, status(429)},
	{"408", Server, status(408)},
	{"500", Server, status(500)},
	{"503", Server, status(503, "Retry-After", "2")},
	{"redirect to nowhere", Protocol, status(302)},
	{"redirect to a forbidden address", Protocol, status(302, "Location", "ftp://elsewhere.test/")},
	{"304", Protocol, status(304)},
	{"gated", Gated, status(403, "X-Error-Code", "GatedRepo")},
	{"gone", NotFound, status(404, "X-Error-Code", "RepoNotFound")},
	{"disabled", Disabled, status(403, "X-Error-Message", "Access to this resource is disabled.")},
	{"bad token", Unauthorized, status(401, "X-Error-Message", "Invalid credentials in Authorization header")},
	{"no right", Forbidden, status(403)},
	{"private", NotFound, status(401)},
}

var etags atomic.Int64

// asked is what a request asks for.
func asked(r *http.Request, data []byte) (s span, ranged bool) {
	s = span{0, int64(len(data))}
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		from, to, _ := strings.Cut(text, "-")
		a, err1 := strconv.ParseInt(from, 10, 64)
		b, err2 := strconv.ParseInt(to, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			panic(err)
		}
		return span{a, b + 1}, true
	}
	return s, false
}

// TestFaults: each fault, once, a few times in a row and always, on a file of one request and one of many. The bytes are right, or there are none and the error says why.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		for _, n := range []int{10_000, 300_000} {
			for _, first := range []int{0, 3}[:1+n/300_000] {
				for _, times := range []int{1, 1 << 30} {
					t.Run(fmt.Sprintf("%s/%d/%d/%d", strings.ReplaceAll(f.name, " ", "_"), n, first, times), func(t *testing.T) {
						t.Parallel()
						testFault(t, f, n, first, times)
					})
				}
			}
		}
	}
}

func testFault(t *testing.T, f fault, n, first, times int) {
	data := content(n)
	h := newHub(t, map[string][]byte{"file.bin": data})
	var count atomic.Int64
	h.setBefore(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		nth := int(count.Add(1)) - 1
		if nth < first || nth-first >= times {
			return false
		}
		s, ranged := asked(r, data)
		f.do(w, data, s, ranged)
		return true
	})
	c := h.client(t, Settings{DataTimeout: 200 * time.Millisecond, Token: canary}, Options{Connections: 4})
	d := newPlace(t)
	var progress int64
	d.Progress = func(n int64) { progress += n }
	sum, err := c.Download(t.Context(), repo, commit, lfsFile("file.bin", data), d)
	if err == nil {
		mustHave(t, d, sum, data)
		if progress != int64(n) {
			t.Errorf("progress says %d", progress)
		}
		if f.class != "" && times > 1 && count.Load() > int64(first) {
			t.Errorf("it went well; want %s", f.class)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Class != f.class || e.Hint() == "" || strings.Contains(err.Error(), canary) {
		t.Fatalf("%v (%s), want %s", err, ClassOf(err), f.class)
	}
	if times == 1 && e.tries > 1 {
		t.Errorf("not tried again: %v", err)
	}
	if _, err := os.Lstat(d.Path); err == nil {
		t.Error("there is a file all the same")
	}
	h.setBefore(nil)
	if sum, err = c.Download(t.Context(), repo, commit, lfsFile("file.bin", data), d); err != nil {
		t.Fatalf("and then: %v", err)
	}
	mustHave(t, d, sum, data)
}

// A few bytes that unpack to more than the file's size are read up to there and no further.
func TestBomb(t *testing.T) {
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	z.Close()
	data := content(1000)
	h := newHub(t, map[string][]byte{"a.txt": data})
	h.setBefore(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(bomb.Bytes())
		return true
	})
	c := h.client(t, Settings{}, Options{})
	d := newPlace(t)
	if _, err := c.Download(t.Context(), repo, commit, gitFile("a.txt", data), d); ClassOf(err) != Corrupt {
		t.Errorf("%v", err)
	}
	if _, err := c.Bytes(t.Context(), repo, commit, gitFile("a.txt", data), 1<<20); ClassOf(err) != Protocol {
		t.Errorf("%v", err)
	}
	if _, err := c.Info(t.Context(), repo, ""); ClassOf(err) != Protocol {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The signature of the address expires midway: the Hub is asked again, the bytes stay.
func TestSignatureExpires(t *testing.T) {
	data := content(700_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	h.setBefore(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if r.Host == h.cdn.Listener.Addr().String() && nth == 8 {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	d := newPlace(t)
	sum, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, lfsFile("model.safetensors", data), d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	if n := h.requests("/resolve/"); n != 2 {
		t.Errorf("the Hub was asked %d times, not 2", n)
	}
	if h.total() > int64(len(data)) {
		t.Errorf("%d bytes were sent for %d", h.total(), len(data))
	}
}

// The repository is gated while its file comes: the error is the Hub's, what came stays.
func TestGatedMidway(t *testing.T) {
	data := content(700_000)
	h := newHub(t, map[string][]byte{"model.safetensors": data})
	h.setBefore(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		cdn := r.Host == h.cdn.Listener.Addr().String()
		if cdn && nth >= 8 {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		if !cdn && nth > 0 {
			w.Header().Set("X-Error-Code", "GatedRepo")
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	d := newPlace(t)
	c := h.client(t, Settings{}, Options{})
	f := lfsFile("model.safetensors", data)
	if _, err := c.Download(t.Context(), repo, commit, f, d); ClassOf(err) != Gated || !strings.Contains(err.Error(), "(request req-1)") {
		t.Fatalf("%v", err)
	}
	h.setBefore(nil)
	var first int64
	d.Progress = func(n int64) {
		if first == 0 {
			first = n
		}
	}
	sum, err := c.Download(t.Context(), repo, commit, f, d)
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, d, sum, data)
	if first < 100_000 {
		t.Errorf("only %d bytes were left", first)
	}
}

// A file that no disk holds is refused before the first byte is asked for.
func TestTooLarge(t *testing.T) {
	h := newHub(t, nil)
	f := lfsFile("model.safetensors", nil)
	f.Size = maxFile
	d := newPlace(t)
	_, err := h.client(t, Settings{}, Options{}).Download(t.Context(), repo, commit, f, d)
	if ClassOf(err) != Full || !strings.Contains(err.Error(), "needs 1.0 PiB") || len(h.seen) > 0 {
		t.Errorf("%v after %d requests", err, len(h.seen))
	}
	if rest, _ := os.ReadDir(d.Parts); len(rest) > 0 {
		t.Errorf("left over: %v", rest)
	}
}

func TestOffline(t *testing.T) {
	h := newHub(t, nil)
	c := h.client(t, Settings{Offline: true}, Options{})
	_, err1 := c.Info(t.Context(), repo, "")
	_, err2 := c.Files(t.Context(), repo, commit)
	_, err3 := c.Bytes(t.Context(), repo, commit, gitFile("a", nil), 1)
	_, err4 := c.Download(t.Context(), repo, commit, gitFile("a", nil), newPlace(t))
	_, err5 := c.Start(t.Context(), repo, commit, gitFile("a", nil), 1)
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if ClassOf(err) != Offline {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(h.seen) > 0 {
		t.Errorf("%d requests were made", len(h.seen))
	}
}

// Pauses: what the server asks for, said each time; more than we wait is an error at once; else 1 to 8 s, more or less, of which the second failure is told.
func TestPauses(t *testing.T) {
	for _, c := range []struct {
		headers []string
		status  int
		want    []time.Duration // at least; at most one and a half times as much
		notes   int
	}{
		{[]string{"RateLimit", `"api";r=0;t=30`}, 429, []time.Duration{31 * time.Second, 31 * time.Second, 31 * time.Second, 31 * time.Second}, 4},
		{[]string{"Retry-After", "7"}, 503, []time.Duration{7 * time.Second, 7 * time.Second, 7 * time.Second, 7 * time.Second}, 4},
		{[]string{"Retry-After", "86400"}, 429, nil, 0},
		{nil, 502, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}, 1},
		{nil, 404, nil, 0},
	} {
		var slept []time.Duration
		notes := 0
		w := &world{answer: func(*world, *http.Request, int) *http.Response {
			return reply(c.status, strings.NewReader(""), 0, c.headers...)
		}}
		client := New(Settings{Endpoint: "https://hub.example.test"}, Options{Transport: w, Note: func(string) { notes++ },
			Sleep: func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }})
		_, err := client.Info(t.Context(), repo, "")
		if err == nil || len(slept) != len(c.want) || notes != c.notes {
			t.Errorf("%v: %v, slept %v, %d notes", c.headers, err, slept, notes)
			continue
		}
		for i, d := range slept {
			if d < c.want[i] || d > 3*c.want[i] {
				t.Errorf("%v: pause %d is %s, want %s", c.headers, i, d, c.want[i])
			}
		}
	}
}
