// Package hubtest is a Hugging Face Hub for tests: repositories in memory or on disk, served on loopback as the real Hub serves them, so that the real clients
// accept it, with a journal of every request and with faults on demand.
//
// The Hub has an origin of its own (http://127.0.0.1:PORT) and sends large files from another one, its CDN (http://localhost:PORT2). A third origin is where
// faults send clients astray. Nothing listens beyond loopback, and everything ends with Close.
package hubtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options of a Hub. The zero value is right for most tests.
type Options struct {
	PageSize      int              // entries on a page of a tree or a history; 0 means 2, so that every test walks several pages
	LFSOver       int64            // files of more bytes are LFS files, as are some by their names; 0 means 1 MiB
	MultipartOver int64            // uploads of more bytes are asked for in parts of that size; 0 means 8 MiB
	SignedFor     time.Duration    // how long the URL of a large file is good for; 0 means 5 minutes
	Xet           bool             // say xet hashes of large files, as the Hub does; they lead nowhere here
	TLS           bool             // all origins but one speak https, with certificates that only Certificates knows
	Seed          uint64           // makes another Hub of the same calls: other commits and signatures
	Now           func() time.Time // the Hub's clock; nil means the real one
}

// Hub is a running Hub.
type Hub struct {
	o       Options
	origins map[string]*origin // hub, cdn, other; with TLS also plain
	pool    *x509.CertPool
	closed  chan struct{}
	busy    sync.WaitGroup

	mu       sync.Mutex // guards all below, and everything that hangs on repos
	repos    map[string]*Repo
	moved    map[string]string // old key to new key of a renamed repository
	tokens   map[string]*Token
	objects  map[string]content        // LFS objects by sha256
	parts    map[string]map[int][]byte // parts of uploads by sha256
	faults   []*planned
	undo     []func() // what brings back what faults changed
	journal  []*Request
	accepted int
	serial   int
}

// An origin is one scheme, host and port.
type origin struct {
	name   string
	url    string
	server *http.Server
	config *tls.Config
	addr   string
}

// New starts a Hub that ends with the test.
func New(t testing.TB, o Options) *Hub {
	t.Helper()
	h, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// Start starts a Hub.
func Start(o Options) (*Hub, error) {
	h := &Hub{
		o: o.complete(), origins: map[string]*origin{}, closed: make(chan struct{}),
		repos: map[string]*Repo{}, moved: map[string]string{}, tokens: map[string]*Token{}, objects: map[string]content{}, parts: map[string]map[int][]byte{},
	}
	names := []string{"hub", "cdn", "other"}
	if o.TLS {
		names = append(names, "plain")
	}
	for _, name := range names {
		if err := h.open(name); err != nil {
			h.Close()
			return nil, err
		}
	}
	return h, nil
}

func (o Options) complete() Options {
	if o.PageSize == 0 {
		o.PageSize = 2
	}
	if o.LFSOver == 0 {
		o.LFSOver = 1 << 20
	}
	if o.MultipartOver == 0 {
		o.MultipartOver = 8 << 20
	}
	if o.SignedFor == 0 {
		o.SignedFor = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// open makes an origin and listens there.
func (h *Hub) open(name string) error {
	host, scheme := "localhost", "http"
	if name == "hub" {
		host = "127.0.0.1"
	}
	p := &origin{name: name}
	if h.o.TLS && name != "plain" {
		scheme = "https"
		config, pool, err := certificate(h.pool)
		if err != nil {
			return err
		}
		p.config, h.pool = config, pool
	}
	if err := h.listen(p, "127.0.0.1:0"); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		return err
	}
	p.url = scheme + "://" + host + ":" + port
	h.origins[name] = p
	return nil
}

// listen starts to serve an origin at an address.
func (h *Hub) listen(p *origin, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("the Hub for tests cannot listen on loopback: %w", err)
	}
	p.addr = l.Addr().String()
	server := &http.Server{
		Handler:      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(p, w, r) }),
		ErrorLog:     log.New(io.Discard, "", 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone: faults take connections over
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				h.mu.Lock()
				h.accepted++
				h.mu.Unlock()
			}
		},
	}
	if p.config != nil {
		l = tls.NewListener(l, p.config)
	}
	p.server = server
	go server.Serve(l)
	return nil
}

// Close ends the Hub, stalled replies too.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.over() {
		close(h.closed)
	}
	h.mu.Unlock()
	for _, p := range h.origins {
		p.server.Close()
	}
	h.busy.Wait()
}

// enter counts a request in, unless the Hub is at its end.
func (h *Hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over() {
		return false
	}
	h.busy.Add(1)
	return true
}

func (h *Hub) over() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

// Refuse stops listening: connections break, new ones are refused. Accept undoes it.
func (h *Hub) Refuse() {
	for _, p := range h.origins {
		p.server.Close()
	}
}

// Accept listens again, on the same ports.
func (h *Hub) Accept() error {
	for _, p := range h.origins {
		if err := h.listen(p, p.addr); err != nil {
			return err
		}
	}
	return nil
}

// Endpoint is the Hub's own origin, as HF_ENDPOINT has it.
func (h *Hub) Endpoint() string { return h.origins["hub"].url }

// CDN is the origin that large files come from.
func (h *Hub) CDN() string { return h.origins["cdn"].url }

// Other is an origin that no client has to trust. It answers like the Hub, so that a client which follows there gets somewhere and the journal sees it.
func (h *Hub) Other() string { return h.origins["other"].url }

// Certificates is what a client must trust to speak with a Hub with TLS; nil without.
func (h *Hub) Certificates() *x509.CertPool { return h.pool }

// An exchange is one request on its way to a reply.
type exchange struct {
	target
	hub    *Hub
	origin string
	w      http.ResponseWriter
	r      *http.Request
	entry  *Request
	repo   *Repo  // where the route has one
	token  *Token // nil: anonymous
	body   []byte // of the request
	quirks quirks
}

// maxBody bounds what a request may bring: uploads in tests are small.
const maxBody = 1 << 30

// serve answers one request: journal, faults that stand in for the handler, handler, faults that spoil its reply, sending.
func (h *Hub) serve(p *origin, w http.ResponseWriter, r *http.Request) {
	if !h.enter() {
		return
	}
	defer h.busy.Done()
	x := &exchange{hub: h, origin: p.name, w: w, r: r, target: parse(r)}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return // the client has gone
	}
	x.body = body
	h.mu.Lock()
	x.entry = h.note(x)
	answer := x.before()
	if answer == nil {
		answer = x.handle()
	}
	x.headers(answer)
	x.after(answer)
	h.mu.Unlock()
	x.send(answer)
}

// headers adds what every reply of the Hub has.
func (x *exchange) headers(p *reply) {
	p.set("Date", x.hub.o.Now().UTC().Format(http.TimeFormat))
	if x.origin != "hub" {
		return
	}
	p.set("X-Request-Id", fmt.Sprintf("Root=1-%08x-%016x", x.hub.serial, x.hub.o.Seed))
	class, quota := "api", 500
	if strings.HasPrefix(x.route, "resolve") {
		class, quota = "resolvers", 3000
	}
	if p.header.Get("RateLimit") == "" && p.status != http.StatusTooManyRequests {
		p.set("RateLimit", fmt.Sprintf("%q;r=%d;t=172", class, max(1, quota-x.hub.serial)))
		p.set("RateLimit-Policy", fmt.Sprintf(`"fixed window";%q;q=%d;w=300`, class, quota))
	}
}
