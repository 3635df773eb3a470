package hubtest

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func tlsConfig(h *Hub) *tls.Config { return &tls.Config{RootCAs: h.Certificates()} }

// spoilt is a Hub with a model and one fault.
type spoilt struct {
	t      *testing.T
	h      *Hub
	repo   *Repo
	commit string
	large  string // the URL of a large file at the CDN
	etag   string
}

// fetch gets something; what it is must have been hit by the fault.
func (s spoilt) fetch(url string, headers ...string) (*http.Response, []byte, error) {
	s.t.Helper()
	resp, body, err := call(s.t, "GET", url, headers...)
	if s.h.Hits() == 0 {
		s.t.Errorf("%s was not hit", url)
	}
	return resp, body, err
}

// good is a fetch that must end without an error.
func (s spoilt) good(url string, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	resp, body, err := s.fetch(url, headers...)
	if err != nil {
		s.t.Fatalf("%s: %v", url, err)
	}
	return resp, body
}

// breaks is a fetch of the large file that must break after so many right bytes.
func (s spoilt) breaks(want int, with error) {
	s.t.Helper()
	resp, body, err := s.fetch(s.large)
	if resp == nil || resp.ContentLength != int64(len(weights())) || len(body) != want || !bytes.Equal(body, weights()[:len(body)]) || !errors.Is(err, with) {
		s.t.Errorf("%d bytes, want %d; %v, want %v", len(body), want, err, with)
	}
}

// status is a fetch of the tree that must come back with a status.
func (s spoilt) status(want int) *http.Response {
	s.t.Helper()
	resp, _ := s.good(s.api("/tree/main"))
	if resp.StatusCode != want {
		s.t.Errorf("%s, want %d", resp.Status, want)
	}
	return resp
}

func (s spoilt) api(rest string) string { return s.h.Endpoint() + "/api/models/org/name" + rest }

func (s spoilt) want(ok bool, got ...any) {
	s.t.Helper()
	if !ok {
		s.t.Error(got...)
	}
}

// checks say of each fault what it must do. All are planned with At 1000, N 5 and 50 ms to wait, for the routes that they are made for.
func checks() map[Kind]func(s spoilt) {
	ofRange := func(status int, content string, body []byte) func(spoilt) {
		return func(s spoilt) {
			s.t.Helper()
			resp, got := s.good(s.large, "Range: bytes=100-199", "If-Range: "+s.etag)
			s.want(resp.StatusCode == status && resp.Header.Get("Content-Range") == content && bytes.Equal(got, body), resp.Status, resp.Header, len(got))
		}
	}
	ends := func(status int) func(spoilt) { return func(s spoilt) { s.t.Helper(); s.status(status) } }
	entries := func(s spoilt) []string {
		s.t.Helper()
		_, body := s.good(s.api("/tree/main"))
		var names []string
		for _, e := range parseJSON[[]entry](s.t, body) {
			names = append(names, e.Path)
		}
		return names
	}
	date := func(by time.Duration) func(spoilt) {
		return func(s spoilt) {
			s.t.Helper()
			resp, _ := s.good(s.api("/tree/main"))
			at, err := http.ParseTime(resp.Header.Get("Date"))
			s.want(err == nil && time.Until(at.Add(-by)).Abs() < time.Minute, resp.Header.Get("Date"))
		}
	}
	limited := func(header, value string) func(spoilt) {
		return func(s spoilt) {
			s.t.Helper()
			resp := s.status(429)
			s.want(strings.Contains(resp.Header.Get(header), value), resp.Header)
			s.want((resp.Header.Get("RateLimit") != "") == (header == "RateLimit") && (resp.Header.Get("Retry-After") != "") == (header == "Retry-After"), resp.Header)
		}
	}
	astray := func(to string) func(spoilt) {
		return func(s spoilt) {
			s.t.Helper()
			resp := s.status(307)
			s.want(resp.Header.Get("Location") == strings.Replace(s.api("/tree/main"), s.h.Endpoint(), orText(to, s.h.Other()), 1), resp.Header)
		}
	}
	return map[Kind]func(spoilt){
		HangUp: func(s spoilt) { resp, _, err := s.fetch(s.large); s.want(resp == nil && errors.Is(err, io.EOF), err) },
		Reset:  func(s spoilt) { s.breaks(1000, syscall.ECONNRESET) },
		Drop:   func(s spoilt) { s.breaks(1000, io.ErrUnexpectedEOF) },
		Stall: func(s spoilt) {
			start := time.Now()
			s.breaks(1000, io.ErrUnexpectedEOF)
			s.want(time.Since(start) >= 50*time.Millisecond, "no stall")
		},
		Silence: func(s spoilt) { resp, _, err := s.fetch(s.large); s.want(resp == nil && errors.Is(err, io.EOF), err) },
		Slow: func(s spoilt) {
			start := time.Now()
			_, body := s.good(s.large)
			s.want(bytes.Equal(body, weights()) && time.Since(start) >= 250*time.Millisecond, len(body), time.Since(start))
		},
		Garbage: func(s spoilt) {
			resp, _, err := s.fetch(s.large)
			s.want(resp == nil && err != nil && strings.Contains(err.Error(), "malformed"), err)
		},

		Short: func(s spoilt) { s.breaks(len(weights())-5, io.ErrUnexpectedEOF) },
		Long: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(len(body) == len(weights())+5 && resp.ContentLength == int64(len(body)) && bytes.HasPrefix(body, weights()), len(body))
		},
		Flip: func(s spoilt) {
			_, body := s.good(s.large)
			want := weights()
			want[1000] ^= 1
			s.want(bytes.Equal(body, want), "not one bit")
		},
		Zeros: func(s spoilt) {
			_, body := s.good(s.large)
			want := weights()
			clear(want[1000:1005])
			s.want(bytes.Equal(body, want), "not five zeros")
		},
		Gzip: func(s spoilt) {
			resp, body := s.good(s.large)
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				s.t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			s.want(err == nil && bytes.Equal(got, weights()) && resp.Header.Get("Content-Encoding") == "gzip", resp.Header, err)
		},
		GzipCut: func(s spoilt) {
			resp, body := s.good(s.large)
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				s.t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			s.want(errors.Is(err, io.ErrUnexpectedEOF) && bytes.HasPrefix(weights(), got) && resp.Header.Get("Content-Encoding") == "gzip", resp.Header, err)
		},
		NoLength: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(bytes.Equal(body, weights()) && resp.ContentLength < 0 && slices.Equal(resp.TransferEncoding, []string{"chunked"}), resp.ContentLength, resp.TransferEncoding)
		},
		Bare: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(bytes.Equal(body, weights()) && resp.ContentLength < 0 && resp.TransferEncoding == nil, resp.ContentLength, resp.TransferEncoding)
		},
		BareCut: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(bytes.Equal(body, weights()[:1000]) && resp.ContentLength < 0, len(body))
		},
		LengthUp: func(s spoilt) {
			resp, body, err := s.fetch(s.large)
			s.want(resp != nil && resp.ContentLength == int64(len(weights())+5) && bytes.Equal(body, weights()) && errors.Is(err, io.ErrUnexpectedEOF), err)
		},
		LengthOff: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(resp.ContentLength == int64(len(weights())-5) && bytes.Equal(body, weights()[:len(weights())-5]), len(body))
		},
		HTML: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(resp.StatusCode == 200 && bytes.HasPrefix(body, []byte("<!DOCTYPE")), resp)
		},
		JSONCut: func(s spoilt) {
			resp, body := s.good(s.api(""))
			s.want(resp.ContentLength == int64(len(body)) && !bytes.HasSuffix(body, []byte("}")), resp)
		},
		JSONOther: func(s spoilt) {
			resp, body := s.good(s.api("/tree/main"))
			s.want(resp.StatusCode == 200 && bytes.HasPrefix(body, []byte("{")), resp)
		},

		RangeIgnored: ofRange(200, "", weights()),
		RangeStart:   ofRange(206, "bytes 105-204/1060921", weights()[100:200]),
		RangeTotal:   ofRange(206, "bytes 100-199/1060926", weights()[100:200]),
		RangeMissing: ofRange(206, "", weights()[100:200]),
		RangeShifted: ofRange(206, "bytes 100-199/1060921", append([]byte("UUUUU"), weights()[100:195]...)),
		Range416:     ofRange(416, "bytes */0", nil),
		NewETag: func(s spoilt) {
			resp, body := s.good(s.large, "Range: bytes=100-199", "If-Range: "+s.etag)
			s.want(resp.StatusCode == 200 && bytes.Equal(body, weights()) && resp.Header.Get("ETag") != s.etag, resp.Status, resp.Header)
		},
		NoETag: func(s spoilt) { resp, _ := s.good(s.large); s.want(resp.Header.Get("ETag") == "", resp.Header) },
		Expired: func(s spoilt) {
			resp, body := s.good(s.large)
			s.want(resp.StatusCode == 403 && bytes.Contains(body, []byte("expired")), resp)
		},

		Limit: limited("RateLimit", `;r=0;t=5`), LimitSeconds: limited("Retry-After", "5"), LimitDate: limited("Retry-After", "GMT"), LimitBare: limited("", ""),
		Status500: ends(500), Status502: ends(502), Status503: ends(503), Status504: ends(504), Status408: ends(408),

		Loop: func(s spoilt) {
			resp := s.status(307)
			s.want(strings.HasSuffix(s.api("/tree/main"), resp.Header.Get("Location")), resp.Header)
		},
		OtherHost: astray(""), PrivateAddress: astray("http://10.255.255.1:9"),

		NoCommit: func(s spoilt) {
			resp, _ := s.good(s.h.Endpoint() + "/org/name/resolve/main/config.json")
			s.want(resp.StatusCode == 307 && resp.Header.Get("X-Repo-Commit") == "", resp.Header)
		},
		OtherCommit: func(s spoilt) {
			resp, _ := s.good(s.h.Endpoint() + "/org/name/resolve/main/config.json")
			s.want(resp.StatusCode == 307 && resp.Header.Get("X-Repo-Commit") != s.commit, resp.Header)
		},
		XetRedacted: func(s spoilt) {
			_, body := s.good(s.api("/tree/main?cursor=at-2"))
			s.want(strings.Contains(string(body), `"xetHash":"`+strings.Repeat("*", 64)), string(body))
		},
		TreeCut: func(s spoilt) {
			resp, _ := s.good(s.api("/tree/main"))
			s.want(resp.Header.Get("Link") == "", resp.Header)
		},
		TreeGap: func(s spoilt) {
			get(s.t, 200, "GET", s.api("/tree/main"))
			resp, _ := s.good(s.api("/tree/main?cursor=at-2"))
			s.want(resp.StatusCode == 404, resp)
		},
		TreeRepeated: func(s spoilt) {
			resp, _ := s.good(s.api("/tree/main?cursor=at-2"))
			s.want(resp.Header.Get("Link") == "<"+s.api("/tree/main?cursor=at-2")+`>; rel="next"`, resp.Header)
		},
		TreeEndless: func(s spoilt) {
			url, seen := s.api("/tree/main"), map[string]bool{}
			for range 10 {
				resp, body := s.good(url)
				for _, e := range parseJSON[[]entry](s.t, body) {
					s.want(!seen[e.Path], e.Path, "twice")
					seen[e.Path] = true
				}
				url, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
			}
			s.want(len(seen) > 7000 && url != "", len(seen))
		},
		Size: func(s spoilt) {
			_, body := s.good(s.api("/tree/main?cursor=at-2"))
			e := parseJSON[[]entry](s.t, body)
			s.want(e[1].Size == 5 && e[1].LFS.Size == 5, string(body))
		},
		HostileName: func(s spoilt) { s.want(slices.Contains(entries(s), "../outside.txt")) },
		CaseName:    func(s spoilt) { s.want(slices.Contains(entries(s), "CONFIG.json")) },
		Moved: func(s spoilt) {
			s.good(s.api(""))
			s.want(s.repo.Head("main") != s.commit, "the branch is where it was")
			get(s.t, 200, "GET", s.api("/tree/"+s.commit))
			s.h.ClearFaults()
			s.want(s.repo.Head("main") == s.commit, "the branch is not back")
		},
		Renamed: func(s spoilt) {
			s.good(s.api(""))
			get(s.t, 307, "GET", s.api(""))
			get(s.t, 200, "GET", s.api("-renamed"))
			s.h.ClearFaults()
			get(s.t, 200, "GET", s.api(""))
			get(s.t, 401, "GET", s.api("-renamed"))
		},
		Deleted: func(s spoilt) {
			s.good(s.api(""))
			get(s.t, 401, "GET", s.api(""))
			s.h.ClearFaults()
			get(s.t, 200, "GET", s.api(""))
		},
		Gated: func(s spoilt) {
			s.good(s.api("/tree/main"))
			get(s.t, 401, "GET", s.h.Endpoint()+"/org/name/resolve/main/config.json")
			s.h.ClearFaults()
			get(s.t, 307, "GET", s.h.Endpoint()+"/org/name/resolve/main/config.json")
		},
		DayAhead: date(24 * time.Hour), DayBehind: date(-24 * time.Hour),
		Landed: func(s spoilt) {
			s.h.Token("t", Token{User: "org", Write: true})
			lines := `{"key":"header","value":{"summary":"s","parentCommit":"` + s.commit + `"}}` + "\n" + `{"key":"file","value":{"path":"new.txt","content":"bmV3","encoding":"base64"}}` + "\n"
			r, err := http.NewRequest("POST", s.api("/commit/main"), strings.NewReader(lines))
			if err != nil {
				s.t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer t")
			resp, err := client(s.t).Do(r)
			if err != nil {
				s.t.Fatal(err)
			}
			resp.Body.Close()
			files, err := s.repo.Files("main")
			s.want(resp.StatusCode == 504 && err == nil && string(files["new.txt"]) == "new", resp.Status, err)
		},
	}
}

func TestFaultsDoWhatTheySay(t *testing.T) {
	all := checks()
	for _, kind := range Kinds() {
		if kind == PlainHTTP {
			continue // TestRedirectToPlainHTTP
		}
		t.Run(string(kind), func(t *testing.T) {
			check := all[kind]
			if check == nil {
				t.Fatal("no test says what it does")
			}
			h := New(t, Options{})
			repo := h.Repo("models", "org/name")
			commit := repo.Commit("main", model())
			resp, _ := get(t, 302, "GET", h.Endpoint()+"/org/name/resolve/main/model.safetensors")
			h.ResetRequests()
			h.Fault(Fault{Kind: kind, At: 1000, N: 5, Wait: 50 * time.Millisecond})
			check(spoilt{t: t, h: h, repo: repo, commit: commit, large: resp.Header.Get("Location"), etag: resp.Header.Get("ETag")})
			named := slices.ContainsFunc(h.Requests(), func(r Request) bool { return slices.Contains(r.Faults, kind) })
			if !named {
				t.Error("the journal does not tell of it")
			}
		})
	}
}

func TestRedirectToPlainHTTP(t *testing.T) {
	h := New(t, Options{TLS: true})
	h.Repo("models", "org/name").Commit("main", model())
	h.Fault(Fault{Kind: PlainHTTP, Status: 301})
	c := client(t)
	c.Transport.(*http.Transport).TLSClientConfig = tlsConfig(h)
	resp, err := c.Get(h.Endpoint() + "/api/models/org/name")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	to := resp.Header.Get("Location")
	if resp.StatusCode != 301 || !strings.HasPrefix(to, "http://localhost:") {
		t.Fatal(resp.Status, to)
	}
	get(t, 401, "GET", to, "Authorization: Bearer not-for-here")
	if all := h.Requests(); len(all) != 2 || all[1].Origin != "plain" || all[1].Token != "not-for-here" {
		t.Errorf("%+v", all)
	}
}

// TestPlans counts: which requests are hit, and how often.
func TestPlans(t *testing.T) {
	h := New(t, Options{})
	h.Repo("models", "org/name").Commit("main", model())
	statuses := func(path string, n int) (list []int) {
		for range n {
			resp, _, err := call(t, "HEAD", h.Endpoint()+path)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, resp.StatusCode)
		}
		return list
	}
	config, readme := "/org/name/resolve/main/config.json", "/org/name/resolve/main/README.md"
	h.Fault(Fault{Kind: Status500, Route: "resolve", Path: "*.json", Skip: 1, Times: 2})
	if got := statuses(readme, 2); !slices.Equal(got, []int{307, 307}) {
		t.Error(got)
	}
	if got := statuses(config, 5); !slices.Equal(got, []int{307, 500, 500, 307, 307}) {
		t.Error(got)
	}
	h.ClearFaults()
	h.Fault(Fault{Kind: Status503, Route: "any", Method: "HEAD", Times: -1})
	if got := statuses("/api/models/org/name/refs", 3); !slices.Equal(got, []int{503, 503, 503}) {
		t.Error(got)
	}
	get(t, 200, "GET", h.Endpoint()+"/api/models/org/name/refs")
	defer func() {
		if recover() == nil {
			t.Error("a fault of no kind was planned")
		}
	}()
	h.Fault(Fault{Kind: "no such thing"})
}

// TestCloseEndsStalls: nothing that a test leaves behind holds it up.
func TestCloseEndsStalls(t *testing.T) {
	h := New(t, Options{})
	h.Repo("models", "org/name").Commit("main", model())
	h.Fault(Fault{Kind: Silence, Route: "info", Wait: time.Hour})
	done := make(chan error, 1)
	go func() {
		_, err := client(t).Get(h.Endpoint() + "/api/models/org/name")
		done <- err
	}()
	for h.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	h.Close()
	if err := <-done; err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestRandomFaultsAreOfTheirSeed(t *testing.T) {
	kinds := map[Kind]bool{}
	for seed := range uint64(500) {
		a, b := RandomFaults(seed), RandomFaults(seed)
		if len(a) < 1 || len(a) > 6 || !slices.Equal(a, b) {
			t.Fatalf("seed %d: %v, %v", seed, a, b)
		}
		for _, f := range a {
			kinds[f.Kind] = true
			if !slices.Contains(f.Kind.Routes(), f.Route) {
				t.Errorf("seed %d: %v makes no sense", seed, f)
			}
		}
	}
	if want := len(Kinds()) - 3; len(kinds) != want {
		t.Errorf("500 plans have %d kinds of faults, want %d", len(kinds), want)
	}
}
