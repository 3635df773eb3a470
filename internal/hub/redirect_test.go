package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const canary = "hf_canaryTokenThatNobodyMaySee"

// world is a network without wires: every host answers as the test says, and all requests are noted.
type world struct {
	mu     sync.Mutex
	seen   []*http.Request
	answer func(w *world, r *http.Request, nth int) *http.Response
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	nth := 0
	for _, o := range w.seen {
		if o.URL.Host == r.URL.Host && o.URL.Path == r.URL.Path {
			nth++
		}
	}
	w.seen = append(w.seen, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.answer(w, r, nth)
	resp.Request, resp.Proto, resp.ProtoMajor, resp.ProtoMinor = r, "HTTP/1.1", 1, 1
	return resp, nil
}

func reply(status int, body io.Reader, length int64, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body), ContentLength: length}
}

func lead(code int, to string) *http.Response {
	return reply(code, strings.NewReader(""), 0, "Location", to, "X-Repo-Commit", commit)
}

// broken gives some bytes and then ends as a connection does that is cut.
func broken(data string) io.Reader {
	return io.MultiReader(strings.NewReader(data), failing{io.ErrUnexpectedEOF})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// serveSpan answers with the file, or the part of it that was asked for; cut: the connection breaks after so many bytes.
func serveSpan(r *http.Request, data string, cut int) *http.Response {
	from, status, headers := 0, 200, []string(nil)
	if text := r.Header.Get("Range"); text != "" {
		var to int
		if _, err := fmt.Sscanf(text, "bytes=%d-%d", &from, &to); err != nil {
			panic(err)
		}
		status, headers = 206, []string{"Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data))}
		data = data[:to+1]
	}
	data = data[from:]
	if cut > 0 {
		return reply(status, broken(data[:cut]), int64(len(data)), headers...)
	}
	return reply(status, strings.NewReader(data), int64(len(data)), headers...)
}

const (
	weights  = "these are the weights of a model"
	infoText = `{"id":"org/name","sha":"` + commit + `"}`
)

// routes by which requests are led elsewhere. Each is answered at the endpoint by to(path), which leads to the target, and at the target by what there is.
var routes = []struct {
	name   string
	call   func(c *Client, d Download) error
	answer func(r *http.Request, home bool, nth int, to func(path string) *http.Response) *http.Response
}{
	{"resolve", func(c *Client, _ Download) error {
		_, err := c.Bytes(context.Background(), repo, commit, lfsFile("w", []byte(weights)), 1000)
		return err
	}, func(r *http.Request, home bool, _ int, to func(string) *http.Response) *http.Response {
		if home && r.URL.Path != "/blob" {
			return to("/blob")
		}
		return serveSpan(r, weights, 0)
	}},
	{"tree next link", func(c *Client, _ Download) error {
		files, err := c.Files(context.Background(), repo, commit)
		if err == nil && len(files) != 1 {
			err = errors.New("the second page is missing")
		}
		return err
	}, func(r *http.Request, home bool, _ int, to func(string) *http.Response) *http.Response {
		switch {
		case r.URL.Path == "/page2":
			return reply(200, strings.NewReader(`[{"type":"file","path":"a","size":1,"oid":"`+commit+`"}]`), -1)
		case r.URL.Query().Get("cursor") != "":
			return to("/page2")
		}
		return reply(200, strings.NewReader(`[]`), 2, "Link", `<?cursor=2>; rel="next"`)
	}},
	{"info", func(c *Client, _ Download) error {
		_, err := c.Info(context.Background(), repo, "main")
		return err
	}, func(r *http.Request, home bool, _ int, to func(string) *http.Response) *http.Response {
		if home && r.URL.Path != "/info" {
			return to("/info")
		}
		return reply(200, strings.NewReader(infoText), -1, "Content-Type", "application/json")
	}},
	{"download", download1, func(r *http.Request, home bool, _ int, to func(string) *http.Response) *http.Response {
		if home && r.URL.Path != "/blob" {
			return to("/blob")
		}
		return serveSpan(r, weights, 0)
	}},
	{"range continuation", download1, func(r *http.Request, home bool, nth int, to func(string) *http.Response) *http.Response {
		if home && r.URL.Path != "/blob" {
			return to("/blob")
		}
		if nth < 2 {
			return serveSpan(r, weights, 5)
		}
		return serveSpan(r, weights, 0)
	}},
	{"re-resolve", download1, func(r *http.Request, home bool, nth int, to func(string) *http.Response) *http.Response {
		switch {
		case home && r.URL.Path != "/blob":
			return to("/blob")
		case nth == 0:
			return serveSpan(r, weights, 5)
		case nth == 1 && !home: // the endpoint itself is asked where the bytes are each time
			return reply(403, strings.NewReader("expired"), 7)
		}
		return serveSpan(r, weights, 0)
	}},
}

func download1(c *Client, d Download) error {
	_, err := c.Download(context.Background(), repo, commit, lfsFile("w", []byte(weights)), d)
	return err
}

// TestTokenMatrix: wherever the Hub leads, by whatever redirect, on whatever route, the token is seen by the exact scheme, host and port of the endpoint only.
func TestTokenMatrix(t *testing.T) {
	const endpoint = "https://hub.example.test"
	targets := []struct {
		name, at string
		refused  bool
	}{
		{"same", endpoint, false},
		{"other scheme", "http://hub.example.test", true},
		{"other port", "https://hub.example.test:8443", false},
		{"sub-domain", "https://sub.hub.example.test", false},
		{"parent domain", "https://example.test", false},
		{"other host", "https://cdn.elsewhere.test", false},
		{"userinfo", "https://user:pass@hub.example.test", true},
		{"IP form", "https://203.0.113.7", false},
	}
	cases := 0
	for _, target := range targets {
		for _, code := range []int{301, 302, 303, 307, 308} {
			for _, route := range routes {
				cases++
				w := &world{answer: func(w *world, r *http.Request, nth int) *http.Response {
					home := r.URL.Scheme+"://"+r.URL.Host == endpoint
					return route.answer(r, home, nth, func(path string) *http.Response { return lead(code, target.at+path+"?signature=sesame") })
				}}
				var notes strings.Builder
				c := New(Settings{Endpoint: endpoint, Token: canary, TokenFrom: "HF_TOKEN"}, Options{Transport: w, Note: func(s string) { notes.WriteString(s) },
					Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
				err := route.call(c, newPlace(t))
				name := fmt.Sprintf("%s, %d, %s", target.name, code, route.name)
				if target.refused != (err != nil) || err != nil && ClassOf(err) != Protocol {
					t.Errorf("%s: %v", name, err)
				}
				checkTokens(t, name, w, endpoint, target.at, target.refused)
				if text := fmt.Sprintf("%v %+v %s", err, err, notes.String()); strings.Contains(text, canary) || strings.Contains(text, "sesame") || strings.Contains(text, "pass@") {
					t.Errorf("%s: a message tells a secret: %s", name, text)
				}
			}
		}
	}
	if cases != 240 {
		t.Errorf("%d cases, not 240", cases)
	}
}

func checkTokens(t *testing.T, name string, w *world, endpoint, target string, refused bool) {
	t.Helper()
	with, led := 0, 0
	for _, r := range w.seen {
		at := r.URL.Scheme + "://" + r.URL.Host
		token := r.Header.Get("Authorization")
		if at == endpoint && token != "Bearer "+canary {
			t.Errorf("%s: no token for %s", name, r.URL)
		}
		if at != endpoint && token != "" {
			t.Errorf("%s: the token was shown to %s", name, r.URL)
		}
		if token != "" {
			with++
		}
		if strings.Contains(r.URL.RawQuery, "signature") {
			led++
		}
		if e := r.Header.Get("Accept-Encoding"); e != "identity" {
			t.Errorf("%s: Accept-Encoding %q", name, e)
		}
	}
	if with == 0 || refused != (led == 0) {
		t.Errorf("%s: %d requests with a token, %d where the Hub led to", name, with, led)
	}
}

// The way back to the endpoint from elsewhere carries no token: who led there must not choose what is read with it.
func TestTokenWayBack(t *testing.T) {
	const endpoint = "https://hub.example.test"
	w := &world{answer: func(w *world, r *http.Request, _ int) *http.Response {
		switch {
		case r.URL.Host == "elsewhere.test":
			return lead(302, endpoint+"/back")
		case r.URL.Path == "/back":
			return reply(200, strings.NewReader(weights), int64(len(weights)))
		}
		return lead(302, "https://elsewhere.test/")
	}}
	c := New(Settings{Endpoint: endpoint, Token: canary}, Options{Transport: w})
	if _, err := c.Bytes(t.Context(), repo, commit, lfsFile("w", []byte(weights)), 1000); err != nil {
		t.Fatal(err)
	}
	for i, r := range w.seen {
		if (r.Header.Get("Authorization") != "") != (i == 0) {
			t.Errorf("request %d to %s: Authorization %q", i, r.URL, r.Header.Get("Authorization"))
		}
	}
}

// A next page elsewhere is not asked for at all.
func TestNextPageElsewhere(t *testing.T) {
	for _, link := range []string{"https://elsewhere.test/p", "http://hub.example.test/p", "https://hub.example.test:444/p", "//sub.hub.example.test/p", "https://u@hub.example.test/p", "https://HUB.example.test./p"} {
		w := &world{answer: func(*world, *http.Request, int) *http.Response {
			return reply(200, strings.NewReader(`[]`), 2, "Link", "<"+link+`>; rel="next"`)
		}}
		c := New(Settings{Endpoint: "https://hub.example.test", Token: canary}, Options{Transport: w})
		if _, err := c.Files(t.Context(), repo, commit); ClassOf(err) != Protocol || len(w.seen) != 1 {
			t.Errorf("%s: %v after %d requests", link, err, len(w.seen))
		}
	}
}

func TestRedirectsRefused(t *testing.T) {
	hop := 0
	for to, want := range map[string]string{
		"":                                    "Location is missing",
		"/api/models/org/name/revision/main":  "in a circle",
		"/hop":                                "led on more than 10 times",
		"ftp://hub.example.test/":             "no http or https address",
		"https:///path":                       "names no host",
		"https://127.0.0.1/":                  "private network",
		"https://[::1]/":                      "private network",
		"https://[::ffff:10.0.0.1]/":          "private network",
		"https://192.168.1.1:8080/":           "private network",
		"https://169.254.169.254/latest":      "private network",
		"https://localhost/":                  "private network",
		"https://a.localhost./":               "private network",
		"https://2130706433/":                 "private network",
		"https://0x7f.1/":                     "private network",
		"https://127.1/":                      "private network",
		"https://u:p@cdn.elsewhere.test/":     "user name",
		"http://cdn.elsewhere.test/":          "from https to http",
		"https://[fe80::1%25eth0]/":           "private network",
		"https://[64:ff9b::7f00:1]/":          "private network",
		"https://host with blanks/":           "no address",
		"https://elsewhere.test:99999999999/": "port",
	} {
		w := &world{answer: func(_ *world, r *http.Request, _ int) *http.Response {
			if to == "/hop" {
				hop++
				return lead(307, fmt.Sprintf("/hop%d", hop))
			}
			if r.URL.Host != "hub.example.test" {
				return reply(200, strings.NewReader(infoText), -1)
			}
			return lead(307, to)
		}}
		c := New(Settings{Endpoint: "https://hub.example.test"}, Options{Transport: w, Sleep: func(context.Context, time.Duration) error { return nil }})
		_, err := c.Info(t.Context(), repo, "main")
		if ClassOf(err) != Protocol || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %s", to, err, want)
		}
	}
}

// An endpoint in a private network may lead around in it; one in the Internet may not, whatever its names lead to.
func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	at := "localhost:" + port
	open := New(Settings{Endpoint: "https://hub.example.test"}, Options{})
	if conn, err := open.dial(t.Context(), "tcp", at); ClassOf(err) != Protocol {
		t.Errorf("connected to %s from the Internet: %v", conn, err)
	}
	private := New(Settings{Endpoint: "http://10.1.2.3"}, Options{})
	conn, err := private.dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	open.proxies.Store("localhost", true)
	if conn, err = open.dial(t.Context(), "tcp", at); err != nil {
		t.Fatalf("the proxy is refused: %v", err)
	}
	conn.Close()
	intranet := New(Settings{Endpoint: "http://mirror.intranet.test"}, Options{})
	intranet.origin.host = "localhost" // a name whose address turns out to be private
	if conn, err = intranet.dial(t.Context(), "tcp", at); err != nil || !intranet.private.Load() {
		t.Fatalf("%v", err)
	}
	conn.Close()
}

func TestIsPrivate(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fc00::1",
		"ff02::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "fec0::1", "198.18.0.1"} {
		if !isPrivate(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for public", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "172.32.0.1", "2606:4700::1111", "100.128.0.1"} {
		if isPrivate(netip.MustParseAddr(a)) {
			t.Errorf("%s is taken for private", a)
		}
	}
}

func TestOrigin(t *testing.T) {
	parse := func(s string) origin {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return originOf(u)
	}
	if parse("https://Hub.test/a") != parse("https://hub.test:443/b?c") || parse("http://hub.test") == parse("https://hub.test") || parse("http://[::1]:80") != parse("http://[::1]") {
		t.Error("origins")
	}
}
