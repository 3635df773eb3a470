package hubtest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// table is classes, made once.
var table = sync.OnceValue(classes)

// within puts a position into a body: its last byte where it has fewer.
func within(at int64, p *reply) int64 { return min(at, max(0, p.size-1)) }

// either is v, or otherwise where v is zero.
func either[T int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func orText(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

// same is a stream of one byte without end.
type same byte

func (s same) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s)
	}
	return len(b), nil
}

// damaged is a stream with some bytes changed on the way.
type damaged struct {
	r     io.Reader
	at, n int64
	do    func(byte) byte
	off   int64
}

func (d *damaged) Read(b []byte) (int, error) {
	n, err := d.r.Read(b)
	for i := max(d.at, d.off); i < min(d.at+d.n, d.off+int64(n)); i++ {
		b[i-d.off] = d.do(b[i-d.off])
	}
	d.off += int64(n)
	return n, err
}

// identity: the client does not take gzip.
func identity(x *exchange) bool { return !wantsGzip(x.r) }

// editRange moves the start and the total that a Content-Range tells.
func editRange(p *reply, start, total int64) {
	var a, b, n int64
	if _, err := fmt.Sscanf(p.header.Get("Content-Range"), "bytes %d-%d/%d", &a, &b, &n); err == nil {
		p.set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a+start, b+start, n+total))
	}
}

// page is what a captive portal says.
func page() *reply {
	p := (&reply{status: http.StatusOK}).hold([]byte("<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to use this network.</body></html>\n"))
	p.set("Content-Type", "text/html; charset=utf-8")
	return p
}

// broken is a server, or what stands before it, in trouble.
func broken(status int) func(*exchange, Fault) *reply {
	return func(*exchange, Fault) *reply {
		p := (&reply{status: status}).hold(fmt.Appendf(nil, "<html><body><h1>%d %s</h1></body></html>\n", status, http.StatusText(status)))
		p.set("Content-Type", "text/html")
		return p
	}
}

// atHome: not yet led astray.
func atHome(x *exchange) bool { return x.origin == "hub" || x.origin == "cdn" }

// astray redirects to the same thing somewhere else.
func (x *exchange) astray(f Fault, origin string) *reply {
	status := int(either(int64(f.Status), http.StatusTemporaryRedirect))
	if f.To != "" {
		return redirect(status, f.To)
	}
	return redirect(status, origin+x.r.URL.RequestURI())
}

// intrude adds a file to the tree that no commit has.
func (x *exchange) intrude(name string) {
	data := []byte("written where it must not be\n")
	x.quirks.entries = append(x.quirks.entries, map[string]any{"type": "file", "oid": object("blob", data), "size": len(data), "path": name})
}

// moveBranch puts a commit on main that changes every file in git.
func (x *exchange) moveBranch() {
	r := x.repo
	if r == nil || r.find("main") == nil {
		return
	}
	head := r.refs["refs/heads/main"]
	changes := map[string]*file{"moved.txt": x.hub.file("moved.txt", content{data: []byte("moved\n"), size: 6})}
	for name, f := range r.commits[head].files {
		if data, err := f.bytes(); err == nil && f.sha256 == "" {
			data = append([]byte(nil), data...)
			data = append(data, '\n')
			changes[name] = x.hub.file(name, content{data: data, size: int64(len(data))})
		}
	}
	r.commit("refs/heads/main", "Move", changes)
	x.hub.undo = append(x.hub.undo, func() { r.refs["refs/heads/main"] = head })
}

func (x *exchange) renameRepo() {
	r := x.repo
	if r == nil {
		return
	}
	id, moved := r.id, maps.Clone(x.hub.moved)
	r.rename(id + "-renamed")
	x.hub.undo = append(x.hub.undo, func() {
		delete(x.hub.repos, r.kind+"/"+r.id)
		r.rename(id)
		x.hub.moved = moved
	})
}

func (x *exchange) deleteRepo() {
	r := x.repo
	if r == nil {
		return
	}
	key := r.kind + "/" + r.id
	delete(x.hub.repos, key)
	x.hub.undo = append(x.hub.undo, func() { x.hub.repos[key] = r })
}

func (x *exchange) closeGate() {
	r := x.repo
	if r == nil {
		return
	}
	gate := r.gate
	r.gate = "manual"
	x.hub.undo = append(x.hub.undo, func() { r.gate = gate })
}

func (x *exchange) shiftClock(p *reply, by time.Duration) {
	p.set("Date", x.hub.o.Now().Add(by).UTC().Format(http.TimeFormat))
}
