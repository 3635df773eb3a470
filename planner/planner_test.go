package planner_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/step/fetch"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

func plan(t *testing.T, files ...string) (*planner.Graph, spec.Diags) {
	t.Helper()
	var recipes []*spec.Recipe
	for i, text := range files {
		r, diags := spec.LoadBytes(fmt.Sprintf("r%d.yaml", i), "dir", []byte("version: 1\n"+text), spec.Options{})
		if r == nil {
			t.Fatal(diags)
		}
		recipes = append(recipes, r)
	}
	sources := fetch.Kind{}
	return planner.Plan(recipes, []step.Kind{sources, &convert.Kind{Dir: sources.Dir}, generate.Kind{Runtimes: backend.NewSet(t.Context(), builtin.New())}})
}

const models = "models: {a: \"hf:o/a\", b: \"hf:o/b\"}\nquantizations: {q4: {bits: 4}, q8: {bits: 8}, f: {quantize: false}}\n"

func ids(g *planner.Graph) string {
	var out []string
	for _, t := range g.Targets {
		out = append(out, t.ID)
	}
	return strings.Join(out, " ")
}

func TestMatrix(t *testing.T) {
	for _, c := range []struct{ convert, want string }{
		{"", "a/q4 a/q8 a/f b/q4 b/q8 b/f"},
		{"convert: {matrix: {model: b, quantization: [q8, q4]}}", "b/q8 b/q4"},
		{"convert: {matrix: {exclude: [{model: a, quantization: [q4, q8]}, {quantization: f}]}}", "b/q4 b/q8"},
		{"convert: {matrix: {model: a, quantization: q4, dtype: [float16, auto]}}", "a/q4@float16 a/q4@auto"},
		{"convert: {matrix: {model: a, quantization: q4, include: [{model: b, quantization: f}, {model: b, quantization: q4, dtype: float16}, {model: b, quantization: q4, name: mine}]}}",
			"a/q4 b/f b/q4@float16 mine"},
	} {
		g, diags := plan(t, models+c.convert)
		if diags != nil || ids(g) != c.want {
			t.Errorf("%s: %s, %v, want %s", c.convert, ids(g), diags, c.want)
		}
	}
	if _, diags := plan(t, models+"convert: {matrix: {model: a, include: [{model: a, quantization: q4}]}}"); !strings.Contains(diags.Error(), "target a/q4 is there twice") {
		t.Errorf("a target twice: %v", diags)
	}
}

func TestSelect(t *testing.T) {
	g, diags := plan(t, models+"generate: {t: {targets: [\"*/q4\"], prompts: [x]}}")
	if diags != nil {
		t.Fatal(diags)
	}
	for _, c := range []struct{ selectors, want string }{
		{"", "convert a/q4,convert a/q8,convert a/f,convert b/q4,convert b/q8,convert b/f,generate t a/q4,generate t b/q4"},
		{"a/*", "convert a/q4,convert a/q8,convert a/f,generate t a/q4"},
		{"bits=8", "convert a/q8,convert b/q8"},
		{"bits=4,model=b kind=generate,model=a", "convert b/q4,generate t a/q4,generate t b/q4"},
		{"quantize=false,model=a", "convert a/f"},
	} {
		picked, err := g.Select(strings.Fields(c.selectors))
		if err != nil {
			t.Errorf("%s: %v", c.selectors, err)
			continue
		}
		var names []string
		for _, id := range picked {
			names = append(names, g.Steps[id].Name)
		}
		if got := strings.Join(names, ","); got != c.want {
			t.Errorf("%s picks %s, want %s", c.selectors, got, c.want)
		}
	}
	for selector, want := range map[string]string{"a/q5": `"a/q5" picks no target`, "bist=4": `no selector key "bist"`, "[": "is not a glob", "bits=": "is not key=value"} {
		if _, err := g.Select([]string{selector}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", selector, err, want)
		}
	}
}

func TestRecipesTogether(t *testing.T) {
	same := models + "convert: {matrix: {model: a, quantization: q4}}"
	if g, diags := plan(t, same, same); diags != nil || len(g.Steps) != 2 {
		t.Errorf("two recipes that make the same: %d steps, %v", len(g.Steps), diags)
	}
	other := strings.Replace(same, "bits: 4", "bits: 3", 1)
	if _, diags := plan(t, same, other); !strings.Contains(diags.Error(), "would write the same folder") {
		t.Errorf("two recipes with different ideas of one target: %v", diags)
	}
}

func TestGenerateOfNothing(t *testing.T) {
	if _, diags := plan(t, models+"generate: {t: {targets: a/q5, prompts: [x]}}"); !strings.Contains(diags.Error(), `generate.t.targets: "a/q5" picks no target`) {
		t.Errorf("%v", diags)
	}
}

func TestPrints(t *testing.T) {
	g, diags := plan(t, models)
	if diags != nil {
		t.Fatal(diags)
	}
	all, _ := g.Select(nil)
	forecasts, err := g.Forecasts(all)
	if err != nil {
		t.Fatal(err)
	}
	v := planner.View{Graph: g, Steps: g.Closure(all), Forecasts: forecasts}
	var text, doc, dot bytes.Buffer
	v.Text(&text)
	if err := v.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	v.DOT(&dot)
	var parsed struct {
		Version int
		Steps   []struct {
			Needs []int
			Name  string
		}
	}
	if err := json.Unmarshal(doc.Bytes(), &parsed); err != nil || parsed.Version != 1 || len(parsed.Steps) != 8 || len(parsed.Steps[2].Needs) != 1 {
		t.Errorf("%v\n%s", err, doc.String())
	}
	if !strings.Contains(text.String(), "rules: after fetch") || !strings.Contains(text.String(), "8 steps") {
		t.Errorf("%s", text.String())
	}
	if strings.Count(dot.String(), "->") != 6 || !strings.HasSuffix(dot.String(), "}\n") {
		t.Errorf("%s", dot.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_234_567: "1.2 MB", 2_500_000_000: "2.50 GB"} {
		if got := planner.Bytes(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
