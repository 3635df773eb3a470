package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// fetch brings what is missing: connections that write where their bytes belong, one goroutine that hashes behind them in order, and one that keeps the journal. The first error ends them all.
func (dl *download) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, dl.wake)()
	var wg sync.WaitGroup
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	dl.cancels = make([]func(), min(len(dl.todo), cap(dl.c.slots)))
	works := make([]context.Context, len(dl.cancels))
	for i := range dl.cancels {
		work, stop := context.WithCancelCause(ctx)
		works[i], dl.cancels[i] = work, func() { stop(errYield) }
	}
	for i := range works {
		start(func(context.Context) error { return dl.work(works[i], i) })
	}
	start(func(ctx context.Context) error { return dl.c.prove(dl, ctx) })
	done, kept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(kept)
		if err := dl.keep(done); err != nil {
			cancel(err)
		}
	}()
	wg.Wait()
	close(done)
	<-kept
	for _, stop := range dl.cancels {
		stop()
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

func (dl *download) wake() {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.changed.Broadcast()
}

// work is one connection after the other.
func (dl *download) work(ctx context.Context, me int) error {
	for {
		s, ok := dl.next(me)
		if !ok {
			return nil
		}
		if err := dl.bring(ctx, me, s); err != nil {
			if errors.Is(err, errYield) {
				return nil
			}
			return err
		}
	}
}

// next is what a connection should bring: a piece, or for the carrier all that is missing.
func (dl *download) next(me int) (span, bool) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if dl.carrier >= 0 {
		all := span{dl.have.prefix(), dl.file.Size}
		return all, dl.carrier == me && all.len() > 0
	}
	if len(dl.todo) == 0 {
		return span{}, false
	}
	s := dl.todo[0]
	dl.todo = dl.todo[1:]
	return s, true
}

// carry makes one connection bring all that is missing, and ends the others. It fails if another one does so already.
func (dl *download) carry(me int, noRange bool) bool {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if dl.carrier >= 0 && dl.carrier != me {
		return false
	}
	dl.carrier, dl.noRange, dl.todo = me, dl.noRange || noRange, nil
	for i, stop := range dl.cancels {
		if i != me {
			stop()
		}
	}
	dl.changed.Broadcast()
	return true
}

// bring a span, from where it stands after each failure.
func (dl *download) bring(ctx context.Context, me int, s span) error {
	p := patience{c: dl.c}
	for {
		n, err := dl.stream(ctx, me, &s)
		if n >= dl.c.limits.worth {
			p.progress()
		}
		if err == nil {
			return nil
		}
		if dl.rangesFail(err, &p) && dl.carry(me, true) {
			return nil // next hands out the rest, without ranges
		}
		if dl.yields(me) { // what went wrong here does not count any more
			return errYield
		}
		if err = p.retry(ctx, err); err != nil {
			return err
		}
	}
}

// rangesFail: ranges were answered against the protocol as often as we try; without them it may still go.
func (dl *download) rangesFail(err error, p *patience) bool {
	var e *Error
	if !errors.As(err, &e) || e.Class != Protocol || e.tries == 0 || p.failed+1 < e.tries {
		return false
	}
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return !dl.noRange
}

func (dl *download) yields(me int) bool {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return dl.carrier >= 0 && dl.carrier != me
}

// stream is one connection: it asks for a span, looks at what is answered and writes it. s gets shorter as bytes come; n is how many were new.
func (dl *download) stream(ctx context.Context, me int, s *span) (n int64, err error) {
	release, err := dl.c.slot(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	dl.mu.Lock()
	if dl.carrier >= 0 {
		s.from = dl.have.prefix()
	}
	ranged := !dl.noRange && *s != span{0, dl.file.Size}
	etag := dl.etag
	dl.mu.Unlock()
	a, err := dl.open(ctx, request{about: dl.about, ranged: ranged, span: *s, ifRange: etag, quiet: dl.c.settings.DataTimeout})
	if err != nil {
		return 0, err
	}
	defer a.body.Close()
	if err := dl.same(a); err != nil {
		return 0, err
	}
	switch {
	case a.status == http.StatusPartialContent && ranged:
		if err := isRange(a, dl.about, *s, dl.file.Size); err != nil {
			return 0, err
		}
		return dl.copy(ctx, a.body, s)
	case a.status == http.StatusOK:
		in, err := dl.isWhole(a)
		if err != nil {
			return 0, err
		}
		if ranged && !dl.carry(me, false) {
			return 0, errYield
		}
		*s = span{0, dl.file.Size}
		return dl.copy(ctx, in, s)
	case a.status == http.StatusPartialContent, a.status == http.StatusRequestedRangeNotSatisfiable:
		return 0, odd(a, dl.about, "it is %s", statusText(a.status))
	}
	return 0, dl.c.refusal(a, dl.about)
}

// open asks where the Hub said that the bytes are, and the Hub itself where it did not say yet or where that address does not hold any more.
func (dl *download) open(ctx context.Context, q request) (*answer, error) {
	if a, err := dl.direct(ctx, q); a != nil || err != nil {
		return a, err
	}
	select { // one asks, the others use what it learns
	case dl.resolve <- struct{}{}:
		defer func() { <-dl.resolve }()
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	if a, err := dl.direct(ctx, q); a != nil || err != nil {
		return a, err
	}
	var err error
	if q.url, err = dl.c.fileAddress(dl.repo, dl.commit, dl.file.Path); err != nil {
		return nil, err
	}
	a, err := dl.c.ask(ctx, q)
	if err == nil && !a.home && a.status/100 == 2 {
		dl.mu.Lock()
		dl.location = a.url
		dl.mu.Unlock()
	}
	return a, err
}

// fileAddress is where the Hub is asked for a file.
func (c *Client) fileAddress(r Repo, commit, path string) (*url.URL, error) {
	return c.address("/" + r.String() + "/resolve/" + quote(commit, "") + "/" + quote(path, "/"))
}

// direct asks the address that the Hub gave. Neither an answer nor an error: ask the Hub (again: such addresses are good for some time only).
func (dl *download) direct(ctx context.Context, q request) (*answer, error) {
	dl.mu.Lock()
	q.url, q.bare = dl.location, true
	dl.mu.Unlock()
	if q.url == nil {
		return nil, nil
	}
	a, err := dl.c.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	switch a.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		_ = a.body.Close()
		dl.mu.Lock()
		if dl.location == q.url {
			dl.location = nil
		}
		dl.mu.Unlock()
		return nil, nil
	}
	return a, nil
}

// same looks whether the answer is about the file that was asked for, and the same as before.
func (dl *download) same(a *answer) error {
	if err := a.about(dl.about, dl.commit, dl.file); err != nil {
		return err
	}
	etag := a.header.Get("ETag")
	if a.status/100 != 2 || strings.HasPrefix(etag, "W/") || etag == "" {
		return nil
	}
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if dl.etag != "" && dl.etag != etag {
		return &startAgain{why: "it changes while it comes", plain: true}
	}
	dl.etag = etag
	return nil
}

// about compares what the Hub says of a file with what was asked for.
func (a *answer) about(s subject, commit string, f File) error {
	if got := a.linked.Get("X-Repo-Commit"); got != "" && got != commit {
		return odd(a, s, "it is of the commit %s", clean(got))
	}
	etag := strings.Trim(strings.TrimPrefix(a.linked.Get("X-Linked-Etag"), "W/"), `"`)
	if sha256Text().MatchString(etag) && f.SHA256 != "" && etag != f.SHA256 || commitText().MatchString(etag) && f.SHA256 == "" && etag != f.GitSHA1 {
		return odd(a, s, "it is of other content (%s)", etag)
	}
	if n, ok := decimal(a.linked.Get("X-Linked-Size")); ok && n != f.Size {
		return odd(a, s, "it is of a file of %d bytes, not %d", n, f.Size)
	}
	return nil
}

// isRange: exactly the bytes that were asked for, as they are.
func isRange(a *answer, about subject, s span, size int64) error {
	text := a.header.Get("Content-Range")
	first, last, total, ok := contentRange(text)
	switch encoding := a.header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return odd(a, about, "it is a range encoded as %s", clean(encoding))
	case !ok || first != s.from || last != s.to-1 || total != size:
		return odd(a, about, "bytes %d-%d/%d were asked for, %q came", s.from, s.to-1, size, clean(text))
	case a.length >= 0 && a.length != s.len():
		return odd(a, about, "a range of %d bytes has %d", s.len(), a.length)
	}
	return nil
}

// isWhole: the file from its first byte, of the right size where one is said.
func (dl *download) isWhole(a *answer) (io.Reader, error) {
	in, err := a.plain(dl.about)
	if err == nil && a.length >= 0 && a.length != dl.file.Size {
		err = odd(a, dl.about, "it has %d bytes%s, the file has %d", a.length, kind(a), dl.file.Size)
	}
	return in, err
}

func kind(a *answer) string {
	if t := a.header.Get("Content-Type"); t != "" {
		return " of " + clean(t)
	}
	return ""
}

// buffers for what is read from connections.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copy writes what comes where it belongs; what is there already is not written again. What comes after the span is not read: the hash says whether all is right.
func (dl *download) copy(ctx context.Context, in io.Reader, s *span) (n int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for s.len() > 0 {
		got, err := in.Read((*buf)[:min(int64(len(*buf)), s.len())])
		if got > 0 {
			fresh, err := dl.write(ctx, (*buf)[:got], s.from)
			n += fresh
			if err != nil {
				return n, err
			}
			s.from += int64(got)
		}
		if err == io.EOF && s.len() > 0 {
			return n, short(dl.about, s.len())
		}
		if err != nil && err != io.EOF {
			return n, err
		}
	}
	return n, nil
}

func short(s subject, missing int64) error {
	return &Error{Class: Network, What: fmt.Sprintf("the answer to the request for %s ended %d bytes too early", s, missing), Do: "try again", tries: maxTries}
}

// write puts bytes at their place. It waits while too much is not in the journal.
func (dl *download) write(ctx context.Context, data []byte, at int64) (fresh int64, err error) {
	dl.mu.Lock()
	for dl.dirty > 0 && dl.dirty+int64(len(data)) > dl.c.limits.lag && ctx.Err() == nil {
		dl.kick()
		dl.changed.Wait()
	}
	gaps := dl.have.gaps(span{at, at + int64(len(data))})
	dl.mu.Unlock()
	if ctx.Err() != nil {
		return 0, ended(ctx)
	}
	for _, g := range gaps {
		if _, err := dl.part.file.WriteAt(data[g.from-at:g.to-at], g.from); err != nil {
			return fresh, diskError(fmt.Sprintf("%s cannot be written", dl.about), err)
		}
		fresh += dl.wrote(g)
	}
	return fresh, nil
}

func (dl *download) wrote(g span) int64 {
	dl.mu.Lock()
	var fresh int64
	dl.have, fresh = dl.have.add(g)
	dl.dirty += fresh
	if dl.dirty >= dl.c.limits.sync {
		dl.kick()
	}
	dl.changed.Broadcast()
	dl.mu.Unlock()
	dl.report(fresh)
	return fresh
}

func (dl *download) kick() {
	select {
	case dl.flush <- struct{}{}:
	default:
	}
}
