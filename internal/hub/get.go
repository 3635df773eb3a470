package hub

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
)

// Get brings a file of at most max bytes from an address outside the Hub, without any token, and proves it by its SHA-256.
func (c *Client) Get(ctx context.Context, address string, sum [32]byte, max int64) ([]byte, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, &Error{Class: Name, What: clean(address) + " is not an https address", Do: "write it like https://host/path"}
	}
	u.Fragment, u.RawFragment = "", ""
	if c.settings.Offline {
		return nil, &Error{Class: Offline, What: fmt.Sprintf("%s is not fetched: HF_HUB_OFFLINE or --offline says so", clean(u.Host+u.Path)), Do: "go online, or run where it was fetched before"}
	}
	var data []byte
	err = c.try(ctx, func() (err error) {
		data, err = c.get(ctx, u, hex.EncodeToString(sum[:]), max)
		return err
	})
	return data, err
}

func (c *Client) get(ctx context.Context, u *url.URL, want string, max int64) ([]byte, error) {
	about := subject{path: u.Host + u.Path}
	a, err := c.send(ctx, request{url: u, about: about, bare: true, quiet: c.settings.DataTimeout})
	if err != nil {
		return nil, err
	}
	defer a.body.Close()
	if a.status != http.StatusOK {
		return nil, refusedAt(a, about)
	}
	data, err := readAll(a, about, max)
	if err != nil {
		return nil, err
	}
	if got := sha256Hex(data); got != want {
		return nil, &Error{Class: Corrupt, What: fmt.Sprintf("%s has SHA-256 %s, and the recipe says %s", about, got, want), Do: "if the file was replaced on purpose, write the new digest", tries: 2}
	}
	return data, nil
}

// refusedAt is an answer of a server that is no Hub.
func refusedAt(a *answer, s subject) *Error {
	e := &Error{Class: NotFound, What: fmt.Sprintf("the server answered %s to the request for %s", statusText(a.status), s), Do: "open the address in a browser", Status: a.status, RequestID: requestID(a.header)}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout || a.status >= 500 {
		e.Class, e.Do, e.tries, e.wait = Server, "try again later", maxTries, waitAsked(a.header)
	}
	return e
}
