package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
)

// Bytes brings a small file, of at most max bytes, and proves it by its hash.
func (c *Client) Bytes(ctx context.Context, r Repo, commit string, f File, max int64) ([]byte, error) {
	if err := c.mayAsk(r, commit, f); err != nil {
		return nil, err
	}
	if f.Size > max {
		return nil, &Error{Class: Protocol, What: fmt.Sprintf("%s has %d bytes, more than the %d that are read of it", clean(f.Path), f.Size, max), Do: "look at the file: it may not be what its name says"}
	}
	var data []byte
	err := c.try(ctx, func() (err error) {
		data, err = c.bytes(ctx, r, commit, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

func (c *Client) mayAsk(r Repo, commit string, f File) error {
	if err := c.ready(r); err != nil {
		return err
	}
	if err := checkCommit(commit); err != nil {
		return err
	}
	return f.check()
}

func (c *Client) bytes(ctx context.Context, r Repo, commit string, f File) ([]byte, error) {
	about := subject{repo: r, revision: commit, path: f.Path}
	a, err := c.file(ctx, r, commit, f, request{about: about, quiet: c.settings.MetaTimeout})
	if err != nil {
		return nil, err
	}
	defer a.body.Close()
	if a.status != http.StatusOK {
		return nil, c.refusal(a, about)
	}
	data, err := readAll(a, about, f.Size)
	if err != nil {
		return nil, err
	}
	h := hasher(f)
	h.Write(data)
	if got := hex.EncodeToString(h.Sum(nil)); got != f.oid() {
		e := wrongHash(about, f, got)
		e.tries = 2
		return nil, e
	}
	return data, nil
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// file asks for a file and looks whether the answer is about it.
func (c *Client) file(ctx context.Context, r Repo, commit string, f File, q request) (*answer, error) {
	var err error
	if q.url, err = c.fileAddress(r, commit, f.Path); err != nil {
		return nil, err
	}
	a, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := a.about(q.about, commit, f); err != nil {
		_ = a.body.Close()
		return nil, err
	}
	return a, nil
}

// Start brings the first n bytes of a file, or all of it if it is shorter. Nothing proves them: they are for forecasts only.
func (c *Client) Start(ctx context.Context, r Repo, commit string, f File, n int64) ([]byte, error) {
	if err := c.mayAsk(r, commit, f); err != nil {
		return nil, err
	}
	n = min(n, f.Size)
	if n <= 0 {
		return nil, nil
	}
	var data []byte
	err := c.try(ctx, func() (err error) {
		data, err = c.start(ctx, r, commit, f, n)
		return err
	})
	return data, err
}

func (c *Client) start(ctx context.Context, r Repo, commit string, f File, n int64) ([]byte, error) {
	about := subject{repo: r, revision: commit, path: f.Path}
	a, err := c.file(ctx, r, commit, f, request{about: about, ranged: true, span: span{0, n}, quiet: c.settings.DataTimeout})
	if err != nil {
		return nil, err
	}
	defer a.body.Close()
	var in io.Reader = a.body
	switch a.status {
	case http.StatusPartialContent:
		err = isRange(a, about, span{0, n}, f.Size)
	case http.StatusOK: // it knows no ranges: the rest is not read
		in, err = a.plain(about)
	default:
		err = c.refusal(a, about)
	}
	if err != nil {
		return nil, err
	}
	var data []byte
	if data, err = io.ReadAll(io.LimitReader(in, n)); err == nil && int64(len(data)) < n {
		err = short(about, n-int64(len(data)))
	}
	return data, err
}
