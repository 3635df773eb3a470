package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// encodeScript reads [texts, lists of ids] and prints by Hugging Face, for each text, [ids, ids with special tokens, text again, text again without special
// tokens], and for each list, [text, text without special tokens].
const encodeScript = `
import json, sys
from tokenizers import Tokenizer
t = Tokenizer.from_file(sys.argv[1])
t.no_truncation(); t.no_padding()
texts, lists = json.load(open(sys.argv[2], encoding="utf-8"))
out = []
for s in texts:
    plain, special = t.encode(s, add_special_tokens=False).ids, t.encode(s).ids
    out.append([plain, special, t.decode(special, skip_special_tokens=False), t.decode(special, skip_special_tokens=True)])
decoded = [[t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)] for ids in lists]
json.dump([out, decoded], sys.stdout)
`

// wanted is what the oracle says about one text.
type wanted struct {
	plain, special []int32
	text, skipped  string
}

func (w *wanted) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&w.plain, &w.special, &w.text, &w.skipped})
}

// compare runs texts, and random ids, through both tokenizers and reports the first differences.
func compare(t *testing.T, file string, texts []string) {
	t.Helper()
	tok, err := Load(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	lists := randomIDs(tok)
	data, err := json.Marshal([]any{texts, lists})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "texts.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var want []wanted
	var decoded [][2]string
	if err := json.Unmarshal(oracle.Run(t, encodeScript, file, path), &[]any{&want, &decoded}); err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i, text := range texts {
		if !same(t, tok, text, want[i]) {
			if wrong++; wrong >= 10 {
				t.Fatal("and more")
			}
		}
	}
	for i, ids := range lists {
		for skip, want := range decoded[i] {
			if got := tok.Decode(ids, skip == 1); got != want {
				t.Errorf("decode %v, skipping special tokens: %v\n got %q\nwant %q", ids, skip == 1, got, want)
			}
		}
		if got := stream(t, tok, ids); got != decoded[i][0] {
			t.Errorf("stream %v\n got %q\nwant %q", ids, got, decoded[i][0])
		}
	}
	t.Logf("%d of %d texts equal, and %d lists of ids", len(texts)-wrong, len(texts), len(lists))
}

// randomIDs are lists of ids that no text would give: half of them of the ids under 300, where byte tokens are.
func randomIDs(tok *Tokenizer) [][]int32 {
	rng := rand.New(rand.NewPCG(9, 10))
	lists := [][]int32{{}, {int32(tok.VocabSize())}}
	for i := range 400 {
		ids := make([]int32, 1+rng.IntN(14))
		for k := range ids {
			if ids[k] = rng.Int32N(int32(tok.VocabSize())); i%2 == 0 {
				ids[k] = rng.Int32N(min(300, int32(tok.VocabSize())))
			}
		}
		lists = append(lists, ids)
	}
	return lists
}

func same(t *testing.T, tok *Tokenizer, text string, want wanted) bool {
	t.Helper()
	plain, err := tok.Encode(text, false)
	if err != nil {
		t.Errorf("%.200q: %v", text, err)
		return false
	}
	special, err := tok.Encode(text, true)
	if err != nil {
		t.Errorf("%.200q: %v", text, err)
		return false
	}
	ok := true
	check := func(what string, got, want any) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if string(g) != string(w) {
			t.Errorf("%s of %.200q\n got %.300s\nwant %.300s", what, text, g, w)
			ok = false
		}
	}
	check("ids", plain, want.plain)
	check("ids with special tokens", special, want.special)
	check("text", tok.Decode(want.special, false), want.text)
	check("text without special tokens", tok.Decode(want.special, true), want.skipped)
	check("streamed text", stream(t, tok, want.special), want.text)
	return ok
}

// stream decodes id by id and checks that no part ends inside a character.
func stream(t testing.TB, tok *Tokenizer, ids []int32) string {
	s := tok.Stream(false)
	var b strings.Builder
	for _, id := range ids {
		part := s.Next(id)
		if strings.ToValidUTF8(part, "?") != part {
			t.Errorf("stream gave half a character: %q", part)
		}
		b.WriteString(part)
	}
	return b.String() + s.Flush()
}

// oracleTexts is the list that every tokenizer is compared on.
func oracleTexts(specials []string) []string {
	rng := rand.New(rand.NewPCG(1, 2))
	texts := append(handMade(), oddTexts()...)
	for range 6500 {
		texts = append(texts, randomText(rng))
	}
	for range 1500 {
		texts = append(texts, randomCode(rng))
	}
	for range 1500 {
		texts = append(texts, randomMix(rng, specials))
	}
	for range 3 {
		texts = append(texts, largeText(rng, 100<<10))
	}
	return texts
}

func TestOracleSmolLM2(t *testing.T) {
	compare(t, filepath.Join(oracle.SmolLM2(t), "tokenizer.json"), oracleTexts([]string{"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>"}))
}

func TestOracleTinyStories(t *testing.T) {
	compare(t, filepath.Join(oracle.TinyStories(t), "tokenizer.json"), oracleTexts([]string{"<|im_start|>", "<|im_end|>", "<|endoftext|>"}))
}

// modelFile is the tokenizer.json of a real model, which scripts/oracle_tokenizers.sh fetches.
func modelFile(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("MLXBUILD_ORACLE_TOKENIZERS")
	path := filepath.Join(dir, name, "tokenizer.json")
	if _, err := os.Stat(path); dir == "" || err != nil {
		oracle.Missing(t, "MLXBUILD_ORACLE_TOKENIZERS names no folder with "+name+"/tokenizer.json (scripts/oracle_tokenizers.sh makes one)")
	}
	return path
}

// TestOracleModels compares the tokenizers of real models.
func TestOracleModels(t *testing.T) {
	specials := map[string][]string{
		"llama3_1": {"<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|python_tag|>"},
		"llama2":   {"<s>", "</s>", "<unk>"},
		"qwen3":    {"<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>"},
		"gemma3":   {"<bos>", "<start_of_turn>", "<end_of_turn>", "<unused42>", "\n\n\n", "\t\t", "</table>"},
	}
	for name, list := range specials {
		t.Run(name, func(t *testing.T) {
			compare(t, modelFile(t, name), oracleTexts(list))
		})
	}
}
