package hubtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// find finds the file that a request is about, or says what is missing.
func (x *exchange) findFile() (*commit, file, *reply) {
	if p := x.gate(); p != nil {
		return nil, file{}, p
	}
	c, p := x.revision()
	if p != nil {
		return nil, file{}, p
	}
	f, ok := c.files[x.file]
	if !ok {
		p := fail(http.StatusNotFound, "EntryNotFound", "Entry not found")
		p.set("X-Repo-Commit", c.id)
		return nil, file{}, p
	}
	return c, f, nil
}

// resolve tells what a file is and where its bytes are: relative to the Hub for what is in git, at the CDN for what is in LFS.
func (x *exchange) resolve() *reply {
	c, f, p := x.findFile()
	if p != nil {
		return p
	}
	etag := f.etag()
	if f.sha256 == "" {
		at := "/api/resolve-cache/" + x.kind + "/" + x.repo.id + "/" + c.id + "/" + escape(f.path) + "?" +
			url.QueryEscape(x.r.URL.EscapedPath()) + "=&etag=" + url.QueryEscape(etag)
		p = redirect(http.StatusTemporaryRedirect, at)
	} else {
		p = redirect(http.StatusFound, x.hub.sign(f))
		p.set("ETag", etag)
		p.set("Accept-Ranges", "bytes")
		if x.hub.o.Xet {
			p.set("X-Xet-Hash", f.xetHash())
			p.set("Link", fmt.Sprintf(`<%s/api/%s/%s/xet-read-token/%s>; rel="xet-auth"`, x.hub.Endpoint(), x.kind, x.repo.id, c.id))
		}
	}
	if x.r.Header.Get("If-None-Match") == etag {
		p = &reply{status: http.StatusNotModified}
		p.set("ETag", etag)
	}
	p.set("X-Repo-Commit", c.id)
	p.set("X-Linked-Etag", etag)
	p.set("X-Linked-Size", strconv.FormatInt(f.size, 10))
	return p
}

// etag is how the Hub names a content: git's blob id, or the sha256 of an LFS file.
func (f file) etag() string {
	if f.sha256 != "" {
		return `"` + f.sha256 + `"`
	}
	return `"` + f.sha1 + `"`
}

// resolveCache serves a file that is in git.
func (x *exchange) resolveCache() *reply {
	c, f, p := x.findFile()
	if p != nil {
		return p
	}
	p = x.content(f.content, f.etag(), "text/plain; charset=utf-8")
	p.set("X-Repo-Commit", c.id)
	p.set("Content-Disposition", fmt.Sprintf(`inline; filename*=UTF-8''%s; filename=%q;`, url.PathEscape(path.Base(f.path)), path.Base(f.path)))
	return p
}

// raw serves what git has: of an LFS file the pointer.
func (x *exchange) raw() *reply {
	c, f, p := x.findFile()
	if p != nil {
		return p
	}
	if f.sha256 != "" {
		text := pointer(f.sha256, f.size)
		f.content = content{data: text, size: int64(len(text))}
	}
	p = x.content(f.content, `"`+f.sha1+`"`, "text/plain; charset=utf-8")
	p.set("X-Repo-Commit", c.id)
	return p
}

// sign makes the URL of an LFS object, good for some time.
func (h *Hub) sign(f file) string {
	v := url.Values{"file": {f.path}, "Expires": {strconv.FormatInt(h.o.Now().Add(h.o.SignedFor).Unix(), 10)}}
	v.Set("Signature", h.signature(f.sha256, v.Get("Expires")))
	h.objects[f.sha256] = f.content
	return h.CDN() + "/cdn/" + f.sha256 + "?" + v.Encode()
}

func (h *Hub) signature(parts ...string) string {
	mac := hmac.New(sha256.New, fmt.Appendf(nil, "key %d", h.o.Seed))
	mac.Write([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(mac.Sum(nil))
}

// cdn serves an LFS object to whoever has a signed URL that is not too old.
func (x *exchange) cdn() *reply {
	sha := path.Base(x.r.URL.Path)
	v := x.r.URL.Query()
	until, err := strconv.ParseInt(v.Get("Expires"), 10, 64)
	if err != nil || v.Get("Signature") != x.hub.signature(sha, v.Get("Expires")) || x.hub.o.Now().After(time.Unix(until, 0)) {
		return expired()
	}
	c, ok := x.hub.objects[sha]
	if !ok {
		return (&reply{status: http.StatusNotFound}).hold([]byte("<Error><Code>NoSuchKey</Code></Error>"))
	}
	return x.content(c, `"`+sha+`"`, "application/octet-stream")
}

// expired is how a CDN refuses a URL that was signed too long ago.
func expired() *reply {
	p := (&reply{status: http.StatusForbidden}).hold([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`))
	p.set("Content-Type", "application/xml")
	return p
}

// content serves bytes: whole or a range of them, coded or not, or nothing where the client has them.
func (x *exchange) content(c content, etag, kind string) *reply {
	if x.quirks.etag != "" {
		etag = x.quirks.etag
	}
	if x.r.Header.Get("If-None-Match") == etag {
		p := &reply{status: http.StatusNotModified}
		p.set("ETag", etag)
		return p
	}
	from, to, status := x.span(c.size, etag)
	p := &reply{status: status}
	p.set("ETag", etag)
	p.set("Accept-Ranges", "bytes")
	p.set("Content-Type", kind)
	if status == http.StatusRequestedRangeNotSatisfiable {
		p.set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		return p
	}
	r, closer, err := c.open()
	if err != nil {
		return fail(http.StatusInternalServerError, "", "Internal Error - We're working hard to fix this as soon as possible!")
	}
	p.body, p.size, p.closer = io.NewSectionReader(r, from, to-from), to-from, closer
	if status == http.StatusPartialContent {
		p.set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, c.size))
		return p
	}
	if x.route == "resolve-cache" && wantsGzip(x.r) && x.r.Method == http.MethodGet {
		p.set("ETag", "W/"+etag)
		p.gzipped()
	}
	return p
}

// span reads Range and If-Range: the bytes from..to and the status.
func (x *exchange) span(size int64, etag string) (from, to int64, status int) {
	spec, ok := strings.CutPrefix(x.r.Header.Get("Range"), "bytes=")
	condition := x.r.Header.Get("If-Range")
	first, last, dash := strings.Cut(spec, "-")
	if x.quirks.noRange || !ok || !dash || strings.Contains(spec, ",") || condition != "" && condition != etag {
		return 0, size, http.StatusOK
	}
	a, errA := strconv.ParseInt(first, 10, 64)
	b, errB := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && errB == nil: // the last b bytes
		a, b = max(0, size-b), size-1
	case last == "" && errA == nil:
		b = size - 1
	case errA != nil || errB != nil || b < a:
		return 0, size, http.StatusOK
	}
	if a >= size {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	return a, min(b, size-1) + 1, http.StatusPartialContent
}

// escape quotes a path for a URL, slashes kept.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
