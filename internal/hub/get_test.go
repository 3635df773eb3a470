package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// cannedWeb answers by address, and notes who saw a token.
type cannedWeb struct {
	answers map[string]func() *http.Response
	tokens  []string
	asked   int
}

func (c *cannedWeb) RoundTrip(r *http.Request) (*http.Response, error) {
	c.asked++
	if r.Header.Get("Authorization") != "" {
		c.tokens = append(c.tokens, r.URL.String())
	}
	answer := c.answers[r.URL.String()]
	if answer == nil {
		return webReply(404, ""), nil
	}
	return answer(), nil
}

func webReply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func TestGet(t *testing.T) {
	text := "some text"
	sum := sha256.Sum256([]byte(text))
	tries := 0
	net := &cannedWeb{answers: map[string]func() *http.Response{
		"https://a.test/x.txt":     func() *http.Response { return webReply(200, text) },
		"https://a.test/other.txt": func() *http.Response { return webReply(200, "other text") },
		"https://a.test/busy.txt":  func() *http.Response { tries++; return webReply([]int{503, 503, 200}[min(tries, 3)-1], text) },
		"https://a.test/moved.txt": func() *http.Response {
			r := webReply(302, "")
			r.Header.Set("Location", "https://b.test/x.txt")
			return r
		},
		"https://b.test/x.txt": func() *http.Response { return webReply(200, text) },
		"https://a.test/plain.txt": func() *http.Response {
			r := webReply(302, "")
			r.Header.Set("Location", "http://a.test/x.txt")
			return r
		},
		"https://hub.test/x.txt": func() *http.Response { return webReply(200, text) },
		"https://a.test/inside.txt": func() *http.Response {
			r := webReply(302, "")
			r.Header.Set("Location", "https://127.0.0.1/x")
			return r
		},
	}}
	c := New(Settings{Endpoint: "https://hub.test", Token: "hf_canary"}, Options{Transport: net, Sleep: func(context.Context, time.Duration) error { return nil }})
	for address, want := range map[string]string{
		"https://a.test/x.txt": "", "https://a.test/busy.txt": "", "https://a.test/moved.txt": "", "https://hub.test/x.txt": "",
		"https://a.test/other.txt":  "and the recipe says",
		"https://a.test/gone.txt":   "404 Not Found",
		"https://a.test/plain.txt":  "from https to http",
		"https://a.test/inside.txt": "private network",
		"http://a.test/x.txt":       "not an https address",
		"https://u:p@a.test/x.txt":  "not an https address",
		"file:///etc/passwd":        "not an https address",
	} {
		data, err := c.Get(context.Background(), address, sum, 100)
		if want == "" && (err != nil || !bytes.Equal(data, []byte(text))) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", address, data, err, want)
		}
	}
	if _, err := c.Get(context.Background(), "https://a.test/x.txt", sum, 3); err == nil || !strings.Contains(err.Error(), "more than the 3 bytes") {
		t.Errorf("more than is allowed: %v", err)
	}
	if net.tokens != nil {
		t.Errorf("the token was sent to %v", net.tokens)
	}
	before := net.asked
	offline := New(Settings{Offline: true}, Options{Transport: net})
	if _, err := offline.Get(context.Background(), "https://a.test/x.txt", sum, 100); ClassOf(err) != Offline || net.asked != before {
		t.Errorf("offline: %v, %d requests", err, net.asked-before)
	}
}
