package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The plain way to encode, which the fast one has to equal: words as Go's regexp finds them, every merge by looking at every pair of the whole word, and nothing
// remembered or cut.

// scannedPatterns are the patterns that have a scanner, as real files write them.
func scannedPatterns() []string {
	const contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	var all []string
	for _, digits := range []string{`\p{N}`, `\p{N}{1,2}`, `\p{N}{1,3}`} {
		number := strings.NewReplacer(`\p{N}{1,3}`, digits)
		all = append(all,
			number.Replace(contractions+`|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`),
			number.Replace(`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`),
			number.Replace(o200kPattern),
			number.Replace(strings.ReplaceAll(o200kPattern, contractions+"?", "")))
	}
	return append(all, gpt2Pattern)
}

// plainScanner matches a pattern by Go's regexp: the words of Oniguruma that it has not are spelled out, and the end that looks ahead is done by hand.
func plainScanner(t testing.TB, pattern string) func(s string, i int) int {
	head, ok := strings.CutSuffix(pattern, "|"+spaceTail)
	if !ok {
		t.Fatalf("pattern %q has another end", pattern)
	}
	const contractions = `(?:'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`
	head = strings.NewReplacer(`(?i:'s|'t|'re|'ve|'m|'ll|'d)`, contractions, `'(?i:[sdmt]|ll|ve|re)`, contractions, `?+`, `?`, `++`, `+`).Replace(head)
	translated, err := translate(head)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`^(?:` + translated + `)`)
	return func(s string, i int) int {
		if at := re.FindStringIndex(s[i:]); at != nil {
			return i + at[1]
		}
		end, last := i, i
		for j, r := range s[i:] {
			if !isSpace(r) {
				break
			}
			last, end = i+j, i+j+len(string(r))
		}
		if end < len(s) && last > i {
			return last
		}
		return end
	}
}

func checkScanners(t *testing.T, plain map[string]func(string, int) int, text string) {
	for pattern, want := range plain {
		scan, ok := scannerOf(pattern)
		if !ok {
			t.Fatalf("pattern %q has no scanner", pattern)
		}
		for i := 0; i < len(text); {
			end := scan(classTable(), text, i)
			if w := want(text, i); end != w {
				t.Fatalf("pattern %q, from byte %d of %q: the word ends at %d, want %d", pattern, i, text, end, w)
			}
			i = end
		}
	}
}

func plainScanners(t testing.TB) map[string]func(string, int) int {
	plain := map[string]func(string, int) int{}
	for _, p := range scannedPatterns() {
		plain[p] = plainScanner(t, p)
	}
	return plain
}

func TestScanners(t *testing.T) {
	plain := plainScanners(t)
	for _, text := range append(handMade(), oddTexts()...) {
		checkScanners(t, plain, text)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		checkScanners(t, plain, randomText(rng)+randomCode(rng))
	}
}

func FuzzScanners(f *testing.F) {
	plain := plainScanners(f)
	for _, text := range handMade() {
		if len(text) < 200 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) { checkScanners(t, plain, strings.ToValidUTF8(text, "\uFFFD")) })
}

// plainEncode is Encode without special tokens, the plain way.
func plainEncode(t testing.TB, tok *Tokenizer, text string) []int32 {
	t.Helper()
	e := (&Tokenizer{model: tok.model, normalize: tok.normalize, steps: tok.steps, raw: tok.raw, raws: tok.raws, normals: tok.normals}).encoder()
	e.chain[len(tok.steps)] = func(word string, _ bool) {
		if key := word; tok.model.ignoreMerges {
			if tok.raw {
				key = byteLevel(word)
			}
			if id, ok := tok.model.ids[key]; ok {
				e.out = append(e.out, id)
				return
			}
		}
		s, err := tok.model.symbols(nil, word, tok.raw)
		if err != nil {
			e.err = err
			return
		}
		e.out = append(e.out, tok.model.mergeShort(s, &workspace{})...)
	}
	if err := e.encode(text); err != nil {
		t.Fatal(err)
	}
	return e.out
}

// checkPlain encodes a text twice, so that the second time finds in the cache what the first one left there.
func checkPlain(t *testing.T, name string, tok *Tokenizer, text string) {
	t.Helper()
	want := plainEncode(t, tok, text)
	for range 2 {
		if got, err := tok.Encode(text, false); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%s: %.500q: %v\n got %v\nwant %v", name, text, err, got, want)
		}
	}
}

// plainTokenizers are those of the repository and small ones with what may go wrong where words are cut.
func plainTokenizers(t testing.TB) map[string]*Tokenizer {
	toks := map[string]*Tokenizer{"bytes": parseFile(t, "testdata/bytes.json"), "pieces": parseFile(t, "testdata/pieces.json")}
	tiny, err := Load(oracle.TinyStories(t))
	if err != nil {
		t.Fatal(err)
	}
	toks["tiny-stories"] = tiny
	return toks
}

func TestPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	texts := append(handMade(), oddTexts()...)
	for range 500 {
		texts = append(texts, randomText(rng), randomCode(rng), randomMix(rng, []string{"<s>", "<|im_end|>", "<unk>"}))
	}
	for name, tok := range plainTokenizers(t) {
		for _, text := range texts {
			checkPlain(t, name, tok, text)
		}
	}
}

func FuzzPlain(f *testing.F) {
	toks := plainTokenizers(f)
	for _, text := range handMade() {
		if len(text) < 200 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, tok := range toks {
			checkPlain(t, name, tok, strings.ToValidUTF8(text, "\uFFFD"))
		}
	})
}

// randomModel is a tokenizer whose words are whole texts and whose merges are anything that a file may hold: tokens of several characters, of byte tokens and unknown
// tokens, ranks in any order, and tokens that no merge makes.
func randomModel(rng *rand.Rand) []byte {
	vocab := []string{"a", "b", "é", "▁", "中", "<unk>", "<0x0A>", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<", ">"}
	more := ""
	if rng.IntN(2) == 0 {
		vocab = []string{"a", "b", "<unk>", "Ã", "©", "ä", "¸", "Ń", "Ġ", "Ċ"}
		more = `, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}`
	}
	vocab = vocab[rng.IntN(3):]
	known := map[string]bool{}
	for _, v := range vocab {
		known[v] = true
	}
	add := func(token string) {
		if !known[token] {
			known[token] = true
			vocab = append(vocab, token)
		}
	}
	var merges []string
	for range rng.IntN(14) {
		a, b := vocab[rng.IntN(len(vocab))], vocab[rng.IntN(len(vocab))]
		add(a + b)
		merges = append(merges, fmt.Sprintf("[%q, %q]", a, b))
	}
	for range rng.IntN(3) {
		add(vocab[rng.IntN(len(vocab))] + vocab[rng.IntN(len(vocab))])
	}
	rng.Shuffle(len(merges), func(i, k int) { merges[i], merges[k] = merges[k], merges[i] })
	var ids []string
	for i, v := range vocab {
		ids = append(ids, fmt.Sprintf("%q: %d", v, i))
	}
	flag := func() bool { return rng.IntN(2) == 0 }
	return fmt.Appendf(nil, `{"model": {"type": "BPE", "vocab": {%s}, "merges": [%s], "unk_token": "<unk>", "fuse_unk": %v, "byte_fallback": %v, "ignore_merges": %v}%s}`,
		strings.Join(ids, ", "), strings.Join(merges, ", "), flag(), flag(), flag(), more)
}

// TestPlainModels holds that words are cut only where no merge reaches over, whatever the merges.
func TestPlainModels(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	chars := []string{"a", "a", "b", "b", "é", "▁", "▁", "中", "😀", "\n", "<", ">", "x", "\u0301"}
	for range 1500 {
		data := randomModel(rng)
		tok, err := Parse(data)
		if err != nil {
			if !strings.Contains(err.Error(), "not both are in the vocabulary") {
				t.Fatalf("%s: %v", data, err)
			}
			continue
		}
		if tok.model.unkID < 0 {
			continue
		}
		for range 40 {
			var b strings.Builder
			for range rng.IntN([2]int{4, 60}[rng.IntN(2)]) { // whole words, and such as are cut into the same
				b.WriteString(chars[rng.IntN(len(chars))])
			}
			checkPlain(t, string(data), tok, b.String())
		}
	}
}

// TestPartsAndWords holds that the cache keeps a word that is a token of the vocabulary apart from the same letters inside a long word, where only merges count.
func TestPartsAndWords(t *testing.T) {
	long := strings.Repeat("xab", cacheWord)
	for _, texts := range [][]string{{"ab", long, "ab"}, {long, "ab", long}} {
		tok, err := Parse([]byte(`{"model": {"type": "BPE", "vocab": {"x": 0, "a": 1, "b": 2, "ab": 3, "bb": 4, "abb": 5}, "merges": [["b", "b"], ["a", "bb"]], "ignore_merges": true}}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			checkPlain(t, "ignore_merges", tok, text)
		}
	}
}

// TestCacheSize holds that a word fills a cache line, and that a cache has one size whatever it meets.
func TestCacheSize(t *testing.T) {
	var c wordCache
	for i := range 100_000 {
		c.put(fmt.Sprint("word ", i), true, []int32{int32(i)})
	}
	if size := len(c.pairs) * int(reflect.TypeFor[[2]cachedWord]().Size()); size != 1<<20 || reflect.TypeFor[cachedWord]().Size() != 64 {
		t.Errorf("the cache has %d bytes", size)
	}
	if ids, ok := c.get("word 99999", true); !ok || len(ids) != 1 || ids[0] != 99999 {
		t.Errorf("the newest word is %v, %v", ids, ok)
	}
	if ids, ok := c.get("word 99999", false); ok {
		t.Errorf("it is %v as a part, too", ids)
	}
}

func TestMergeTableBounds(t *testing.T) {
	if _, err := newMergeTable(1<<20, 3<<20); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("a million merges of three million tokens: %v", err)
	}
	const top = maxVocab - 1
	table, err := newMergeTable(2, maxVocab)
	if err != nil {
		t.Fatal(err)
	}
	table.set(top, top, 1, 7)
	table.set(0, 0, 0, 8)
	if a, b, c := table.rank(top, top), table.rank(0, 0), table.rank(top, 0); a != 1 || b != 0 || c != noMerge || table.made[a] != 7 || table.made[b] != 8 {
		t.Errorf("ranks %d, %d and %d", a, b, c)
	}
}

func TestDigits(t *testing.T) {
	for text, want := range map[string][2]string{
		"a12b3": {"a|12|b|3", "a|1|2|b|3"}, "7": {"7", "7"}, "x": {"x", "x"}, "٣½ Ⅷ一": {"٣½| |Ⅷ|一", "٣|½| |Ⅷ|一"}, "é10€": {"é|10|€", "é|1|0|€"},
	} {
		for i, want := range want {
			var got []string
			digitsStep{single: i == 1}.split(text, true, func(piece string, first bool) {
				if first != (len(got) == 0) {
					t.Errorf("%q: piece %d is first: %v", text, len(got), first)
				}
				got = append(got, piece)
			})
			if strings.Join(got, "|") != want {
				t.Errorf("%q in %q, want %s", text, got, want)
			}
		}
	}
}

// TestPlainLarge is the same with the tokenizers of real models, on texts that fill the caches.
func TestPlainLarge(t *testing.T) {
	lines := strings.SplitAfter(largeText(rand.New(rand.NewPCG(17, 18)), 300<<10), "\n")
	files := map[string]func(testing.TB) string{"SmolLM2": func(t testing.TB) string { return filepath.Join(oracle.SmolLM2(t), "tokenizer.json") }}
	for _, name := range []string{"llama3_1", "llama2", "qwen3", "gemma3"} {
		files[name] = func(t testing.TB) string { return modelFile(t, name) }
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			tok, err := Load(filepath.Dir(file(t)))
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(lines, 50) {
				checkPlain(t, name, tok, strings.Join(part, ""))
			}
		})
	}
}
