package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// Class is the kind of an error: what a caller may want to know without reading the sentence.
type Class string

// The classes.
const (
	NotFound     Class = "not found"    // no such repository, revision or file, or a private one
	Gated        Class = "gated"        // a licence has to be accepted first
	Unauthorized Class = "unauthorized" // the token is not valid
	Forbidden    Class = "forbidden"    // the token has no right
	Disabled     Class = "disabled"     // the Hub has closed the repository
	RateLimited  Class = "rate limited"
	Network      Class = "network" // no connection, or one that did not hold
	Server       Class = "server"  // it said that it failed
	Corrupt      Class = "corrupt" // the bytes are not those that the Hub promised
	Protocol     Class = "protocol"
	Offline      Class = "offline"
	Full         Class = "full" // no room on the disk
	Name         Class = "name" // a name or setting that cannot be right
)

// Error is what went wrong with the Hub, in one sentence, and what to do. No token and no signed address stands in it.
type Error struct {
	Class     Class
	What      string
	Do        string
	Status    int    // of the HTTP answer; 0 without one
	RequestID string // by which the Hub finds the request in its logs
	Err       error

	tries int           // how often it is worth trying in all; 0 and 1: it is final
	wait  time.Duration // what the server asked to wait before; 0: nothing
}

func (e *Error) Error() string {
	text := e.What
	if e.Err != nil {
		text += ": " + reason(e.Err)
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// Unwrap is the error below, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf is the class of an error, "" when it is none of this package.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// reason is the text of an error from below without what must not be shown.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return err.Error()
	}
	return scrub(err.Error())
}

var (
	userinfo = lazyregexp.New(`//[^\s"/?#@]*@`)
	query    = lazyregexp.New(`(://[^\s"?]*)\?[^\s"]*`)
)

// scrub takes passwords and query strings out of addresses in a text, and anything that could move a terminal's cursor.
func scrub(text string) string {
	return clean(query().ReplaceAllString(userinfo().ReplaceAllString(text, "//"), "$1?..."))
}

// clean makes a text from outside fit for one line of a message.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > maxQuote {
		text = strings.ToValidUTF8(text[:maxQuote], "") + "..."
	}
	return text
}

const maxQuote = 300

// subject is what a request is about, for messages.
type subject struct {
	repo           Repo
	revision, path string
}

func (s subject) String() string {
	switch {
	case s.path != "":
		if s.repo.ID == "" { // an address outside the Hub
			return clean(s.path)
		}
		return clean(s.path) + " of " + s.repo.String()
	case s.revision != "":
		return s.repo.String() + " at " + clean(s.revision)
	}
	return s.repo.String()
}

// refusal makes an error of an answer that is none of those that were hoped for.
func (c *Client) refusal(a *answer, s subject) *Error {
	e := &Error{Status: a.status, RequestID: requestID(a.header)}
	code, said := a.header.Get("X-Error-Code"), clean(a.header.Get("X-Error-Message"))
	page := c.settings.Endpoint + "/" + s.repo.String()
	switch {
	case a.status == http.StatusTooManyRequests:
		e.Class, e.What, e.Do = RateLimited, "the Hub asks for patience: too many requests", "try again later, or set HF_TOKEN: signed in, more is allowed"
		e.tries, e.wait = maxTries, waitAsked(a.header)
	case a.status == http.StatusRequestTimeout || a.status >= 500:
		e.Class, e.What, e.Do = Server, fmt.Sprintf("the server answered %s to the request for %s", statusText(a.status), s), "try again later"
		if a.status != http.StatusNotImplemented && a.status != http.StatusHTTPVersionNotSupported {
			e.tries, e.wait = maxTries, waitAsked(a.header)
		}
	case !a.home && (a.status == 401 || a.status == 403 || a.status == 404 || a.status == 410 || a.status == 400):
		e.Class, e.What, e.Do = Server, fmt.Sprintf("%s, to which the Hub led, answered %s to the request for %s", a.url.Host, statusText(a.status), s), "try again later"
		e.tries = maxTries
	case code == "GatedRepo":
		e.Class, e.What, e.Do = c.gated(s, page)
	case code == "RevisionNotFound":
		e.Class, e.What, e.Do = NotFound, fmt.Sprintf("%s has no revision %s", s.repo, clean(s.revision)), "see "+page+" for its branches, tags and commits"
	case code == "EntryNotFound":
		e.Class, e.What, e.Do = NotFound, fmt.Sprintf("%s has no file %s at %s", s.repo, clean(s.path), clean(s.revision)), "see "+page+"/tree/main for its files"
	case strings.Contains(said, "is disabled"):
		e.Class, e.What, e.Do = Disabled, fmt.Sprintf("the Hub has disabled %s", s.repo), "see "+page+" for why, or take another model"
	case a.status == http.StatusUnauthorized && strings.Contains(said, "Invalid credentials"):
		e.Class, e.What, e.Do = Unauthorized, "the Hub does not accept "+c.theToken(), "make a new one at "+c.settings.Endpoint+"/settings/tokens, or take it away"
	case code == "RepoNotFound" || a.status == http.StatusUnauthorized || a.status == http.StatusNotFound:
		e.Class, e.What, e.Do = c.missing(s, page)
	case a.status == http.StatusForbidden:
		e.Class, e.What = Forbidden, fmt.Sprintf("%s has no right to read %s", c.theToken(), s)
		e.Do = "give it the right to read at " + c.settings.Endpoint + "/settings/tokens"
	default:
		e.Class, e.What, e.Do = Protocol, fmt.Sprintf("the answer to the request for %s is %s, which is not expected", s, statusText(a.status)), endpointHint
	}
	if said != "" && e.Class != Gated && e.Class != NotFound {
		e.What += fmt.Sprintf(" (it says: %s)", said)
	}
	return e
}

const endpointHint = "if HF_ENDPOINT or a proxy is set, it may not be a Hub that answers"

func (c *Client) gated(s subject, page string) (Class, string, string) {
	if c.settings.Token == "" {
		return Gated, fmt.Sprintf("%s is gated: it is given only to people who are signed in and have accepted its licence", s.repo), "accept the licence at " + page + ", then set HF_TOKEN"
	}
	return Gated, fmt.Sprintf("%s is gated, and the account of %s is not on its list", s.repo, c.theToken()), "ask for access at " + page + ", then try again"
}

// missing: the Hub does not tell what is not there from what is private.
func (c *Client) missing(s subject, page string) (Class, string, string) {
	if c.settings.Token == "" {
		return NotFound, fmt.Sprintf("%s does not exist at %s, or is private", s, c.settings.Endpoint), "check the name at " + page + "; if it is private, set HF_TOKEN"
	}
	return NotFound, fmt.Sprintf("%s does not exist at %s, or %s has no right to see it", s, c.settings.Endpoint, c.theToken()), "check the name at " + page + " and the rights of the token"
}

// theToken names the token by where it came from.
func (c *Client) theToken() string {
	switch {
	case c.settings.Token == "":
		return "a request without a token"
	case c.settings.TokenFrom == "":
		return "the token"
	}
	return "the token of " + c.settings.TokenFrom
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// requestID is the Hub's id of a request, or that of the content network behind it.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "X-Amz-Cf-Id", "X-Amz-Request-Id"} {
		if id := h.Get(name); id != "" {
			return strings.Map(func(r rune) rune {
				if r <= ' ' || r > '~' {
					return -1
				}
				return r
			}, id[:min(len(id), 100)])
		}
	}
	return ""
}

// odd is an answer that is against the protocol. It is asked for once more, as a proxy may have had a bad moment.
func odd(a *answer, s subject, format string, args ...any) *Error {
	return &Error{Class: Protocol, What: fmt.Sprintf("the answer to the request for %s cannot be right: ", s) + fmt.Sprintf(format, args...),
		Do: endpointHint, Status: a.status, RequestID: requestID(a.header), tries: 2}
}
