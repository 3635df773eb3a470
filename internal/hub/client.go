// Package hub speaks with the Hugging Face Hub: it says what a repository has, and brings its files, each proved by the hash that the Hub names.
//
// It promises that a file which Download puts in place has the content it was asked for; that an interrupted download goes on where it stood, in whatever process; that the token
// is seen only by the endpoint it belongs to; and that everything ends in bounded time. It trusts nothing that it is sent: not names, not sizes, not headers, not redirects.
package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options of New. All may be left out.
type Options struct {
	UserAgent   string
	Note        func(sentence string) // what a person should know while waiting; called from several goroutines
	Connections int                   // at most so many requests at a time, over all files; 0 = 8

	// For tests.
	Transport http.RoundTripper // in place of the network
	Sleep     func(ctx context.Context, d time.Duration) error
}

const defaultConnections = 8

// Client speaks with one Hub. Its methods may be called from many goroutines.
type Client struct {
	settings  Settings
	options   Options
	base      *url.URL
	broken    error // of the settings; every call returns it
	origin    origin
	transport http.RoundTripper
	slots     chan struct{} // one for each connection
	limits    limits
	prove     func(*download, context.Context) error // a field, so that a benchmark can say what it costs

	private atomic.Bool // the endpoint is an address of this machine or its network
	proxies sync.Map    // host:port of proxies in use

	warned sync.Map // topics of X-HF-Warning that were told
}

// New makes a client. It asks nothing yet; settings that cannot be right are reported by the first call.
func New(s Settings, o Options) *Client {
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.UserAgent == "" {
		o.UserAgent = "mlxbuild"
	}
	if s.MetaTimeout <= 0 {
		s.MetaTimeout = 10 * time.Second
	}
	if s.DataTimeout <= 0 {
		s.DataTimeout = 30 * time.Second
	}
	if s.Endpoint == "" {
		s.Endpoint = DefaultEndpoint
	}
	c := &Client{settings: s, options: o, slots: make(chan struct{}, o.Connections), limits: defaultLimits, prove: (*download).hash}
	base, err := parseEndpoint(s.Endpoint)
	if err != nil {
		c.broken = &Error{Class: Name, What: "the endpoint of the Hub " + err.Error(), Do: "write it like https://huggingface.co"}
		return c
	}
	c.base, c.origin, c.settings.Endpoint = base, originOf(base), base.String()
	c.private.Store(isPrivateHost(base.Hostname()))
	c.transport = o.Transport
	if c.transport == nil {
		c.transport = c.newTransport()
	}
	return c
}

// Close gives back connections that are kept open for more requests.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// ready reports what makes any request impossible.
func (c *Client) ready(r Repo) error {
	if c.broken != nil {
		return c.broken
	}
	if err := r.check(); err != nil {
		return err
	}
	if c.settings.Offline {
		return &Error{Class: Offline, What: fmt.Sprintf("%s is not asked of the Hub: HF_HUB_OFFLINE or --offline says so", r), Do: "go online, or run where it was fetched before"}
	}
	return nil
}

// address below the endpoint; path is quoted already.
func (c *Client) address(path string) (*url.URL, error) {
	u, err := url.Parse(c.settings.Endpoint + path)
	if err != nil {
		return nil, &Error{Class: Name, What: "no address can be made of " + clean(path), Do: "check the names", Err: err}
	}
	return u, nil
}

// origin is what a token belongs to.
type origin struct{ scheme, host, port string }

func originOf(u *url.URL) origin {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return origin{u.Scheme, lower(u.Hostname()), port}
}

// request is one thing that is asked of a server. Everything is a GET.
type request struct {
	url     *url.URL
	about   subject
	json    bool
	ranged  bool
	span    span   // with ranged: which bytes
	ifRange string // with ranged: only if the file still has this ETag
	bare    bool   // never with the token: url is where the Hub led to earlier
	quiet   time.Duration
}

// answer is what came back, after all redirects. Its body has to be closed.
type answer struct {
	status int
	header http.Header
	length int64 // of the body; -1: not said
	body   io.ReadCloser
	url    *url.URL // who answered
	home   bool     // it is the endpoint, and the way there never left it
	linked http.Header
}

// send makes a request when one of the connections is free, and keeps that until the body is closed. The server's silence is counted from then on: who waits for a connection does not wait for the server.
func (c *Client) send(ctx context.Context, q request) (*answer, error) {
	release, err := c.slot(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, q)
	if err != nil {
		release()
		return nil, err
	}
	a.body = &held{a.body, release}
	return a, nil
}

// held is a body whose connection is another's once it is closed.
type held struct {
	io.ReadCloser
	release func()
}

func (h *held) Close() error {
	defer h.release()
	return h.ReadCloser.Close()
}

// ask makes a request and follows redirects: by our rules, as those of net/http would show the token to other ports and to sub-domains. It returns every answer that is no
// redirect, whatever its status, when its headers are there. Whoever calls it has a slot.
func (c *Client) ask(ctx context.Context, q request) (*answer, error) {
	ctx, w := watch(ctx, q.quiet)
	a, err := c.chase(ctx, q)
	w.pause()
	if err != nil {
		err = c.broke(ctx, err, q.about)
		w.stop()
		return nil, err
	}
	a.body = &body{in: a.body, watch: w, fail: func(err error) error { return c.broke(ctx, err, q.about) }}
	return a, nil
}

const maxRedirects = 10

// chase: the token goes to the endpoint, and never again once the way has led elsewhere.
func (c *Client) chase(ctx context.Context, q request) (*answer, error) {
	at, home, linked := q.url, !q.bare, http.Header{}
	seen := map[string]bool{}
	for range maxRedirects + 1 {
		home = home && originOf(at) == c.origin
		seen[at.String()] = true
		resp, err := c.roundTrip(ctx, at, home, q)
		if err != nil {
			return nil, err
		}
		if home {
			c.warnings(resp.Header)
			note(linked, resp.Header)
		}
		a := &answer{resp.StatusCode, resp.Header, resp.ContentLength, resp.Body, at, home, linked}
		if !isRedirect(resp.StatusCode) {
			return a, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
		_ = resp.Body.Close()
		if at, err = c.next(a, q.about); err != nil {
			return nil, err
		}
		if seen[at.String()] {
			return nil, odd(a, q.about, "it leads in a circle")
		}
	}
	return nil, &Error{Class: Protocol, What: fmt.Sprintf("the request for %s was led on more than %d times", q.about, maxRedirects), Do: endpointHint}
}

// note keeps what the Hub itself says of a file before it leads elsewhere.
func note(linked, h http.Header) {
	for _, name := range []string{"X-Repo-Commit", "X-Linked-Etag", "X-Linked-Size"} {
		if v := h.Get(name); v != "" {
			linked.Set(name, v)
		}
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func (c *Client) roundTrip(ctx context.Context, at *url.URL, home bool, q request) (*http.Response, error) {
	req := (&http.Request{Method: http.MethodGet, URL: at, Host: at.Host, Header: http.Header{}}).WithContext(ctx)
	h := req.Header
	h.Set("User-Agent", c.options.UserAgent)
	h.Set("Accept-Encoding", "identity")
	if q.json {
		h.Set("Accept", "application/json")
	}
	if q.ranged {
		h.Set("Range", "bytes="+strconv.FormatInt(q.span.from, 10)+"-"+strconv.FormatInt(q.span.to-1, 10))
		if q.ifRange != "" {
			h.Set("If-Range", q.ifRange)
		}
	}
	if home && c.settings.Token != "" {
		h.Set("Authorization", "Bearer "+c.settings.Token.Reveal())
	}
	return c.transport.RoundTrip(req)
}

// next is where a redirect leads, if it may.
func (c *Client) next(a *answer, s subject) (*url.URL, error) {
	text := a.header.Get("Location")
	if text == "" {
		return nil, odd(a, s, "it is a redirect (%d) to nowhere: Location is missing", a.status)
	}
	to, err := a.url.Parse(text)
	if err != nil {
		return nil, odd(a, s, "it is a redirect to what is no address")
	}
	to.Fragment, to.RawFragment = "", ""
	if why := c.mayLead(a.url, to); why != "" {
		return nil, &Error{Class: Protocol, What: fmt.Sprintf("the request for %s was led to %s, which is refused: %s", s, clean(to.Host), why), Do: endpointHint,
			Status: a.status, RequestID: requestID(a.header)}
	}
	return to, nil
}

// mayLead says why the way from one address to another is refused.
func (c *Client) mayLead(from, to *url.URL) string {
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return "it is no http or https address"
	case to.Hostname() == "" || to.Opaque != "":
		return "it names no host"
	case !portFits(to):
		return "its port is none"
	case to.User != nil:
		return "there is a user name in the address"
	case from.Scheme == "https" && to.Scheme == "http":
		return "it leads from https to http"
	case originOf(to) != c.origin && !c.private.Load() && isPrivateHost(to.Hostname()):
		return "it leads from the Internet into a private network"
	}
	return ""
}

// warnings of the Hub ("topic; text") are told once for each topic.
func (c *Client) warnings(h http.Header) {
	for _, v := range h.Values("X-HF-Warning") {
		topic, text, found := cutTrim(v, ";")
		if !found {
			text = topic
		}
		if _, told := c.warned.LoadOrStore(topic, true); !told && text != "" {
			c.options.Note("the Hub warns: " + clean(text))
		}
	}
}

// slot waits for one of the connections. No one who has it waits for another: a redirect ends one request before the next begins.
func (c *Client) slot(ctx context.Context) (release func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return sync.OnceFunc(func() { <-c.slots }), nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// broke says what an error of the network means. A context that was cancelled from outside is returned as it is.
func (c *Client) broke(ctx context.Context, err error, s subject) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if ctx.Err() != nil {
		if err = ended(ctx); !errors.Is(err, errQuiet) {
			return err
		}
	}
	e = networkError(err)
	e.What = fmt.Sprintf("the request for %s failed: %s", s, e.What)
	return e
}
