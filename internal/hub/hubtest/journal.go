package hubtest

// A Request is what the journal knows of a request. While the reply is under way, Status and Bytes tell how far it is.
type Request struct {
	Origin           string // "hub", "cdn", "other", or "plain"
	Host             string // as the client said it
	Method           string
	Path             string // escaped, without the query
	Query            string
	Route            string // as Fault.Route has it
	File             string // its path in the repository, where the route has one
	Range            string
	IfRange          string
	AcceptEncoding   string
	UserAgent        string
	HasAuthorization bool
	Token            string // the bearer token itself, so that a test can look for one where none may be
	Status           int    // 0: the connection ended before a status was sent
	Bytes            int64  // of the body, as sent
	Faults           []Kind // what was done to it
}

// Requests returns the journal since the start or the last ResetRequests, in the order of arrival.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Request, len(h.journal))
	for i, r := range h.journal {
		list[i] = *r
		list[i].Faults = append([]Kind(nil), r.Faults...)
	}
	return list
}

// ResetRequests empties the journal and sets the count of connections to zero.
func (h *Hub) ResetRequests() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.journal, h.accepted = nil, 0
}

// Connections counts the connections that were accepted, on all origins, since the start or the last ResetRequests.
func (h *Hub) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.accepted
}

// note enters a request. The caller holds the lock.
func (h *Hub) note(x *exchange) *Request {
	h.serial++
	r := &Request{
		Origin: x.origin, Host: x.r.Host, Method: x.r.Method, Path: x.r.URL.EscapedPath(), Query: x.r.URL.RawQuery, Route: x.route, File: x.file,
		Range: x.r.Header.Get("Range"), IfRange: x.r.Header.Get("If-Range"), AcceptEncoding: x.r.Header.Get("Accept-Encoding"), UserAgent: x.r.UserAgent(),
		HasAuthorization: x.r.Header.Get("Authorization") != "", Token: bearer(x.r),
	}
	h.journal = append(h.journal, r)
	return r
}

// sent notes progress of a reply.
func (x *exchange) sent(status int, n int64) {
	x.hub.mu.Lock()
	defer x.hub.mu.Unlock()
	x.entry.Status = status
	x.entry.Bytes += n
}
