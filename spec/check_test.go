package spec

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/mlxbuild/mlxbuild/schemas"
)

// library is the schema as a library that knows all of JSON Schema compiles it.
var library = sync.OnceValue(func() *jsonschema.Schema {
	return jsonschema.MustCompileString("recipe.json", string(schemas.Recipe()))
})

// FuzzCheck holds the checker against the library: the same keywords violated by the same values.
func FuzzCheck(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.txtar", "../recipes/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal("no seeds", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, part := range txtar.Parse(data).Files {
				f.Add(part.Data)
			}
			f.Add(data)
		}
	}
	for _, text := range oddValues {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		root := newLoader(Options{}).parse("fuzz.yaml", data)
		if root == nil || hasEmptyKey(root) { // of which the library says that it is the mapping around it
			return
		}
		compare(t, root)
	})
}

// compare what the checker and the library find.
func compare(t *testing.T, root *node) {
	t.Helper()
	var c checker
	c.check(recipeSchema(), root, place{})
	var ours []string
	for _, v := range c.found {
		what := v.keyword
		if v.name != nil {
			what += " in the name " + v.name.key
		}
		ours = append(ours, fmt.Sprintf("%s at %p %s", what, v.at, v.message))
		if _, where := find(root, v.path(root)); where != v.where {
			t.Errorf("%s is called %s", where, v.where)
		}
	}
	theirs := libraryViolations(t, root)
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(slices.Compact(ours), slices.Compact(theirs)) {
		t.Fatalf("of %s\nfound\n%s\nthe library found\n%s", root.flow(), strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
	}
}

// Values of real recipes, put in each other's places.
func TestCheckMutations(t *testing.T) {
	files, err := filepath.Glob("../recipes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no recipes", err)
	}
	for seed, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		for range 300 {
			root := newLoader(Options{}).parse(file, data)
			for range 1 + random.IntN(4) {
				mutate(random, root)
			}
			compare(t, root)
		}
	}
}

// mutate one value or key of a recipe.
func mutate(random *rand.Rand, root *node) {
	var all []*node
	var collect func(n *node)
	collect = func(n *node) {
		all = append(all, n)
		for _, f := range n.fields {
			collect(f.value)
		}
		for _, item := range n.items {
			collect(item)
		}
	}
	collect(root)
	n := all[1+random.IntN(len(all)-1)]
	others := []*node{{}, {scalar: true}, {scalar: int64(random.IntN(9) - 2), raw: "n"}, {scalar: 0.5, raw: "0.5"}, {scalar: 4.0, raw: "4.0"}, {scalar: "", raw: ""}, {scalar: "*/q4", raw: "*/q4"},
		{scalar: strings.Repeat("n", 120)}, {kind: list}, {kind: mapping}, {kind: list, items: []*node{{scalar: "all", raw: "all"}, {scalar: int64(2)}}}}
	switch other := all[random.IntN(len(all))]; random.IntN(4) {
	case 0:
		*n = *others[random.IntN(len(others))]
	case 1:
		*n = *copyOf(other)
	case 2:
		if key := []string{"bits", "unknown", "x-more", "a b", "match", strings.Repeat("k", 101)}[random.IntN(6)]; len(n.fields) > 0 && n.get(key) == nil {
			n.fields[random.IntN(len(n.fields))].key = key
		}
	case 3:
		if len(n.fields) > 0 {
			n.fields = slices.Delete(slices.Clone(n.fields), 0, 1)
		}
	}
}

func copyOf(n *node) *node {
	out := *n
	out.fields, out.items = slices.Clone(n.fields), slices.Clone(n.items)
	for i := range out.fields {
		out.fields[i].value = copyOf(out.fields[i].value)
	}
	for i := range out.items {
		out.items[i] = copyOf(out.items[i])
	}
	return &out
}

// oddValues are recipes that touch what the files beside do not.
var oddValues = []string{
	"version: 1.0\nconvert: {shard_size: 5}\n",
	"version: true\nx-: 1\nmodels: {'b b': path:x, a: {source: 3, revision: 1.5}}\n",
	"version: 1\nquantizations: {q: {bits: 4.0, group_size: 32.5, extends: []}, r: {overrides: [{match: [], layers: [1, '0..1', x]}]}}\n",
	"version: 1\nmodels: [a]\nprompts: {p: {}, q: [], r: [{messages: []}, 3], s: null}\n",
	"version: 1\ngenerate: {g: {targets: [], prompts: [1], max_tokens: 0, temperature: -0.5, top_p: 0, seed: 1e3}}\n",
	"version: 1\nbenchmark: {b: {matrix: {threads: [all, 0, 2, some], batch: [0, 1.5], shape: ['1+1', x], exclude: [{threads: none}]}}}\n",
	"version: 1\nbenchmark: {b: {gate: {against: other, slower_by: {decode_tok_s: 3}}, require: {low_power_mode: true}}}\n",
	"version: 1\nvalidate: {v: {expect: [{for: {bits: [4, [8]]}, kld_mean: {max: x}, unknown: 1}, {}]}}\nreport: [html, pdf]\n",
	"version: 1\nmodels: {" + strings.Repeat("n", 101) + ": path:x}\nconvert: {matrix: {model: a, dtype: [float8]}}\n",
	"version: 9007199254740993\ngenerate: {g: {seed: 9223372036854775807, max_tokens: 1000000000}}\n",
}

func hasEmptyKey(n *node) bool {
	return slices.ContainsFunc(n.fields, func(f field) bool { return f.key == "" || hasEmptyKey(f.value) }) || slices.ContainsFunc(n.items, hasEmptyKey)
}

// path of the node that a violation is about.
func (v violation) path(root *node) (path []string) {
	var walk func(n *node, at []string) bool
	walk = func(n *node, at []string) bool {
		if n == v.at {
			path = slices.Clone(at)
			return true
		}
		for _, f := range n.fields {
			if walk(f.value, append(at, f.key)) {
				return true
			}
		}
		for i, item := range n.items {
			if walk(item, append(at, strconv.Itoa(i))) {
				return true
			}
		}
		return false
	}
	walk(root, nil)
	return path
}

// libraryViolations are what the library finds, in the same words. Where the checker says nothing in words of its own, neither does this.
func libraryViolations(t *testing.T, root *node) (out []string) {
	err := library().Validate(root.plain())
	var found *jsonschema.ValidationError
	if err != nil && !errors.As(err, &found) {
		t.Fatal(err)
	}
	var leaves func(e *jsonschema.ValidationError)
	leaves = func(e *jsonschema.ValidationError) {
		for _, c := range e.Causes {
			leaves(c)
		}
		if len(e.Causes) > 0 {
			return
		}
		path := pointer(e.InstanceLocation)
		at, _ := find(root, path)
		keyword, message := e.KeywordLocation[strings.LastIndexByte(e.KeywordLocation, '/')+1:], ""
		switch keyword {
		case "minimum", "maximum", "exclusiveMinimum", "maxLength":
			message = e.Message
		}
		if strings.Contains(e.KeywordLocation, "/propertyNames/") {
			keyword += " in the name " + path[len(path)-1]
		}
		out = append(out, fmt.Sprintf("%s at %p %s", keyword, at, message))
	}
	if err != nil {
		leaves(found)
	}
	return out
}

// pointer splits a JSON pointer as the library writes it: percent-encoded, then ~1 and ~0.
func pointer(s string) []string {
	if s == "" || s == "/" {
		return nil
	}
	parts := strings.Split(strings.TrimPrefix(s, "/"), "/")
	for i, p := range parts {
		if u, err := url.PathUnescape(p); err == nil {
			p = u
		}
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts
}

// find walks to a node; where is its path as people write it.
func find(n *node, path []string) (at *node, where string) {
	for _, p := range path {
		if n == nil {
			return nil, where
		}
		if n.kind == list {
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(n.items) {
				return nil, where
			}
			n, where = n.items[i], where+"["+p+"]"
			continue
		}
		n = n.get(p)
		if where != "" {
			where += "."
		}
		where += p
	}
	return n, where
}

// plain is the node as the library takes it.
func (n *node) plain() any {
	switch n.kind {
	case mapping:
		m := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			m[f.key] = f.value.plain()
		}
		return m
	case list:
		l := make([]any, len(n.items))
		for i, item := range n.items {
			l[i] = item.plain()
		}
		return l
	}
	if v, ok := n.scalar.(int64); ok {
		return int(v)
	}
	return n.scalar
}
