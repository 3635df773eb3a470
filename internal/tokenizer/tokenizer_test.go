package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// golden is what testdata/golden.py recorded of Hugging Face.
func golden(t testing.TB) map[string][][]json.RawMessage {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var out map[string][][]json.RawMessage
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func parseFile(t testing.TB, path string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func read[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGolden(t *testing.T) {
	for path, cases := range golden(t) {
		tok := parseFile(t, filepath.Join("testdata", path))
		for _, c := range cases {
			text, want := read[string](t, c[0]), read[[]int32](t, c[1])
			got, err := tok.Encode(text, true)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %q: %v, %v; want %v", path, text, got, err, want)
			}
			if got, want := tok.Decode(want, false), read[string](t, c[2]); got != want {
				t.Errorf("%s: decode %q: %q", path, want, got)
			}
			if got, want := tok.Decode(want, true), read[string](t, c[3]); got != want {
				t.Errorf("%s: decode %q without special tokens: %q", path, want, got)
			}
		}
	}
}

func TestTinyStories(t *testing.T) {
	tok, err := Load(oracle.TinyStories(t))
	if err != nil {
		t.Fatal(err)
	}
	id, ok := tok.ID("<|im_end|>")
	if !ok || id != 2 || !tok.Special(id) || tok.Special(3) || tok.Special(-1) || tok.Special(1<<30) {
		t.Errorf("<|im_end|> is %d, %v", id, ok)
	}
	if id, ok := tok.ID("Ġthe"); !ok || tok.Special(id) {
		t.Errorf("Ġthe is %d, %v", id, ok)
	}
	if _, ok := tok.ID("no such token"); ok {
		t.Error("an unknown token has an id")
	}
	if tok.VocabSize() != 823 {
		t.Errorf("%d ids", tok.VocabSize())
	}
	if got := tok.Decode([]int32{-1, 1 << 30, 823}, false); got != "" {
		t.Errorf("unknown ids are %q", got)
	}
	if _, err := tok.Encode("a\xffb", false); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("invalid UTF-8: %v", err)
	}
	if ids, err := tok.Encode("", true); err != nil || ids == nil || len(ids) != 0 {
		t.Errorf("empty text: %v, %v", ids, err)
	}
}

// TestStream holds what a terminal sees: whole characters, as soon as they are certain.
func TestStream(t *testing.T) {
	bytes, pieces := parseFile(t, "testdata/bytes.json"), parseFile(t, "testdata/pieces.json")
	b := func(c byte) int32 { id, _ := bytes.ID(string(byteToRune[c])); return id }
	f := func(c byte) int32 { id, _ := pieces.ID(fmt.Sprintf("<0x%02X>", c)); return id }
	p := func(s string) int32 {
		id, ok := pieces.ID(s)
		if !ok {
			t.Fatalf("no token %q", s)
		}
		return id
	}
	cases := []struct {
		name string
		tok  *Tokenizer
		ids  []int32
		want []string // the parts, and what Flush gives
	}{
		{"four bytes", bytes, []int32{b(0xF0), b(0x9F), b(0x98), b(0x80), b('!')}, []string{"", "", "", "😀", "!", ""}},
		{"a character cut off", bytes, []int32{b('a'), b(0xE4), b(0xBD)}, []string{"a", "", "", "\uFFFD"}},
		{"a character broken off", bytes, []int32{b(0xE4), b(0xBD), b('a')}, []string{"", "", "\uFFFDa", ""}},
		{"bytes that begin nothing", bytes, []int32{b(0x80), b(0xFF), b(0xC0), b('a')}, []string{"\uFFFD", "\uFFFD", "\uFFFD", "a", ""}},
		{"a surrogate", bytes, []int32{b(0xED), b(0xA0), b(0x80)}, []string{"", "\uFFFD\uFFFD", "\uFFFD", ""}},
		{"a run of byte tokens", pieces, []int32{p("▁"), f(0xF0), f(0x9F), f(0x98), f(0x80), p("a")}, []string{"", "", "", "", "", "😀a", ""}},
		{"a run that is not UTF-8", pieces, []int32{f(0xF0), f('a'), p("a")}, []string{"", "", "\uFFFD\uFFFDa", ""}},
		{"a run at the end", pieces, []int32{p("a"), f(0xC3), f(0xA9)}, []string{"a", "", "", "é"}},
		{"the first blank", pieces, []int32{p("▁"), p("▁"), p("a")}, []string{"", " ", "a", ""}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := c.tok.Stream(true)
			var got []string
			for _, id := range c.ids {
				got = append(got, s.Next(id))
			}
			got = append(got, s.Flush())
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
			if whole := c.tok.Decode(c.ids, true); whole != strings.Join(got, "") {
				t.Errorf("decode gives %q", whole)
			}
		})
	}
}

// TestHugeWords holds that no text takes more than about linear time.
func TestHugeWords(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	texts := map[string]string{
		"one letter": fill("a"), "two letters": fill("ab"), "letters": fill("thecatsatonthemat"), "blanks": fill(" "), "line ends": fill("\n"), "digits": fill("7"), "emoji": fill("😀"),
		"marks": fill("\u0301"), "marks in turn": fill("\u0301\u0323"), "jamo": fill("\u1161"), "bars": fill("▁"), "special tokens": fill("<s>"), "starts of special tokens": fill("<"), "zero": fill("\x00"),
		"bars in words": fill("a▁"), "punctuation": fill("!"), "blanks and line ends": fill(" \n"), "apostrophes": fill("'"), "composed": fill("é"), "capitals": fill("A中"),
	}
	toks := map[string]*Tokenizer{"bytes": parseFile(t, "testdata/bytes.json"), "pieces": parseFile(t, "testdata/pieces.json"), "NFC": parse(t, `"normalizer": {"type": "NFC"}`),
		"o200k": parse(t, `"pre_tokenizer": {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": `+quoteJSON(o200kPattern)+`}}`)}
	for name, tok := range toks {
		for kind, text := range texts {
			start := time.Now()
			ids, err := tok.Encode(text, false)
			if err != nil {
				t.Fatal(err)
			}
			tok.Decode(ids, false)
			t.Logf("%-8s %-28s %v", name, kind, time.Since(start))
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s: a megabyte of %s took %v", name, kind, took)
			}
		}
	}
}

const o200kPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

func quoteJSON(s string) string {
	q, _ := json.Marshal(s)
	return string(q)
}

// parse makes a tokenizer of a small vocabulary with some more keys.
func parse(t *testing.T, more string) *Tokenizer {
	t.Helper()
	tok, err := Parse(small(more))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func small(more string) []byte {
	if more != "" {
		more = ", " + more
	}
	return []byte(`{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "▁": 3, "<unk>": 4}, "merges": [["a", "b"]], "unk_token": "<unk>"}` + more + `}`)
}

// TestShortAndLongMerges holds that the two ways to merge give the same.
func TestShortAndLongMerges(t *testing.T) {
	tok := parseFile(t, "testdata/bytes.json")
	for _, text := range handMade() {
		for len(text) > 300 {
			text = text[:300]
		}
		s, err := tok.model.symbols(nil, text, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(s) < 2 {
			continue
		}
		var w workspace
		short, long := tok.model.mergeShort(slices.Clone(s), &w), tok.model.mergeLong(slices.Clone(s), &w)
		if !slices.Equal(short, long) {
			t.Errorf("%q: %v and %v", text, short, long)
		}
	}
}

func TestGoroutines(t *testing.T) {
	tok := parseFile(t, "testdata/bytes.json")
	want := map[string][]int32{}
	for _, text := range handMade() {
		want[text], _ = tok.Encode(text, true)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for text, ids := range want {
				if got, err := tok.Encode(text, true); err != nil || !slices.Equal(got, ids) {
					t.Errorf("%q: %v, %v", text, got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestNFCOfLongRuns(t *testing.T) {
	n, err := newNormalizer(map[string]any{"type": "NFC"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := "e" + strings.Repeat("\u0323\u0301", 100)
	if got, want := n(text), "\u1eb9"+strings.Repeat("\u0323", 99)+strings.Repeat("\u0301", 100); got != want {
		t.Errorf("got %+q", got)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("missing: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tokenizer.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("folder: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		next, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = next.Unwrap()
	}
}

// TestParseErrors holds that what is wrong or not supported is an error that names it.
func TestParseErrors(t *testing.T) {
	model := func(fields string) string {
		return `{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, ` + fields + `}}`
	}
	pre := func(p string) string { return string(small(`"pre_tokenizer": ` + p)) }
	many := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for data, want := range map[string]string{
		"":                      "the end of the file",
		"[]":                    `want '{'`,
		"{}":                    "no model",
		`{"model": {}} x`:       "lacks vocab",
		`{"a": 1, }`:            "comma",
		`{"a" 1}`:               `want ':'`,
		`{"a": tru}`:            "want a value",
		`{"a": "x`:              "without an end",
		`{"a": "\x"}`:           "escape",
		`{"a": "\ud800"}`:       "surrogate",
		`{"a": "\ud800\u0041"}`: "surrogate",
		`{"a": "\u12"}`:         "hexadecimal",
		"{\"a\": \"\x01\"}":     "control character",
		"{\"a\": \"\xff\"}":     "UTF-8",
		`{"a": ` + many + `}`:   "levels deep",
		`{"version": "2.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}`:                         "version 2.0",
		`{"model": {"type": "Unigram", "vocab": []}}`:                                                     "Unigram",
		`{"model": {"type": "WordPiece", "vocab": {"a": 0}, "merges": []}}`:                               "WordPiece",
		`{"model": {"type": "BPE", "vocab": {"a": 0}}}`:                                                   "lacks vocab or merges",
		`{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}`:                                    "whole number",
		`{"model": {"type": "BPE", "vocab": {"a": 1.5}, "merges": []}}`:                                   "whole number",
		`{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}`:                            "too large",
		`{"model": {"type": "BPE", "vocab": {"a": 99999999}, "merges": []}}`:                              "more than 4194304",
		`{"model": {}, "model": {}}`:                                                                      "lacks vocab",
		model(`"merges": ["a"]`):                                                                          "two tokens",
		model(`"merges": ["a b c"]`):                                                                      "two tokens",
		model(`"merges": [["a"]]`):                                                                        "1 tokens",
		model(`"merges": ["a x"]`):                                                                        "vocabulary",
		model(`"merges": ["b a"]`):                                                                        `"ba"`,
		model(`"merges": [], "merges": []`):                                                               "twice",
		model(`"merges": [], "dropout": 0.1`):                                                             "dropout",
		model(`"merges": [], "fuse_unk": 1`):                                                              "fuse_unk",
		model(`"merges": [], "unk_token": 1`):                                                             "unk_token",
		pre(`{"type": "Whitespace"}`):                                                                     "pre_tokenizer Whitespace is not supported",
		pre(`{"type": "Sequence"}`):                                                                       "pretokenizers",
		pre(`{"type": "Metaspace", "replacement": "ab"}`):                                                 "one character",
		pre(`{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "x"}`):                           "prepend_scheme",
		pre(`{"type": "ByteLevel", "add_prefix_space": 1}`):                                               "add_prefix_space",
		pre(`{"type": "Split", "pattern": {"Regex": "(?=a)"}, "behavior": "Isolated", "invert": false}`):  `pre_tokenizer Split: with pattern "(?=a)" is not supported`,
		pre(`{"type": "Split", "pattern": {"Regex": "a++"}, "behavior": "Isolated", "invert": false}`):    "a++",
		pre(`{"type": "Split", "pattern": {"Regex": "\\bx"}, "behavior": "Isolated", "invert": false}`):   `\b`,
		pre(`{"type": "Split", "pattern": {"Regex": "a*"}, "behavior": "Isolated", "invert": false}`):     "empty text",
		pre(`{"type": "Split", "pattern": {"Regex": "^a"}, "behavior": "Isolated", "invert": false}`):     "^",
		pre(`{"type": "Split", "pattern": {"Regex": "[a[b]]"}, "behavior": "Isolated", "invert": false}`): "class inside",
		pre(`{"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false}`):     "missing",
		pre(`{"type": "Split", "pattern": {"Regex": "` + strings.Repeat(`\\p{L}+x`, 600) + `"}, "behavior": "Isolated", "invert": false}`): "4096 bytes",
		pre(`{"type": "Split", "pattern": {"Regex": "` + strings.Repeat(`\\p{L}+x`, 400) + `"}, "behavior": "Isolated", "invert": false}`): "too many properties",
		pre(`{"type": "Split", "pattern": {}, "behavior": "Isolated", "invert": false}`):                                                   "pattern",
		pre(`{"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd", "invert": false}`):                                           "Odd",
		string(small(`"normalizer": {"type": "Precompiled"}`)):                                                                             "normalizer Precompiled is not supported",
		string(small(`"normalizer": 3`)):                  "normalizer is not an object",
		string(small(`"decoder": {"type": "WordPiece"}`)): "decoder WordPiece is not supported",
		string(small(`"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]}`)):                          "after a decoder",
		string(small(`"post_processor": {"type": "RobertaProcessing"}`)):                                                                    "post_processor RobertaProcessing is not supported",
		string(small(`"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {}}`)):  `"x"`,
		string(small(`"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}]}`)): "2 times",
		string(small(`"added_tokens": {}`)):                                                            "not a list",
		string(small(`"added_tokens": [3]`)):                                                           "not an object",
		string(small(`"added_tokens": [{"content": 3}]`)):                                              "content",
		string(small(`"added_tokens": [{"content": "` + strings.Repeat("x", maxAddedToken+1) + `"}]`)): "4097 bytes",
		string(small(`"normalizer": {"type": "Lowercase"}, "added_tokens": [{"content": "X", "normalized": true}, {"content": "x", "normalized": true}]`)): "the same as another",
	} {
		if _, err := Parse([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.300s: %v; want %q in it", data, err, want)
		}
	}
}

func TestUnknownTokenIsMissing(t *testing.T) {
	tok, err := Parse([]byte(`{"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.Encode("aa", false); err != nil || len(ids) != 2 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := tok.Encode("ab", false); err == nil || !strings.Contains(err.Error(), "<unk>") {
		t.Errorf("%v", err)
	}
	if _, err := tok.Encode("ab", false); err == nil {
		t.Error("the error is not repeated")
	}
	if ids, err := tok.Encode("aa", false); err != nil || len(ids) != 2 {
		t.Errorf("after an error: %v, %v", ids, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/bytes.json", "testdata/pieces.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(small(""))
	f.Add(small(`"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "[a-c]+"}, "content": "x"}, {"type": "Strip", "strip_left": true}]}`))
	f.Add(small(`"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}, "decoder": {"type": "Metaspace", "replacement": "▁"}, "added_tokens": [{"content": "b", "lstrip": true, "rstrip": true, "single_word": true}]`))
	f.Add(small(`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\p{L}+|[^\\s]"}, "behavior": "MergedWithNext", "invert": true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse(data)
		if err != nil {
			return
		}
		ids, err := tok.Encode("a b  <s> ab\n\u0301 é 12 ▁x", true)
		if err != nil {
			return
		}
		if tok.Decode(ids, false) != streamed(tok, ids) {
			t.Error("stream and decode differ")
		}
	})
}

func streamed(tok *Tokenizer, ids []int32) string {
	s := tok.Stream(false)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.Next(id))
	}
	return b.String() + s.Flush()
}

// FuzzEncodeDecode holds that byte-level text comes back as it was, and that a stream never ends inside a character.
func FuzzEncodeDecode(f *testing.F) {
	tok := parseFile(f, "testdata/bytes.json")
	pieces := parseFile(f, "testdata/pieces.json")
	for _, text := range handMade() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := tok.Encode(text, false)
		if err != nil {
			if strings.ToValidUTF8(text, "") == text {
				t.Error(err)
			}
			return
		}
		if got := tok.Decode(ids, false); got != text {
			t.Errorf("%q comes back as %q", text, got)
		}
		if got := stream(t, tok, ids); got != text {
			t.Errorf("%q is streamed as %q", text, got)
		}
		if ids, err = pieces.Encode(text, false); err != nil {
			t.Error(err)
		}
		stream(t, pieces, ids)
	})
}
