package validate

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

func encoder(t testing.TB) *prompt.Encoder {
	t.Helper()
	e, err := prompt.Load(oracle.TinyStories(t))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestChunksDoNotOverlap cuts a text and puts it together again.
func TestChunksDoNotOverlap(t *testing.T) {
	e := encoder(t)
	text := strings.Repeat("Once upon a time there was a small dog. ", 60)
	whole, err := e.Tokenizer.Encode(text+text, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cut(e, []prompt.Document{{Text: text}, {Text: text}}, Cut{Context: 32, Chunks: 1000, Half: true})
	if err != nil {
		t.Fatal(err)
	}
	var again []int32
	for _, s := range got {
		if len(s.IDs) != 32 || s.From != 15 || s.To != 31 || len(s.Positions()) != 16 || s.Label(30) != int(s.IDs[31]) || s.Label(31) != -1 {
			t.Fatalf("%+v", s)
		}
		again = append(again, s.IDs...)
	}
	if !slices.Equal(again, whole[:len(again)]) || len(whole)-len(again) >= 32 {
		t.Errorf("%d of %d ids, in other order", len(again), len(whole))
	}
	all, err := cut(e, []prompt.Document{{Text: text}}, Cut{Context: 32, Chunks: 2})
	if err != nil || len(all) != 2 || all[0].From != 0 || all[0].To != 31 {
		t.Errorf("%v %+v", err, all)
	}
	if _, err := cut(e, []prompt.Document{{Text: "Too short."}}, Cut{Context: 32, Chunks: 2}); err == nil || !strings.Contains(err.Error(), "not enough for one chunk of 32") {
		t.Error(err)
	}
	if _, err := cut(e, []prompt.Document{{Text: ""}}, Cut{}); err == nil {
		t.Error("an empty prompt has tokens")
	}
}

func TestLongPromptsAreJudgedAtTheirEnd(t *testing.T) {
	e := encoder(t)
	got, err := cut(e, []prompt.Document{{Text: strings.Repeat("The dog ran. ", 400)}}, Cut{})
	if err != nil || got[0].To != len(got[0].IDs) || got[0].To-got[0].From != maxJudged {
		t.Errorf("%v: from %d to %d of %d", err, got[0].From, got[0].To, len(got[0].IDs))
	}
}

func TestReadCorpus(t *testing.T) {
	e := encoder(t)
	dir := t.TempDir()
	read := func(name, text string, c spec.Corpus) ([]prompt.Document, error) {
		c.Path = filepath.Join(dir, name)
		if err := os.WriteFile(c.Path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readCorpus(e, c, step.Input{Dir: c.Path, Digest: cache.SumBytes([]byte(text))})
	}
	some := spec.Corpus{Context: 8, Chunks: 1}
	if d, err := read("a.txt", "one\r\ntwo\n", some); err != nil || d[0].Text != "one\ntwo\n" {
		t.Errorf("%v %v", d, err)
	}
	if d, err := read("a.txt", strings.Repeat("a line of text\n", 100), some); err != nil || len(d[0].Text) > 8*32 || strings.HasSuffix(d[0].Text, "te") {
		t.Errorf("%d bytes of a long file were taken: %v", len(d[0].Text), err)
	}
	if d, err := read("a.jsonl", "{\"text\":\"one\"}\n\n{\"text\":\"two\"}\n", some); err != nil || len(d) != 2 || d[1].Text != "two\n\n" {
		t.Errorf("%v %v", d, err)
	}
	some.Chat = true
	if d, err := read("a.jsonl", `{"messages":[{"role":"user","content":"Hello"}]}`, some); err != nil || !strings.Contains(d[0].Text, "<|im_start|>user\nHello") || d[0].Special {
		t.Errorf("%v %v", d, err)
	}
	some.Chat = false
	for text, want := range map[string]string{
		`{"messages":[{"role":"user","content":"Hello"}]}`: "a.jsonl:1: it has messages, which need chat: true",
		"{\"text\":\"a\"}\n{}":                             `a.jsonl:2: it has neither "text" nor "messages"`,
		"not json":                                         "a.jsonl:1: it is not JSON",
		"{\"text\":\"\xff\"}":                              "is not UTF-8",
	} {
		if _, err := read("a.jsonl", text, some); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := readCorpus(e, spec.Corpus{Path: "a.txt", Context: 8, Chunks: 1}, step.Input{Dir: filepath.Join(dir, "a.txt")}); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Error(err)
	}
}

func TestLikeliest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		logits := make([]float32, 1+rng.IntN(200))
		order := make([]int32, len(logits))
		for i := range logits {
			logits[i], order[i] = float32(rng.IntN(30)), int32(i)
		}
		sort.SliceStable(order, func(i, j int) bool { return logits[order[i]] > logits[order[j]] })
		got := likeliest(logits)
		for i, c := range got {
			if c.Token != order[i] {
				t.Fatalf("place %d is %d, want %d", i, c.Token, order[i])
			}
		}
		if len(got) != min(ranked, len(logits)) {
			t.Fatalf("%d of %d", len(got), len(logits))
		}
	}
	if g := gap([]Candidate{{5, 3}, {2, 1}}, 2); g != 2 {
		t.Error(g)
	}
	if g := gap([]Candidate{{5, 3}, {2, 1}}, 9); g != 2 {
		t.Error("a token that was not kept is at least as far as the last:", g)
	}
}

func TestLayerError(t *testing.T) {
	a, b := []float32{3, 4, 0, 0, 1, 0}, []float32{3, 4, 0, 0, 1, 0.5}
	if e := layerError(a, b, 2); e != 0.5 {
		t.Error(e)
	}
	b[0] = float32(math.NaN())
	if e := layerError(a, b, 2); !math.IsNaN(e) {
		t.Error(e)
	}
}

func TestStrangeTensors(t *testing.T) {
	fine := NewTensor("fine", 0.1, "affine", 4)
	odd := NewTensor("odd", 1, "affine", 4)
	if fine.Odd || !odd.Odd || !NewTensor("nan", math.NaN(), "", 0).Odd || NewTensor("cast", 0.002, "", 0).Odd {
		t.Error("limits")
	}
	all := slices.Repeat([]Tensor{fine}, 10)
	if what := Summarize(all).strange(); what != "" {
		t.Error(what)
	}
	if what := Summarize(append(slices.Clone(all), odd)).strange(); !strings.Contains(what, "odd is not what rounding makes") {
		t.Error(what)
	}
	if what := Summarize(slices.Repeat([]Tensor{odd, fine}, 10)).strange(); what != "" {
		t.Error("weights that were changed on purpose:", what)
	}
}

func FuzzCorpusLine(f *testing.F) {
	f.Add([]byte(`{"text":"a"}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}]}`))
	e := encoder(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		d, err := lineDocument(e, spec.Corpus{Chat: true}, line)
		if err == nil && !d.Special && d.Text == "" {
			t.Error("an empty document")
		}
	})
}
