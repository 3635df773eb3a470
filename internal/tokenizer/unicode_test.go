package tokenizer

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// charactersScript prints what Hugging Face thinks of every character: the members of the classes as ranges, and each normalization of all of them.
const charactersScript = `
import json, sys
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

chars = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
every = "".join(chars)
order = [c if c < 0xD800 else c + 0x800 for c in range(len(chars))]

def members(regex):
    pieces = pre_tokenizers.Split(Regex(regex + "+"), "removed", invert=True).pre_tokenize_str(every)
    return [[order[a], order[b - 1]] for _, (a, b) in pieces]

out = {name: members(r) for name, r in [("L", r"\p{L}"), ("N", r"\p{N}"), ("s", r"\s"), ("Lu", r"\p{Lu}"), ("Ll", r"\p{Ll}"), ("Lt", r"\p{Lt}"), ("Lm", r"\p{Lm}"),
    ("Lo", r"\p{Lo}"), ("M", r"\p{M}"), ("P", r"\p{P}"), ("S", r"\p{S}")]}
pieces = pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(every)
out["pieces"] = [[order[a], order[b - 1]] for _, (a, b) in pieces]
t = Tokenizer(models.BPE())
t.add_tokens([AddedToken("zq", single_word=True)])
text = "".join(c + "zq " for c in chars if c not in "zq")
out["notword"] = [ord(text[a - 1]) for a, b in t.encode(text).offsets if text[a - 1] != " " or a == 1]
for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
    out[name] = getattr(normalizers, name)().normalize_str("\n".join(chars))
json.dump(out, sys.stdout)
`

// TestOracleCharacters compares every character there is, so that no new release of Go or of x/text changes an id.
func TestOracleCharacters(t *testing.T) {
	var want map[string]json.RawMessage
	if err := json.Unmarshal(oracle.Run(t, charactersScript), &want); err != nil {
		t.Fatal(err)
	}
	table := classTable()
	classes := map[string]func(r rune) bool{"L": nil, "N": nil, "s": isSpace}
	for name, in := range propertyClasses() {
		classes[name] = func(r rune) bool { return in(classOfRune(table, r)) }
	}
	for name, in := range classes {
		var ranges [][2]rune
		if err := json.Unmarshal(want[name], &ranges); err != nil {
			t.Fatal(err)
		}
		members := map[rune]bool{}
		for _, r := range ranges {
			for c := r[0]; c <= r[1]; c++ {
				members[c] = true
			}
		}
		eachCharacter(func(r rune) {
			if in(r) != members[r] {
				t.Errorf(`\p{%s} of %U: %v, want %v`, name, r, in(r), members[r])
			}
		})
	}
	var pieces [][2]rune
	if err := json.Unmarshal(want["pieces"], &pieces); err != nil {
		t.Fatal(err)
	}
	for i, p := range pieces { // numbers and others take turns, and the first is no number
		for r := p[0]; r <= p[1]; r++ {
			if c := classOfRune(table, r); utf8.ValidRune(r) && (c == classNumber || c == classNumeric) != (i%2 == 1) {
				t.Errorf("numeric of %U: %v", r, i%2 == 0)
			}
		}
	}
	notWord := map[rune]bool{}
	var list []rune
	if err := json.Unmarshal(want["notword"], &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		notWord[r] = true
	}
	eachCharacter(func(r rune) {
		if r != 'z' && r != 'q' && r != ' ' && isWord(r) == notWord[r] {
			t.Errorf(`\w of %U: %v`, r, isWord(r))
		}
	})
	for _, kind := range []string{"NFC", "NFD", "NFKC", "NFKD", "Lowercase"} {
		n, err := newNormalizer(map[string]any{"type": kind}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var all string
		if err := json.Unmarshal(want[kind], &all); err != nil {
			t.Fatal(err)
		}
		compareEach(t, kind, n, all)
	}
}

// compareEach compares a normalizer on each character, and on all of them in a row.
func compareEach(t *testing.T, kind string, n normalizer, all string) {
	t.Helper()
	want := strings.SplitAfter(strings.Replace(all, "\n\n\n", "\n\x00\n", 1), "\n") // the line end itself
	i := 0
	var text strings.Builder
	eachCharacter(func(r rune) {
		if r != 0 {
			text.WriteByte('\n')
		}
		text.WriteRune(r)
		expected := strings.TrimSuffix(want[i], "\n")
		if i++; r == '\n' {
			expected = "\n"
		}
		if got := n(string(r)); got != expected {
			t.Errorf("%s of %U: %+q, want %+q", kind, r, got, expected)
		}
	})
	if n(text.String()) != all {
		t.Errorf("%s of all characters in a row differs", kind)
	}
}

func eachCharacter(f func(rune)) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) {
			f(r)
		}
	}
}
