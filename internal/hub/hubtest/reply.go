package hubtest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A reply is what is sent back, with what faults make of it. A reply that lies is one whose fields disagree.
type reply struct {
	status int
	header http.Header
	body   io.Reader // nil: none
	size   int64     // bytes that body has
	closer io.Closer

	chunked  bool  // no Content-Length, the body in chunks
	bare     bool  // no Content-Length, the body ends with the connection
	declared int64 // a Content-Length other than the true one, where lies says so
	lies     bool

	cut    *cut  // where the connection ends before its time
	slow   *slow // where the body comes byte by byte
	raw    []byte
	hangUp bool // no reply at all
}

// A cut ends a connection after so many bytes of a body.
type cut struct {
	at    int64
	stall time.Duration // silence before the end
	reset bool          // RST, not FIN
}

// A slow part of a body comes in single bytes.
type slow struct {
	at, n int64
	wait  time.Duration
}

func (p *reply) set(name, value string) {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
}

// hold gives a reply a body in memory.
func (p *reply) hold(data []byte) *reply {
	p.body, p.size = bytes.NewReader(data), int64(len(data))
	return p
}

func jsonReply(status int, v any) *reply {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps, lists and texts are sent
	}
	p := (&reply{status: status}).hold(data)
	p.set("Content-Type", "application/json; charset=utf-8")
	return p
}

// fail is an error as the Hub says it: in the body and in headers.
func fail(status int, code, message string) *reply {
	p := jsonReply(status, map[string]string{"error": message})
	if code != "" {
		p.set("X-Error-Code", code)
	}
	p.set("X-Error-Message", message)
	return p
}

func redirect(status int, to string) *reply {
	p := (&reply{status: status}).hold([]byte(http.StatusText(status) + ". Redirecting to " + to))
	p.set("Location", to)
	p.set("Content-Type", "text/plain; charset=utf-8")
	return p
}

// wantsGzip says whether a client takes gzip.
func wantsGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}

// gzipped codes the body, which then comes in chunks, its length unknown, as from the Hub.
func (p *reply) gzipped() {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if p.body != nil {
		if _, err := io.Copy(w, p.body); err != nil {
			return
		}
	}
	if err := w.Close(); err != nil {
		return
	}
	p.hold(buf.Bytes())
	p.set("Content-Encoding", "gzip")
	p.chunked = true
}

// hasBody says whether there are bytes on their way that a fault could spoil.
func (x *exchange) hasBody(p *reply) bool {
	return p.body != nil && p.size > 0 && x.r.Method != http.MethodHead && p.status/100 == 2
}

// send writes a reply, as spoiled as it is.
func (x *exchange) send(p *reply) {
	if p.closer != nil {
		defer p.closer.Close()
	}
	switch {
	case p.hangUp:
		if p.cut != nil {
			x.silence(p.cut.stall)
		}
		x.hangUp(p.cut != nil && p.cut.reset)
		return
	case p.raw != nil || p.bare || p.lies && p.declared < p.size:
		x.sendRaw(p)
		return
	}
	for name, values := range p.header {
		x.w.Header()[name] = values
	}
	length := p.size
	if p.lies {
		length = p.declared
	}
	if !p.chunked {
		x.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	if p.status == http.StatusNotModified {
		x.w.Header().Del("Content-Length")
	}
	x.sent(p.status, 0)
	x.w.WriteHeader(p.status)
	if p.body == nil || x.r.Method == http.MethodHead || p.status == http.StatusNotModified {
		return
	}
	flush := func() {
		if f, ok := x.w.(http.Flusher); ok {
			f.Flush()
		}
	}
	if p.chunked || p.cut != nil {
		flush()
	}
	x.copy(x.w, flush, p)
	if p.cut != nil {
		flush()
		x.silence(p.cut.stall)
		x.hangUp(p.cut.reset)
	}
}

// copy writes the body up to where it is cut, slowly where it is slow.
func (x *exchange) copy(w io.Writer, flush func(), p *reply) {
	body := p.body
	if p.cut != nil {
		body = io.LimitReader(body, p.cut.at)
	}
	count := &counter{w: w, x: x, status: p.status}
	if p.slow != nil {
		if _, err := io.CopyN(count, body, p.slow.at); err != nil {
			return
		}
		for range p.slow.n {
			if _, err := io.CopyN(count, body, 1); err != nil {
				return
			}
			flush()
			x.silence(p.slow.wait)
		}
	}
	io.CopyBuffer(count, struct{ io.Reader }{body}, make([]byte, 64<<10))
}

// A counter notes in the journal what it writes.
type counter struct {
	w      io.Writer
	x      *exchange
	status int
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.x.sent(c.status, int64(n))
	return n, err
}

// silence waits, but not longer than the client and the Hub are there.
func (x *exchange) silence(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.hub.closed:
	case <-x.r.Context().Done():
	}
}

// hangUp ends the connection under the reply.
func (x *exchange) hangUp(reset bool) {
	conn := x.take()
	if conn == nil {
		return
	}
	if reset {
		time.Sleep(5 * time.Millisecond) // what was written arrives: a reset throws away what is still under way
		if tcp, ok := underlying(conn).(*net.TCPConn); ok {
			tcp.SetLinger(0)
			tcp.Close()
			return
		}
	}
	conn.Close()
}

// underlying is the connection below TLS.
func underlying(conn net.Conn) net.Conn {
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return below.NetConn()
	}
	return conn
}

// take takes the connection over from net/http; nil where it is gone.
func (x *exchange) take() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// sendRaw writes what net/http would not: more bytes than were declared, no length, what is not HTTP at all.
func (x *exchange) sendRaw(p *reply) {
	conn := x.take()
	if conn == nil {
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return
	}
	if p.raw != nil {
		conn.Write(p.raw)
		return
	}
	header := p.header.Clone()
	if p.lies {
		header.Set("Content-Length", strconv.FormatInt(p.declared, 10))
	}
	header.Set("Connection", "close")
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 " + strconv.Itoa(p.status) + " " + http.StatusText(p.status) + "\r\n")
	header.Write(&head)
	head.WriteString("\r\n")
	x.sent(p.status, 0)
	if _, err := conn.Write(head.Bytes()); err != nil || p.body == nil || x.r.Method == http.MethodHead {
		return
	}
	x.copy(conn, func() {}, p)
	if p.cut != nil {
		x.silence(p.cut.stall)
	}
}
