package hubtest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind names a fault.
type Kind string

// The connection.
const (
	HangUp  Kind = "hang up"  // no reply, the connection ends
	Reset   Kind = "reset"    // RST at byte At; before the first byte of the reply with At -1
	Drop    Kind = "drop"     // the connection ends at byte At as if all were well
	Stall   Kind = "stall"    // silence for Wait at byte At, then the end of the connection
	Silence Kind = "silence"  // silence for Wait before the reply, then the end of the connection
	Slow    Kind = "slow"     // N bytes from At on come one by one, Wait between them
	Garbage Kind = "not HTTP" // what comes is no HTTP at all
)

// The body.
const (
	Short     Kind = "short"      // N bytes are missing at the end, the length is the right one
	Long      Kind = "long"       // N bytes too many, which the length declares too
	Flip      Kind = "flip"       // bit At%8 of byte At is another one
	Zeros     Kind = "zeros"      // N bytes from At on are zero
	Gzip      Kind = "gzip"       // coded though identity was asked for
	GzipCut   Kind = "gzip cut"   // coded, and the code ends too early
	NoLength  Kind = "no length"  // in chunks, without Content-Length
	Bare      Kind = "bare"       // neither length nor chunks: the connection's end is the body's
	BareCut   Kind = "bare cut"   // the same, ending at byte At
	LengthUp  Kind = "length up"  // Content-Length declares N bytes too many
	LengthOff Kind = "length off" // Content-Length declares N bytes too few, all are sent
	HTML      Kind = "html"       // a web page with status 200 in place of what was asked for
	JSONCut   Kind = "json cut"   // the body ends in the middle, the length fits
	JSONOther Kind = "json other" // JSON of another shape
)

// Ranges and validators.
const (
	RangeIgnored Kind = "range ignored" // 200 and all in answer to a range
	RangeStart   Kind = "range start"   // 206 whose Content-Range begins elsewhere
	RangeTotal   Kind = "range total"   // 206 whose Content-Range knows another total
	RangeMissing Kind = "range missing" // 206 without Content-Range
	RangeShifted Kind = "range shifted" // 206 with the right Content-Range and the bytes of another range
	Range416     Kind = "416"
	NewETag      Kind = "new etag" // another ETag than before
	NoETag       Kind = "no etag"
	Expired      Kind = "expired" // 403 from the CDN: the signature is too old
)

// Statuses.
const (
	Limit        Kind = "429 RateLimit"
	LimitSeconds Kind = "429 Retry-After seconds"
	LimitDate    Kind = "429 Retry-After date"
	LimitBare    Kind = "429"
	Status500    Kind = "500"
	Status502    Kind = "502"
	Status503    Kind = "503"
	Status504    Kind = "504"
	Status408    Kind = "408"
)

// Redirects.
const (
	Loop           Kind = "redirect loop"
	OtherHost      Kind = "redirect to another host"
	PlainHTTP      Kind = "redirect to http" // needs Options.TLS
	PrivateAddress Kind = "redirect to a private address"
)

// What the Hub says.
const (
	NoCommit     Kind = "no commit"     // X-Repo-Commit is missing
	OtherCommit  Kind = "other commit"  // X-Repo-Commit is that of another commit
	XetRedacted  Kind = "xet redacted"  // xet hashes of 64 asterisks
	TreeCut      Kind = "tree cut"      // there are more pages, but no link to them
	TreeGap      Kind = "tree gap"      // a page other than the first is not there
	TreeRepeated Kind = "tree repeated" // the next page is this one
	TreeEndless  Kind = "tree endless"  // there is always one page more
	Size         Kind = "size"          // trees tell N (0: 50 GB) as the size of the files of Path
	HostileName  Kind = "hostile name"  // a tree has a file called To ("": ../outside.txt)
	CaseName     Kind = "case name"     // a tree has a file whose name differs from another in case alone
	Moved        Kind = "branch moved"  // after the reply the branch gets another commit
	Renamed      Kind = "repo renamed"  // after the reply
	Deleted      Kind = "repo deleted"  // after the reply
	Gated        Kind = "repo gated"    // after the reply
	DayAhead     Kind = "clock ahead"   // Date is of tomorrow
	DayBehind    Kind = "clock behind"  // Date is of yesterday
	Landed       Kind = "landed"        // what was asked for is done, and the reply is 504
)

const (
	reads  = "info tree paths-info refs commits resolve resolve-cache cdn"
	bodies = "info tree resolve-cache cdn"
	files  = "resolve-cache cdn"
	lfs    = "lfs-batch lfs-put lfs-part lfs-complete lfs-verify preupload commit create"
)

// A class says how a kind of fault works.
type class struct {
	kind   Kind
	routes string // where it makes sense
	ends   Ending
	body   bool // it needs a reply with a body and a good status
	names  bool // Path is the name of entries, not of what is asked for
	when   func(*exchange) bool
	before func(*exchange, Fault) *reply
	after  func(*exchange, Fault, *reply)
}

// An Ending says how a client that is right ends when a fault hits one request.
type Ending string

// The endings.
const (
	Harmless Ending = "harmless" // in the right bytes, for nothing that matters is wrong
	Passing  Ending = "passing"  // in the right bytes, for it tries again
	Lasting  Ending = "lasting"  // in an error that says what is wrong, or in the right bytes if it knows a way
)

// Kinds lists all faults.
func Kinds() []Kind {
	var list []Kind
	for _, c := range classes() {
		list = append(list, c.kind)
	}
	return list
}

// Routes are the routes that a fault is made for.
func (k Kind) Routes() []string { return strings.Fields(k.class().routes) }

// Ends says what to expect of a client.
func (k Kind) Ends() Ending { return k.class().ends }

// class finds how a kind works, nil for none.
func (k Kind) class() *class {
	list := table()
	i := slices.IndexFunc(list, func(c class) bool { return c.kind == k })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func ranged(x *exchange) bool { return x.r.Header.Get("Range") != "" }

// classes is the table of all faults.
func classes() []class {
	return []class{
		{kind: HangUp, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply { return &reply{hangUp: true} }},
		{kind: Reset, routes: reads, ends: Passing, after: func(x *exchange, f Fault, p *reply) {
			p.hangUp, p.cut = f.At < 0, &cut{at: max(0, within(f.At, p)), reset: true}
		}},
		{kind: Drop, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) { p.cut = &cut{at: within(f.At, p)} }},
		{kind: Stall, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.cut = &cut{at: within(f.At, p), stall: either(f.Wait, time.Minute)}
		}},
		{kind: Silence, routes: reads, ends: Passing, after: func(x *exchange, f Fault, p *reply) {
			p.hangUp, p.cut = true, &cut{stall: either(f.Wait, time.Minute)}
		}},
		{kind: Slow, routes: bodies, ends: Harmless, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.slow = &slow{at: within(f.At, p), n: either(f.N, 20), wait: either(f.Wait, 20*time.Millisecond)}
		}},
		{kind: Garbage, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			return &reply{raw: []byte("SSH-2.0-OpenSSH_9.2\r\n\x00\x01\x02\r\n\r\n")}
		}},

		{kind: Short, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.cut = &cut{at: max(0, p.size-either(f.N, 1))}
		}},
		{kind: Long, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			n := either(f.N, 3)
			p.body, p.size = io.MultiReader(p.body, io.LimitReader(same('x'), n)), p.size+n
		}},
		{kind: Flip, routes: files, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.body = &damaged{r: p.body, at: within(f.At, p), n: 1, do: func(b byte) byte { return b ^ 1<<(f.At&7) }}
		}},
		{kind: Zeros, routes: files, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.body = &damaged{r: p.body, at: within(f.At, p), n: either(f.N, 4096), do: func(byte) byte { return 0 }}
		}},
		{kind: Gzip, routes: bodies, ends: Lasting, body: true, when: identity, after: func(x *exchange, f Fault, p *reply) { p.gzipped() }},
		{kind: GzipCut, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			if p.header.Get("Content-Encoding") == "" {
				p.gzipped()
			}
			p.size = min(p.size-1, max(f.At, p.size/2))
			p.body = io.LimitReader(p.body, p.size)
		}},
		{kind: NoLength, routes: bodies, ends: Harmless, body: true, after: func(x *exchange, f Fault, p *reply) { p.chunked = true }},
		{kind: Bare, routes: bodies, ends: Harmless, body: true, after: func(x *exchange, f Fault, p *reply) { p.bare = true }},
		{kind: BareCut, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.bare, p.cut = true, &cut{at: within(f.At, p)}
		}},
		{kind: LengthUp, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.chunked, p.lies, p.declared = false, true, p.size+either(f.N, 7)
		}},
		{kind: LengthOff, routes: bodies, ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.chunked, p.lies, p.declared = false, true, max(0, p.size-either(f.N, 7))
		}},
		{kind: HTML, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply { return page() }},
		{kind: JSONCut, routes: "info tree", ends: Passing, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.size = within(f.At, p)
			p.body = io.LimitReader(p.body, p.size)
		}},
		{kind: JSONOther, routes: "info tree", ends: Lasting, before: func(x *exchange, f Fault) *reply {
			return jsonReply(http.StatusOK, map[string]any{"id": 7, "sha": []int{1}, "siblings": "none", "error": nil})
		}},

		{kind: RangeIgnored, routes: files, ends: Passing, when: ranged, before: func(x *exchange, f Fault) *reply {
			x.quirks.noRange = true
			return nil
		}},
		{kind: RangeStart, routes: files, ends: Passing, body: true, when: ranged, after: func(x *exchange, f Fault, p *reply) { editRange(p, either(f.N, 1), 0) }},
		{kind: RangeTotal, routes: files, ends: Passing, body: true, when: ranged, after: func(x *exchange, f Fault, p *reply) { editRange(p, 0, either(f.N, 1)) }},
		{kind: RangeMissing, routes: files, ends: Passing, body: true, when: ranged, after: func(x *exchange, f Fault, p *reply) { p.header.Del("Content-Range") }},
		{kind: RangeShifted, routes: files, ends: Passing, body: true, when: ranged, after: func(x *exchange, f Fault, p *reply) {
			p.body = io.MultiReader(io.LimitReader(same(0x55), min(p.size, 5)), io.LimitReader(p.body, p.size-min(p.size, 5)))
		}},
		{kind: Range416, routes: files, ends: Passing, when: ranged, before: func(x *exchange, f Fault) *reply {
			p := &reply{status: http.StatusRequestedRangeNotSatisfiable}
			p.set("Content-Range", "bytes */0")
			return p
		}},
		{kind: NewETag, routes: files, ends: Passing, before: func(x *exchange, f Fault) *reply {
			x.quirks.etag = `"0000000000000000000000000000000000000000000000000000000000000000"`
			return nil
		}},
		{kind: NoETag, routes: "resolve resolve-cache cdn", ends: Harmless, after: func(x *exchange, f Fault, p *reply) {
			for _, name := range []string{"ETag", "X-Linked-Etag"} {
				p.header.Del(name)
			}
		}},
		{kind: Expired, routes: "cdn", ends: Passing, before: func(x *exchange, f Fault) *reply { return expired() }},

		{kind: Limit, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			p := fail(http.StatusTooManyRequests, "", "Too many requests")
			p.set("RateLimit", fmt.Sprintf(`"api";r=0;t=%d`, either(f.N, 1)))
			p.set("RateLimit-Policy", `"fixed window";"api";q=500;w=300`)
			return p
		}},
		{kind: LimitSeconds, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			p := fail(http.StatusTooManyRequests, "", "Too many requests")
			p.set("Retry-After", fmt.Sprint(either(f.N, 1)))
			return p
		}},
		{kind: LimitDate, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			p := fail(http.StatusTooManyRequests, "", "Too many requests")
			p.set("Retry-After", x.hub.o.Now().Add(time.Duration(either(f.N, 1))*time.Second).UTC().Format(http.TimeFormat))
			return p
		}},
		{kind: LimitBare, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			return fail(http.StatusTooManyRequests, "", "Too many requests")
		}},
		{kind: Status500, routes: reads, ends: Passing, before: broken(500)},
		{kind: Status502, routes: reads, ends: Passing, before: broken(502)},
		{kind: Status503, routes: reads, ends: Passing, before: broken(503)},
		{kind: Status504, routes: reads, ends: Passing, before: broken(504)},
		{kind: Status408, routes: reads, ends: Passing, before: broken(408)},

		{kind: Loop, routes: reads, ends: Passing, before: func(x *exchange, f Fault) *reply {
			return redirect(int(either(int64(f.Status), http.StatusTemporaryRedirect)), x.r.URL.RequestURI())
		}},
		{kind: OtherHost, routes: reads, ends: Lasting, when: atHome, before: func(x *exchange, f Fault) *reply { return x.astray(f, x.hub.Other()) }},
		{kind: PlainHTTP, routes: reads, ends: Lasting, when: func(x *exchange) bool { return atHome(x) && x.hub.o.TLS }, before: func(x *exchange, f Fault) *reply {
			return x.astray(f, x.hub.origins["plain"].url)
		}},
		{kind: PrivateAddress, routes: reads, ends: Lasting, when: atHome, before: func(x *exchange, f Fault) *reply { return x.astray(f, "http://10.255.255.1:9") }},

		{kind: NoCommit, routes: "resolve resolve-cache", ends: Lasting, after: func(x *exchange, f Fault, p *reply) { p.header.Del("X-Repo-Commit") }},
		{kind: OtherCommit, routes: "resolve resolve-cache", ends: Lasting, after: func(x *exchange, f Fault, p *reply) {
			p.set("X-Repo-Commit", strings.Repeat("0123456789", 4))
		}},
		{kind: XetRedacted, routes: "tree", ends: Harmless, before: func(x *exchange, f Fault) *reply {
			x.quirks.redacted = true
			return nil
		}},
		{kind: TreeCut, routes: "tree", ends: Lasting, after: func(x *exchange, f Fault, p *reply) { p.header.Del("Link") }},
		{kind: TreeGap, routes: "tree", ends: Lasting, when: func(x *exchange) bool { return x.r.URL.Query().Get("cursor") != "" }, before: func(x *exchange, f Fault) *reply {
			return fail(http.StatusNotFound, "", "Invalid cursor")
		}},
		{kind: TreeRepeated, routes: "tree", ends: Lasting, body: true, after: func(x *exchange, f Fault, p *reply) {
			p.set("Link", "<"+x.hub.Endpoint()+x.r.URL.RequestURI()+`>; rel="next"`)
		}},
		{kind: TreeEndless, routes: "tree", ends: Lasting, before: func(x *exchange, f Fault) *reply {
			x.quirks.endless = true
			return nil
		}},
		{kind: Size, routes: "tree paths-info", ends: Lasting, names: true, before: func(x *exchange, f Fault) *reply {
			f.N = either(f.N, 50e9)
			x.quirks.sizes = append(x.quirks.sizes, f)
			return nil
		}},
		{kind: HostileName, routes: "tree", ends: Lasting, before: func(x *exchange, f Fault) *reply {
			x.intrude(orText(f.To, "../outside.txt"))
			return nil
		}},
		{kind: CaseName, routes: "tree", ends: Lasting, before: func(x *exchange, f Fault) *reply {
			x.intrude(orText(f.To, "CONFIG.json"))
			return nil
		}},
		{kind: Moved, routes: "info tree resolve", ends: Harmless, after: func(x *exchange, f Fault, p *reply) { x.moveBranch() }},
		{kind: Renamed, routes: "info tree resolve", ends: Lasting, after: func(x *exchange, f Fault, p *reply) { x.renameRepo() }},
		{kind: Deleted, routes: "info tree resolve", ends: Lasting, after: func(x *exchange, f Fault, p *reply) { x.deleteRepo() }},
		{kind: Gated, routes: "info tree resolve", ends: Lasting, after: func(x *exchange, f Fault, p *reply) { x.closeGate() }},
		{kind: DayAhead, routes: reads, ends: Harmless, after: func(x *exchange, f Fault, p *reply) { x.shiftClock(p, 24*time.Hour) }},
		{kind: DayBehind, routes: reads, ends: Harmless, after: func(x *exchange, f Fault, p *reply) { x.shiftClock(p, -24*time.Hour) }},
		{kind: Landed, routes: lfs, ends: Lasting, after: func(x *exchange, f Fault, p *reply) { *p = *broken(http.StatusGatewayTimeout)(x, f) }},
	}
}
