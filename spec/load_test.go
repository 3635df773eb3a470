package spec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mlxbuild/mlxbuild/spec"
)

var update = os.Getenv("UPDATE_GOLDEN") != ""

// Each archive in testdata/bad has recipe.yaml, other files, and want: everything that is said of it.
func TestBadRecipes(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := ""
			for _, f := range a.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			started := time.Now()
			r, diags := spec.Load(filepath.Join(dir, "recipe.yaml"), spec.Options{})
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			got := strings.ReplaceAll(diags.Error()+"\n", dir+string(filepath.Separator), "")
			if r != nil {
				t.Error("a recipe came out")
			}
			if got != want {
				if !update {
					t.Errorf("said:\n%s\nwant:\n%s\nUPDATE_GOLDEN=1 go test ./spec rewrites it", got, want)
				}
				rewrite(t, file, a, got)
			}
		})
	}
}

func rewrite(t *testing.T, file string, a *txtar.Archive, want string) {
	if !update {
		return
	}
	var out []txtar.File
	for _, f := range a.Files {
		if f.Name != "want" {
			out = append(out, f)
		}
	}
	a.Files = append(out, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, text string) *spec.Recipe {
	t.Helper()
	r, diags := spec.LoadBytes("recipe.yaml", "dir", []byte(text), spec.Options{})
	if r == nil {
		t.Fatalf("%s", diags.Error())
	}
	return r
}

// Hostile input that is large or made by repetition.
func TestHostileInput(t *testing.T) {
	bomb := "version: 1\nx-a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 8; i++ {
		bomb += fmt.Sprintf("x-a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	var keys strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	var axes strings.Builder
	axes.WriteString("version: 1\nmodels:\n")
	for i := range 1000 {
		fmt.Fprintf(&axes, "  m%d: path:x\n", i)
	}
	axes.WriteString("quantizations:\n")
	for i := range 1000 {
		fmt.Fprintf(&axes, "  q%d: {bits: 4}\n", i)
	}
	axes.WriteString("convert:\n  matrix: {dtype: [float16]}\n")
	for name, c := range map[string]struct{ text, want string }{
		"10 MB":         {"version: 1\n" + strings.Repeat("# comment\n", 1<<20), "a recipe may have 1048576 bytes"},
		"alias bomb":    {bomb, "the recipe has more than 500000 values"},
		"self alias":    {"version: 1\nx-a: &a [*a]\n", "contains itself"},
		"nested":        {"version: 1\nx-a: " + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "\n", "nested more than 100 levels"},
		"many keys":     {keys.String(), "a mapping has 40000 entries"},
		"million cells": {axes.String(), "the matrix has 1000000 cells; 10000 are allowed"},
		"UTF-16":        {"\xff\xfev\x00e\x00", "UTF-16"},
		"not UTF-8":     {"version: 1 # \xff\n", "not UTF-8"},
		"NUL":           {"version: 1\x00\n", "not YAML"},
		"empty":         {"# nothing\n", "the recipe is empty"},
		"two documents": {"version: 1\n---\nversion: 1\n", "here a second begins"},
		"list":          {"- version: 1\n", "a recipe is a mapping"},
		"binary":        {"\x7fELF\x02\x01", "not YAML"},
	} {
		started := time.Now()
		r, diags := spec.LoadBytes("r.yaml", ".", []byte(c.text), spec.Options{})
		if r != nil || !strings.Contains(diags.Error(), c.want) {
			t.Errorf("%s: said %.300q, want %q", name, diags.Error(), c.want)
		}
		if took := time.Since(started); took > 2*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

func TestIncludeOfOddThings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for include, want := range map[string]string{"missing.yaml": "no such file", "folder": "it is not a file", "../../../../../../../../dev/zero": "cannot be read|it is not a file|bytes",
		"recipe.yaml": "include goes in a circle: recipe.yaml -> recipe.yaml"} {
		write("recipe.yaml", "version: 1\ninclude: ["+include+"]\n")
		r, diags := spec.Load(filepath.Join(dir, "recipe.yaml"), spec.Options{})
		ok := false
		for _, w := range strings.Split(want, "|") {
			ok = ok || strings.Contains(diags.Error(), w)
		}
		if r != nil || !ok {
			t.Errorf("include %s: %s", include, diags.Error())
		}
	}
}

// A recipe in which everything works that does work in this version.
func TestGoodRecipe(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"recipe.yaml": `version: 1
include: [parts/models.yaml]
vars: {group: 32, note: "q"}
x-mine: [anything, {at: all}]
quantizations:
  base: &base {bits: 4, group_size: "${vars.group}"}
  child:
    extends: base
    bits: 8
    overrides:
      - {match: lm_head, bits: 6, optional: true}
  grandchild:
    extends: [child]
    overrides: [{match: [v_proj, "re:.*mlp.*"], layers: [0..1, -2.., 4..-3/3, 2], quantize: false}]
  merged: {<<: *base, mode: affine}
  back: {dequantize: true}
  mix: {preset: mixed_4_6}
convert:
  dtype: bfloat16
  shard_size: 1.5GiB
  matrix:
    model: [a, b]
    quantization: [base, child]
    dtype: [float16, bfloat16]
    exclude: [{model: a, dtype: [float16]}]
    include: [{model: b, quantization: back, name: b/plain}]
prompts:
  text: [one, "two ${vars.note}"]
  lines: {file: parts/p.jsonl, chat: true, system: Be brief.}
generate:
  g: {targets: "b/*", prompts: lines, max_tokens: 7, temperature: 0.5, top_p: 0.9, min_p: 0.1, seed: 3}
  h: {targets: [bits=4], prompts: [in place]}
`,
		"models.yaml": "version: 1\nmodels:\n  a: path:weights\n  b: {source: \"hf:org/name\", revision: \"0123456\"}\n",
		"p.jsonl":     "{\"prompt\": \"hi\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"yo\"}]}\n",
	} {
		path := filepath.Join(dir, name)
		if name != "recipe.yaml" {
			path = filepath.Join(dir, "parts", name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, diags := spec.Load(filepath.Join(dir, "recipe.yaml"), spec.Options{})
	if r == nil || len(diags) > 0 {
		t.Fatal(diags.Error())
	}
	if got := r.Models[0].Source.Path; got != filepath.Join(dir, "parts", "weights") {
		t.Errorf("a's path is %s: paths are relative to the file they stand in", got)
	}
	if r.Models[1].Revision != "0123456" {
		t.Errorf("revision %q", r.Models[1].Revision)
	}
	show := func(i int) string { return fmt.Sprint(r.Quantizations[i].Normalised()) }
	for i, want := range []string{
		"map[bits:4 group_size:32 mode:affine overrides:[] quantize:true]",
		"map[bits:8 group_size:32 mode:affine overrides:[map[bits:6 match:[lm_head]]] quantize:true]",
		"map[bits:8 group_size:32 mode:affine overrides:[map[layers:[0..1 -2.. 4..-3/3 2] match:[v_proj re:.*mlp.*] quantize:false] map[bits:6 match:[lm_head]]] quantize:true]",
		"map[bits:4 group_size:32 mode:affine overrides:[] quantize:true]",
		"map[dequantize:true]",
		"map[bits:4 group_size:<nil> mode:affine overrides:[] preset:mixed_4_6 quantize:true]",
	} {
		if got := show(i); got != want {
			t.Errorf("%s:\n %s\nwant\n %s", r.Quantizations[i].Name, got, want)
		}
	}
	if pos := r.Quantizations[2].Where["bits"]; pos.Line != 9 {
		t.Errorf("grandchild's bits were decided at %v", pos)
	}
	if in := r.Quantizations[2].Overrides[1].In; in != "child" {
		t.Errorf("the second rule was written in %q", in)
	}
	if r.Convert.ShardSize != 3<<29 || r.Convert.Matrix.Cells() != 8 || len(r.Convert.Matrix.Exclude) != 1 {
		t.Errorf("convert: %+v", r.Convert)
	}
	g := r.Generate[0]
	if !g.Prompts.Chat || len(g.Prompts.Prompts) != 2 || g.Prompts.Prompts[1].Messages[0].Content != "yo" || g.Seed != 3 || g.TopP != 0.9 {
		t.Errorf("generate: %+v", g)
	}
	if r.Prompts[0].Prompts[1].Text != "two q" {
		t.Errorf("variable in text: %q", r.Prompts[0].Prompts[1].Text)
	}
}

func TestRuleMatches(t *testing.T) {
	r := load(t, `version: 1
quantizations:
  q:
    overrides:
      - {match: v_proj, bits: 8}
      - {match: "re:.*proj", bits: 8}
      - {match: model.layers.3.mlp, bits: 8}
      - {layers: -2.., bits: 8}
      - {match: down_proj, layers: ["0", 4..-3/3], bits: 8}
`).Quantizations[0].Overrides
	for _, c := range []struct {
		rule   int
		module string
		layer  int
		want   bool
	}{
		{0, "model.layers.0.self_attn.v_proj", 0, true}, {0, "model.layers.0.self_attn.v_proj_extra", 0, false}, {0, "qkv_proj", -1, false},
		{1, "model.layers.0.self_attn.q_proj", 0, true}, {1, "model.layers.0.self_attn.q_proj.x", 0, false},
		{2, "model.layers.3.mlp.down_proj", 3, true}, {2, "model.layers.30.mlp.down_proj", 30, false},
		{3, "model.layers.28.mlp.up_proj", 28, true}, {3, "model.layers.27.mlp.up_proj", 27, false}, {3, "lm_head", -1, false},
		{4, "m.down_proj", 0, true}, {4, "m.down_proj", 4, true}, {4, "m.down_proj", 5, false}, {4, "m.down_proj", 25, true}, {4, "m.down_proj", 28, false},
	} {
		if got := r[c.rule].Matches(c.module, c.layer, 30); got != c.want {
			t.Errorf("%s on %s (layer %d): %v", r[c.rule].Text, c.module, c.layer, got)
		}
	}
}

func TestSeenSkipsOnlyTheSchema(t *testing.T) {
	text := "version: 1\nmodels: {m: \"path:x\"}\nquantizations: {q: {bits: 4}}\n"
	var digest [32]byte
	r, _ := spec.LoadBytes("a", ".", []byte(text), spec.Options{Seen: func(d [32]byte) bool { digest = d; return false }})
	again, _ := spec.LoadBytes("a", ".", []byte(text), spec.Options{Seen: func(d [32]byte) bool { return d == digest }})
	if r == nil || again == nil || r.Digest != again.Digest || fmt.Sprint(r.Models) != fmt.Sprint(again.Models) {
		t.Error("the same bytes load differently")
	}
}

// Whatever a recipe is, loading ends with a recipe or with problems that have a place.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.txtar", "../recipes/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			if a := txtar.Parse(data); len(a.Files) > 0 {
				data = a.Files[0].Data
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		started := time.Now()
		r, diags := spec.LoadBytes("fuzz.yaml", "nowhere", data, spec.Options{})
		if (r == nil) != diags.HasErrors() {
			t.Fatalf("recipe %v with %q", r != nil, diags.Error())
		}
		for _, d := range diags {
			if d.Pos.File == "" || d.Msg == "" {
				t.Fatalf("a problem without a place: %+v", d)
			}
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Fatalf("it took %v", took)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	data, err := os.ReadFile("../recipes/smollm2.yaml")
	if err != nil {
		b.Fatal(err)
	}
	for name, seen := range map[string]bool{"new": false, "seen": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r, diags := spec.LoadBytes("r.yaml", "../recipes", data, spec.Options{Seen: func([32]byte) bool { return seen }}); r == nil {
					b.Fatal(diags)
				}
			}
		})
	}
}

// hf:org/name@revision is short for a revision beside it.
func TestRevisionInSource(t *testing.T) {
	for text, want := range map[string]string{
		`{m: "hf:org/name@refs/pr/1"}`:                    "org/name refs/pr/1",
		`{m: {source: "hf:org/name@v1", revision: "v1"}}`: "org/name v1",
		`{m: {source: "hf:org/name"}}`:                    "org/name ",
		`{m: {source: "hf:org/name@v1", revision: "v2"}}`: `the source names revision "v1", and the model "v2"`,
		`{m: "hf:org/name@"}`:                             `the source names revision ""`,
		`{m: "path:models/a@b"}`:                          "models/a@b ",
	} {
		r, diags := spec.LoadBytes("r.yaml", ".", []byte("version: 1\nmodels: "+text+"\n"), spec.Options{})
		got := diags.Error()
		if r != nil && len(diags) == 0 {
			got = r.Models[0].Source.Ref + " " + r.Models[0].Revision
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
