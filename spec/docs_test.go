package spec_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/schemas"
	"github.com/mlxbuild/mlxbuild/spec"
)

// The schema, what the loader reads, and docs/recipe.md name the same keys, defaults and values.

// sections of docs/recipe.md and the part of the schema that each is about.
var documented = []struct{ heading, after, schema string }{
	{"## Sections", "", ""},
	{"## models", "", "modelObject"},
	{"## quantizations", "", "quantization"},
	{"## quantizations", "A rule:", "override"},
	{"## convert", "", "convert"},
	{"## convert", "`matrix` has", "matrix"},
	{"## prompts", "", "promptObject"},
	{"## generate", "", "generate"},
	{"## corpora", "", "corpus"},
	{"## validate", "", "validate"},
	{"## validate", "`reference`:", "reference"},
	{"## validate", "A rule of", "expectation"},
	{"## benchmark", "", "benchmark"},
	{"## benchmark", "`matrix` has", "benchMatrix"},
	{"## benchmark", "`warmup`:", "warmup"},
	{"## benchmark", "`runs`:", "runs"},
	{"## benchmark", "`cooldown`:", "cooldown"},
	{"## benchmark", "`require`:", "require"},
	{"## benchmark", "`gate`:", "gate"},
	{"## benchmark", "A command:", "command"},
}

func TestDocsNameEveryKey(t *testing.T) {
	doc, err := os.ReadFile("../docs/recipe.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documented {
		rows := docTable(t, string(doc), d.heading, d.after)
		properties := schemaProperties(t, d.schema)
		for key, p := range properties {
			row, ok := rows[key]
			if !ok {
				t.Errorf("docs/recipe.md %s %s does not name %s", d.heading, d.after, key)
				continue
			}
			if def, ok := p["default"]; ok {
				if text := fmt.Sprint(def); !strings.Contains(row, text) {
					t.Errorf("docs/recipe.md: the default of %s is %s, the row says %s", key, text, row)
				}
			}
			for _, v := range enumOf(p) {
				if !strings.Contains(row, v) && !strings.Contains(row, "as above") {
					t.Errorf("docs/recipe.md: %s takes %s, the row says %s", key, v, row)
				}
			}
			if p["description"] == nil || p["examples"] == nil {
				if p["$ref"] == nil {
					t.Errorf("the schema's %s.%s has no description or example", d.schema, key)
				}
			}
		}
		for key := range rows {
			if _, ok := properties[key]; !ok && key != "x-*" {
				t.Errorf("docs/recipe.md %s names %s, which the schema does not know", d.heading, key)
			}
		}
	}
}

func docTable(t *testing.T, doc, heading, after string) map[string]string {
	t.Helper()
	_, text, ok := strings.Cut(doc, heading+"\n")
	if !ok {
		t.Fatalf("docs/recipe.md has no %s", heading)
	}
	if i := strings.Index(text, "\n## "); i >= 0 {
		text = text[:i]
	}
	if after != "" {
		_, text, _ = strings.Cut(text, after)
	}
	rows := map[string]string{}
	started := false
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			if started {
				break
			}
			continue
		}
		started = true
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|(.*)$").FindStringSubmatch(line); m != nil {
			rows[m[1]] = m[2]
		}
	}
	return rows
}

func schemaProperties(t *testing.T, def string) map[string]map[string]any {
	t.Helper()
	var schema struct {
		Properties map[string]map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schemas.Recipe(), &schema); err != nil {
		t.Fatal(err)
	}
	if def == "" {
		return schema.Properties
	}
	return schema.Defs[def].Properties
}

func enumOf(p map[string]any) (out []string) {
	list, _ := p["enum"].([]any)
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// What the loader asks for by name is what the schema knows in the sections that work in this version, so neither has a key that the other does not.
func TestLoaderReadsEveryKey(t *testing.T) {
	read := map[string]bool{}
	for _, file := range []string{"decode.go", "quantization.go", "prompts.go", "load.go", "validate.go", "benchmark.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				read[strings.Trim(lit.Value, "\"`")] = true
			}
			return true
		})
	}
	known := map[string]bool{}
	for _, def := range []string{"", "modelObject", "quantization", "override", "convert", "matrix", "promptObject", "prompt", "generate", "corpus", "validate", "reference", "lower", "higher", "margin",
		"benchmark", "benchMatrix", "warmup", "runs", "cooldown", "require", "gate", "command"} {
		var keys []string
		for key := range schemaProperties(t, def) {
			keys = append(keys, key)
			known[key] = true
		}
		sort.Strings(keys)
		for _, key := range keys {
			if !read[key] && key != "version" {
				t.Errorf("the schema's %s knows %s, and the loader never reads it", def, key)
			}
		}
	}
	for _, call := range regexp.MustCompile(`\.get\("([a-z_]+)"\)`).FindAllStringSubmatch(sources(t), -1) {
		if !known[call[1]] && !slices.Contains([]string{"role", "content", "name"}, call[1]) {
			t.Errorf("the loader reads %s, which the schema does not know", call[1])
		}
	}
}

func sources(t *testing.T) string {
	t.Helper()
	all := ""
	for _, file := range []string{"decode.go", "quantization.go", "prompts.go", "load.go", "validate.go", "benchmark.go"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(data)
	}
	return all
}

// The schema's metrics are those of package metric, each judged from its side.
func TestSchemaKnowsEveryMetric(t *testing.T) {
	properties := schemaProperties(t, "expectation")
	delete(properties, "for")
	for _, m := range metric.Table {
		want := "#/$defs/lower"
		switch {
		case m.Higher:
			want = "#/$defs/higher"
		case m.Margin:
			want = "#/$defs/margin"
		}
		if p, ok := properties[m.Name]; !ok || p["$ref"] != want {
			t.Errorf("the schema has %v for %s, want %s", p["$ref"], m.Name, want)
		}
		delete(properties, m.Name)
	}
	for name := range properties {
		t.Errorf("the schema names %s, which is no metric", name)
	}
}

// Every YAML block of the documents is a recipe.
func TestDocumentedRecipesLoad(t *testing.T) {
	for _, file := range []string{"../docs/recipe.md", "../docs/validation.md", "../docs/benchmarking.md", "../README.md"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
			if !strings.Contains(block[1], "version: 1") {
				continue // a workflow
			}
			n++
			if r, diags := spec.LoadBytes(file, ".", []byte(block[1]), spec.Options{}); r == nil {
				t.Errorf("%s: %v", file, diags)
			}
		}
		if n == 0 {
			t.Errorf("%s has no recipe", file)
		}
	}
}

// Every keyword of the schema is one that the draft knows: a misspelt one would be ignored in silence. Every object is closed.
func TestSchemaIsStrict(t *testing.T) {
	known := map[string]bool{}
	for _, k := range strings.Fields("$schema $id $ref $defs title description type properties patternProperties propertyNames additionalProperties required items enum const pattern minimum maximum exclusiveMinimum " +
		"minItems minProperties maxLength default examples if then else") {
		known[k] = true
	}
	var schema map[string]any
	if err := json.Unmarshal(schemas.Recipe(), &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		for k := range s {
			if !known[k] {
				t.Errorf("%s: unknown keyword %s", path, k)
			}
		}
		if s["properties"] != nil && s["additionalProperties"] == nil {
			t.Errorf("%s is open", path)
		}
		for _, group := range []string{"properties", "patternProperties", "$defs"} {
			subs, _ := s[group].(map[string]any)
			for name, sub := range subs {
				walk(path+"/"+name, sub.(map[string]any))
			}
		}
		for _, k := range []string{"items", "additionalProperties", "propertyNames", "if", "then", "else"} {
			if sub, ok := s[k].(map[string]any); ok {
				walk(path+"/"+k, sub)
			}
		}
	}
	walk("", schema)
}
