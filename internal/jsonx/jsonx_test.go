package jsonx_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// cases and what Python's json.dumps(json.loads(x), indent=4) makes of them; the oracle test compares thousands more.
var cases = map[string]string{
	`{"b": 1, "a": 1e6, "b": 2}`:             "{\n    \"b\": 2,\n    \"a\": 1000000.0\n}",
	`[-0, -0.0, 1E400, 0.00001, 0.0001]`:     "[\n    0,\n    -0.0,\n    Infinity,\n    1e-05,\n    0.0001\n]",
	`[1e16, 1e15, 123456789012345678901234]`: "[\n    1e+16,\n    1000000000000000.0,\n    123456789012345678901234\n]",
	`"\u007f\u00e9\ud800\ud83d\ude00/\b"`:    `"\u007f\u00e9\ud800\ud83d\ude00/\b"`,
	`[NaN, -Infinity, {}, [], null, true]`:   "[\n    NaN,\n    -Infinity,\n    {},\n    [],\n    null,\n    true\n]",
}

func TestPython(t *testing.T) {
	for in, want := range cases {
		v, err := jsonx.Parse([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := string(jsonx.Python(v, 4)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", in, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "1:1: it ends too early",
		"{\"a\": 1,\n  b: 2}":            `2:3: a key in "double quotes" is expected`,
		"[1 2]":                          "1:4: a , or ] is expected",
		"\"a\x01\"":                      "1:3: a control character stands in a string",
		"{} x":                           "1:4: something stands behind the end of the document",
		"\"\xff\"":                       "1:2: it is not UTF-8",
		`"\x"`:                           "1:2: an escape is not known",
		strings.Repeat("[", 600):         "nested too deeply",
		"é!":                             "1:1: a value is expected",
		"01":                             "1:2: something stands behind",
		"\uFEFF{}":                       "1:1: it begins with a byte order mark",
		"[-" + strings.Repeat("7", 4301): "1:2: an integer has more than 4300 digits",
	} {
		if _, err := jsonx.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
}

func TestObject(t *testing.T) {
	o, err := jsonx.ParseObject([]byte(`{"a": 3, "b": 2.5, "c": "x", "d": true, "e": {"f": [1]}, "big": 99999999999999999999}`))
	if err != nil {
		t.Fatal(err)
	}
	a, ok1 := o.Int("a")
	b, ok2 := o.Float("b")
	_, notInt := o.Int("b")
	_, tooBig := o.Int("big")
	if a != 3 || b != 2.5 || !ok1 || !ok2 || notInt || tooBig {
		t.Error("typed readers")
	}
	c := o.Clone()
	e, _ := c.Object("e")
	e.Set("f", "changed")
	c.Delete("a")
	c.Set("z", nil)
	if fmt.Sprint(o.Keys()) != "[a b c d e big]" || fmt.Sprint(c.Keys()) != "[b c d e big z]" || strings.Contains(string(jsonx.Python(o, 1)), "changed") {
		t.Error("a clone shares with its origin")
	}
}

// The largest integer that Python reads comes out as it is.
func TestLongInteger(t *testing.T) {
	in := "-" + strings.Repeat("7", jsonx.MaxDigits)
	v, err := jsonx.Parse([]byte(in))
	if err != nil || string(jsonx.Python(v, 4)) != in {
		t.Errorf("%v", err)
	}
}

// random writes documents with every trap.
func random(r *rand.Rand, depth int) string {
	switch n := r.IntN(9); {
	case depth > 3 || n < 2:
		numbers := []string{"0", "-0", "1e6", "-1.5E-7", "0.1", "1e400", "-1e400", "3.0", "1e22", "9007199254740993", "123456789.123456789", "5e-324", "1e-5", "0.00012", "NaN", "Infinity", "-Infinity", "18446744073709551616"}
		if r.IntN(2) == 0 {
			return fmt.Sprint((r.Float64() - 0.5) * 1e5)
		}
		return numbers[r.IntN(len(numbers))]
	case n < 4:
		letters := []string{"a", `\n`, `\u0000`, `\ud800`, `\udc00`, `\ud83d\ude00`, "é", "😀", `\"`, `\\`, "/", `\/`, "\u2028", "\x7f", `\u00e9`, "<"}
		s := ""
		for range r.IntN(6) {
			s += letters[r.IntN(len(letters))]
		}
		return `"` + s + `"`
	case n < 5:
		return []string{"true", "false", "null"}[r.IntN(3)]
	case n < 7:
		var items []string
		for range r.IntN(4) {
			items = append(items, random(r, depth+1))
		}
		return "[" + strings.Join(items, " , ") + "]"
	}
	var items []string
	for range r.IntN(4) {
		items = append(items, fmt.Sprintf("\"k%d\":%s", r.IntN(3), random(r, depth+1)))
	}
	return "{" + strings.Join(items, ",\n") + "}"
}

func TestAgainstPython(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var docs []string
	for range 5000 {
		docs = append(docs, random(r, 0))
	}
	path := filepath.Join(t.TempDir(), "docs.json")
	data, err := json.Marshal(docs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var want []string
	out := oracle.Run(t, `
import json, sys
docs = json.load(open(sys.argv[1]))
print(json.dumps([json.dumps(json.loads(d), indent=4) for d in docs]))`, path)
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, d := range docs {
		v, err := jsonx.Parse([]byte(d))
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		if got := string(jsonx.Python(v, 4)); got != want[i] {
			t.Fatalf("%s:\n%s\nPython:\n%s", d, got, want[i])
		}
	}
}

// What parses, written and parsed again, is written the same.
func FuzzParse(f *testing.F) {
	for in := range cases {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := jsonx.Parse(data)
		if err != nil {
			return
		}
		once := jsonx.Python(v, 2)
		again, err := jsonx.Parse(once)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", data, once, err)
		}
		if twice := jsonx.Python(again, 2); string(twice) != string(once) {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
}
