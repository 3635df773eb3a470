package hub

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
)

func TestNextLink(t *testing.T) {
	for text, want := range map[string]string{
		`<https://hub.test/p?cursor=a%2Cb>; rel="next"`:                        "https://hub.test/p?cursor=a%2Cb",
		`<https://hub.test/a,b>; rel=next`:                                     "https://hub.test/a,b",
		`</first>; rel="first", </p>; title="a, b; rel=next"; rel="last next"`: "/p",
		`<a>; rel="prev", <b>;rel=NEXT`:                                        "b",
		`<a>; REL="next"; rel="prev"`:                                          "a",
		`<https://x/xet>; rel="xet-auth", <https://y>; rel="xet-info"`:         "",
		`<a>; rel="nextpage"`:                                                  "",
		`a; rel="next"`:                                                        "",
		`<a; rel="next"`:                                                       "",
		`<a> rel="next"`:                                                       "a",
		``:                                                                     "",
		`<a>; title="\", <b>; rel=next"; rel="next"`:                           "a",
	} {
		got, ok := nextLink([]string{text})
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q", text, got)
		}
	}
	if got, _ := nextLink([]string{`<a>; rel="prev"`, `<b>; rel="next"`}); got != "b" {
		t.Errorf("of two headers: %q", got)
	}
}

func TestContentRange(t *testing.T) {
	if a, b, n, ok := contentRange("bytes 5-9/10"); a != 5 || b != 9 || n != 10 || !ok {
		t.Error(a, b, n, ok)
	}
	for _, text := range []string{"", "bytes", "bytes 5-9", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "bytes -5-9/10", "bytes +5-9/10", "items 5-9/10", "bytes 5-9/10x", "bytes 5 -9/10", "bytes=5-9/10",
		"bytes 5-9/99999999999999999999", "bytes 0x1-9/10", "bytes 5-9/10, bytes 0-1/10"} {
		if _, _, _, ok := contentRange(text); ok {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestWaitAsked(t *testing.T) {
	for _, c := range []struct {
		limit, after, date string
		want               time.Duration
	}{
		{`"resolvers";r=0;t=172`, "", "", 173 * time.Second},
		{`"api";r=5;t=172`, "", "", 0},
		{`"api";r=5;t=172`, "9", "", 9 * time.Second},
		{`"a";r=0;t=10, "b";r=0;t=20, "c";r=3;t=90`, "", "", 21 * time.Second},
		{`"a"; r=0 ; t=10`, "99", "", 11 * time.Second},
		{`"a, ;r=0;t=1";r=0;t=4`, "", "", 5 * time.Second},
		{`nonsense`, "x", "", 0},
		{`"a";r=0;t=-5`, "-3", "", 0},
		{"", "Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30 * time.Second},
		{"", "Wed, 21 Oct 2015 07:28:00 GMT", "", 0},
		{"", "Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 0},
		{"", "99999999999999999", "", maxSeconds * time.Second},
	} {
		h := http.Header{}
		for name, v := range map[string]string{"RateLimit": c.limit, "Retry-After": c.after, "Date": c.date} {
			if v != "" {
				h.Set(name, v)
			}
		}
		if got := waitAsked(h); got != c.want {
			t.Errorf("%v: %s, want %s", h, got, c.want)
		}
	}
}

// What is read from a header is inside it and inside its limits, whatever it says.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{`<https://hub.test/p?cursor=a>; rel="next"`, `"resolvers";r=0;t=172`, "bytes 5-9/10", "Wed, 21 Oct 2015 07:28:30 GMT", "120", `<a>; title="\`, `"a;r=0;t=9223372036854775807`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if link, ok := nextLink([]string{s}); ok && !strings.Contains(s, link) {
			t.Fatalf("%q of %q", link, s)
		}
		if a, b, n, ok := contentRange(s); ok && (a < 0 || a > b || b >= n) {
			t.Fatalf("%q: %d-%d/%d", s, a, b, n)
		}
		h := http.Header{"Ratelimit": {s}, "Retry-After": {s}, "Date": {s}}
		if w := waitAsked(h); w < 0 || w > (maxSeconds+1)*time.Second {
			t.Fatalf("%q: %s", s, w)
		}
		h.Set("X-Request-Id", s)
		if id := requestID(h); strings.ContainsAny(id, "\n\x1b ") || len(id) > 100 {
			t.Fatalf("%q", id)
		}
		if u, err := url.Parse("https://hub.test/a"); err == nil {
			if to, err := u.Parse(s); err == nil {
				c := New(Settings{Endpoint: "https://hub.test"}, Options{})
				if c.mayLead(u, to) == "" && (to.User != nil || to.Scheme != "https" || to.Hostname() == "") {
					t.Fatalf("led to %q", s)
				}
			}
		}
		if text := scrub("https://u:p@h/x?secret " + s); strings.Contains(text, "//u:p@") || strings.Contains(text, "?secret") || strings.ContainsAny(text, "\n\x1b") {
			t.Fatalf("%q", text)
		}
	})
}

const treePage = `[{"type":"directory","oid":"0123456789abcdef0123456789abcdef01234567","size":0,"path":"sub"},
{"type":"file","oid":"0123456789abcdef0123456789abcdef01234567","size":9,"path":"sub/a.json"},
{"type":"file","oid":"0123456789abcdef0123456789abcdef01234567","size":5,"path":"w.safetensors","xetHash":"****","lfs":{"oid":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":5,"pointerSize":130}}]`

func TestTreePage(t *testing.T) {
	read := func(text string) (tree, string) {
		v, err := jsonx.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		tr := tree{paths: map[string]bool{}}
		return tr, tr.readAndAdd(v)
	}
	if _, why := read(treePage); why != "" {
		t.Error(why)
	}
	const oid = `"oid":"0123456789abcdef0123456789abcdef01234567"`
	for text, want := range map[string]string{
		`{}`:                "no JSON array",
		`[1]`:               "no object",
		`[{"type":"file"}]`: "no path",
		`[{"path":""}]`:     "no path",
		`[{"path":"a"}]`:    `of the type ""`,
		`[{"path":"a","type":"directory"},{"path":"a","type":"directory"}]`:                                          `"a" twice`,
		`[{"path":"a","type":"file",` + oid + `}]`:                                                                   "size",
		`[{"path":"a","type":"file","size":-1,` + oid + `}]`:                                                         "size",
		`[{"path":"a","type":"file","size":1.0,` + oid + `}]`:                                                        "size",
		`[{"path":"a","type":"file","size":1e3,` + oid + `}]`:                                                        "size",
		`[{"path":"a","type":"file","size":99999999999999999999,` + oid + `}]`:                                       "size",
		`[{"path":"a","type":"file","size":1,"oid":"0123"}]`:                                                         "oid",
		`[{"path":"a","type":"file","size":1,"OID":"0123456789abcdef0123456789abcdef01234567"}]`:                     "oid",
		`[{"path":"a","type":"file","size":1,` + oid + `,"lfs":{}}]`:                                                 "lfs.oid",
		`[{"path":"a","type":"file","size":1,` + oid + `,"lfs":7}]`:                                                  "lfs",
		`[{"path":"a","type":"file","size":1,` + oid + `,"lfs":{"size":2,"oid":"` + strings.Repeat("a", 64) + `"}}]`: "lfs.size",
	} {
		if _, why := read(text); !strings.Contains(why, want) || why == "" {
			t.Errorf("%s: %q, want %s", text, why, want)
		}
	}
}

func (t *tree) readAndAdd(v any) string {
	entries, why := readPage(v)
	if why == "" {
		why = t.add(entries)
	}
	return why
}

func FuzzTree(f *testing.F) {
	f.Add([]byte(treePage))
	f.Add([]byte(`[{"path":"a","type":"file","size":1,"oid":"0123456789abcdef0123456789abcdef01234567","lfs":null}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := jsonx.Parse(data)
		if err != nil {
			return
		}
		tr := tree{paths: map[string]bool{}}
		if tr.readAndAdd(v) != "" {
			return
		}
		seen := map[string]bool{}
		for _, file := range tr.files {
			if file.check() != nil || seen[file.Path] {
				t.Fatalf("%+v", file)
			}
			seen[file.Path] = true
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"id":"org/name","sha":"` + commit + `","private":false,"gated":"manual","disabled":false,"author":"org","downloads":12,"tags":["license:mit"],"cardData":{"license":["a","b"]}}`))
	f.Add([]byte(`{"id":"org/name","sha":"` + commit + `","gated":true,"cardData":null,"tags":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := jsonx.Parse(data)
		if err != nil {
			return
		}
		if i, why := readInfo(v); why == "" && (i.ID == "" || !commitText().MatchString(i.Commit)) {
			t.Fatalf("%+v", i)
		}
	})
}

func TestReadInfo(t *testing.T) {
	for text, want := range map[string]Info{
		`{"id":"a","sha":"` + commit + `"}`:                                                                         {ID: "a", Commit: commit},
		`{"id":"a","sha":"` + commit + `","gated":"manual","private":true,"disabled":true}`:                         {ID: "a", Commit: commit, Gated: "manual", Private: true, Disabled: true},
		`{"id":"a","sha":"` + commit + `","gated":true,"cardData":{"license":"llama3.2"},"tags":["license:other"]}`: {ID: "a", Commit: commit, Gated: "auto", License: "llama3.2"},
		`{"id":"a","sha":"` + commit + `","cardData":{"license":["mit","bsd"]}}`:                                    {ID: "a", Commit: commit, License: "mit, bsd"},
	} {
		v, err := jsonx.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, why := readInfo(v); !reflect.DeepEqual(got, want) || why != "" {
			t.Errorf("%s: %+v, %s", text, got, why)
		}
	}
	for _, text := range []string{`[]`, `{}`, `{"id":"a"}`, `{"id":"","sha":"` + commit + `"}`, `{"id":"a","sha":"main"}`, `{"ID":"a","sha":"` + commit + `"}`} {
		v, err := jsonx.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, why := readInfo(v); why == "" {
			t.Errorf("%s is accepted", text)
		}
	}
}

// Any record behind a right checksum: what is believed is true to itself, and can be written and read again. Then the slot is cut or flipped anywhere, and not believed at all.
func FuzzJournal(f *testing.F) {
	slot, err := record{Seq: 3, OID: strings.Repeat("a", 64), Size: 1000, ETag: `"e"`, Spans: [][2]int64{{0, 10}, {20, 30}}, Hashed: 5, Sum: strings.Repeat("b", 64)}.encode()
	if err != nil {
		f.Fatal(err)
	}
	good := strings.TrimRight(string(slot[sha256.Size*2:]), " ")
	f.Add(good, 0, byte(0))
	f.Add(good, 70, byte(1))
	f.Add(good, slotSize-1, byte(32))
	f.Add(`{"format":1,"size":10,"spans":[[0,5],[5,6]]}`, 1, byte(1))
	f.Add(`{"format":1,"size":9223372036854775807,"spans":[[-1,9223372036854775807]]}`, 1, byte(1))
	f.Add(`{"format":1,"size":10,"spans":[[0,5]],"hashed":6}`, 1, byte(1))
	f.Fuzz(func(t *testing.T, text string, at int, flip byte) {
		slot := bytes.Repeat([]byte{' '}, slotSize)
		copy(slot[sha256.Size*2:], text)
		sum := sha256.Sum256(slot[sha256.Size*2:])
		hex.Encode(slot, sum[:])
		r, ok := decodeJournal(slot)
		if ok {
			checkRecord(t, r)
		}
		if at < 0 || at >= len(slot) {
			return
		}
		if _, ok := decodeJournal(slot[:at]); ok {
			t.Fatalf("cut at %d it is believed", at)
		}
		slot[at] ^= flip
		if _, ok := decodeJournal(slot); ok && flip != 0 {
			t.Fatalf("a flip at %d is not seen", at)
		}
	})
}

func checkRecord(t *testing.T, r record) {
	if !r.valid() || r.have().total() > r.Size || r.Hashed > r.have().prefix() {
		t.Fatalf("%+v", r)
	}
	again, err := r.encode()
	if err != nil {
		return // more than fits
	}
	if back, ok := decodeSlot(again); !ok || len(back.Spans) != min(len(r.Spans), journalSpans) {
		t.Fatalf("%+v was read as %+v", r, back)
	}
}
