package hubtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// A Fault is something that goes wrong with requests of a kind.
type Fault struct {
	Kind   Kind
	Route  string        // "info", "tree", "resolve", "resolve-cache", "cdn" and so on, "any" for all, "" for those that the kind is made for
	Path   string        // a pattern of path.Match for the file's path in the repository; "" for all
	Method string        // "" for all
	Skip   int           // so many requests that would be hit go well before
	Times  int           // so many are hit, 0 means one, -1 all
	At     int64         // the byte of the body where it happens; beyond its end means at its last byte
	N      int64         // a count of bytes, or a size, where the kind needs one; 0 means what the kind thinks best
	Wait   time.Duration // how long a stall lasts (0: a minute), or the time between two slow bytes (0: 20 ms)
	Status int           // of a redirect; 0 means 307
	To     string        // where a redirect leads, or the name of an entry; "" means what the kind thinks best
}

// planned is a fault with what has happened of it.
type planned struct {
	Fault
	seen, hits int
}

// Fault plans a fault. Several may hit the same request.
func (h *Hub) Fault(f Fault) {
	if f.Kind.class() == nil {
		panic("hubtest: no fault is called " + string(f.Kind))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, &planned{Fault: f})
}

// Faults plans several.
func (h *Hub) Faults(list []Fault) {
	for _, f := range list {
		h.Fault(f)
	}
}

// ClearFaults ends all faults and gives the repositories back what faults took from them.
func (h *Hub) ClearFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
	for _, f := range slices.Backward(h.undo) {
		f()
	}
	h.undo = nil
}

// Hits counts the requests that faults have hit since the last ClearFaults.
func (h *Hub) Hits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.faults {
		n += f.hits
	}
	return n
}

// String is a fault as a line of a log has it.
func (f Fault) String() string {
	text := string(f.Kind)
	for _, part := range []struct {
		name  string
		value any
		zero  bool
	}{
		{"route", f.Route, f.Route == ""}, {"path", f.Path, f.Path == ""}, {"method", f.Method, f.Method == ""}, {"skip", f.Skip, f.Skip == 0},
		{"times", f.Times, f.Times == 0}, {"at", f.At, f.At == 0}, {"n", f.N, f.N == 0}, {"wait", f.Wait, f.Wait == 0},
		{"status", f.Status, f.Status == 0}, {"to", f.To, f.To == ""},
	} {
		if !part.zero {
			text += fmt.Sprintf(" %s=%v", part.name, part.value)
		}
	}
	return text
}

// quirks are what faults ask of the handlers.
type quirks struct {
	etag     string
	noRange  bool
	endless  bool
	redacted bool
	entries  []map[string]any
	sizes    []Fault
}

// size is what is told of a file's size in place of the truth.
func (q quirks) size(name string) (int64, bool) {
	for _, f := range q.sizes {
		if f.Path == "" || match(f.Path, name) {
			return f.N, true
		}
	}
	return 0, false
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && (ok || pattern == name)
}

// before lets faults stand in for the handler, or change what it will say. The hub's lock is held.
func (x *exchange) before() *reply {
	var answer *reply
	for _, f := range x.hub.faults {
		c := f.Kind.class()
		if c.before == nil || answer != nil || !x.due(f, c, nil) {
			continue
		}
		answer = c.before(x, f.Fault)
	}
	return answer
}

// after lets faults spoil the reply. The hub's lock is held.
func (x *exchange) after(p *reply) {
	for _, f := range x.hub.faults {
		if c := f.Kind.class(); c.after != nil && x.due(f, c, p) {
			c.after(x, f.Fault, p)
		}
	}
}

// due says whether a fault hits this request, and counts.
func (x *exchange) due(f *planned, c *class, p *reply) bool {
	routes := strings.Fields(c.routes)
	if f.Route != "" && f.Route != "any" {
		routes = []string{f.Route}
	}
	switch {
	case f.Route != "any" && !slices.Contains(routes, x.route),
		f.Method != "" && f.Method != x.r.Method,
		f.Path != "" && !c.names && !match(f.Path, x.file),
		c.when != nil && !c.when(x),
		c.body && !x.hasBody(p):
		return false
	}
	f.seen++
	times := max(f.Times, 1)
	if f.seen <= f.Skip || f.Times >= 0 && f.hits >= times {
		return false
	}
	f.hits++
	x.entry.Faults = append(x.entry.Faults, f.Kind)
	return true
}
