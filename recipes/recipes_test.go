package recipes_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/backend/mlx"
	"github.com/mlxbuild/mlxbuild/backend/torch"
	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/arch/llama"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/step/fetch"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Every recipe of this folder is planned from headers alone and compared with testdata/NAME.plan: the steps with every default filled in, and how each tensor is made.
// UPDATE_GOLDEN=1 go test ./recipes rewrites them.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no recipes", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			golden, err := filepath.Abs(filepath.Join("testdata", strings.TrimSuffix(file, ".yaml")+".plan"))
			if err != nil {
				t.Fatal(err)
			}
			got := plan(t, file)
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: the plan is\n%s\nUPDATE_GOLDEN=1 go test ./recipes rewrites %s", err, got, golden)
			}
		})
	}
}

// plan prints a recipe's plan as JSON and text. The recipe stands in a folder of its own, beside models that are headers and holes.
func plan(t *testing.T, file string) []byte {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "recipes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "recipes", file), data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SmolLM2-135M-Instruct", "Llama-3.2-1B-Instruct"} {
		headerOnly(t, filepath.Join("testdata", name+".config.json"), filepath.Join(dir, "models", name))
	}
	if err := os.CopyFS(filepath.Join(dir, "models", "tiny-stories"), os.DirFS(oracle.TinyStories(t))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	r, diags := spec.Load("recipes/"+file, spec.Options{})
	if r == nil {
		t.Fatal(diags)
	}
	none := worker.Finder{Dir: t.TempDir(), Env: func(string) string { return "" }}
	runtimes := backend.NewSet(t.Context(), builtin.New(), mlx.New(none), torch.New(none)) // no Python, wherever this runs
	sources := fetch.Kind{}
	headers := func(m spec.Model) (string, bool) {
		if m.Source.Kind != "hf" {
			return sources.Dir(m)
		}
		snapshot := filepath.Join(dir, "models", filepath.Base(m.Source.Ref))
		_, err := os.Stat(snapshot)
		return snapshot, err == nil
	}
	g, diags := planner.Plan([]*spec.Recipe{r}, []step.Kind{sources, &convert.Kind{Dir: headers}, generate.Kind{Runtimes: runtimes}, validate.Kind{Runtimes: runtimes},
		benchmark.Kind{Runtimes: runtimes, Machine: func() machine.Fingerprint { return machine.Fingerprint{Chip: "a chip"} }, Program: func() string { return "test" }}})
	if diags != nil {
		t.Fatal(diags)
	}
	var all []step.ID
	for id := range g.Steps {
		all = append(all, step.ID(id))
	}
	forecasts, err := g.Forecasts(all)
	if err != nil {
		t.Fatal(err)
	}
	if d := planner.UnmatchedRules(g, forecasts); d != nil {
		t.Fatal(d)
	}
	for _, f := range forecasts {
		if f != nil {
			f.PeakMemory = 0 // depends on the number of cores
		}
	}
	var out bytes.Buffer
	planner.View{Graph: g, Steps: all, Forecasts: forecasts}.Text(&out)
	for _, s := range g.Steps {
		if a, ok := s.Action.(interface{ Tensors() []convert.Tensor }); ok {
			out.WriteString("\n" + s.Name + "\n")
			for _, x := range convert.Fold(a.Tensors()) {
				fmt.Fprintf(&out, "  %s  %s  %.4g bits  %d bytes  %s (%s)\n", x.Param, x.Made(), x.Bits, x.Bytes, x.Rule, x.RulePos)
			}
		}
	}
	return out.Bytes()
}

// headerOnly makes a model folder whose weight file has a header and the right size, and no data.
func headerOnly(t *testing.T, config, dir string) {
	t.Helper()
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := jsonx.ParseObject(data)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := llama.ParseConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	var specs []safetensors.Spec
	for _, p := range parsed.Params() {
		specs = append(specs, safetensors.Spec{Name: p.Name, DType: "BF16", Shape: p.Shape})
	}
	shards, err := safetensors.Layout(specs, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"config.json": data, "tokenizer.json": []byte("{}"), shards[0].Name: shards[0].Header} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, shards[0].Name), shards[0].Size); err != nil {
		t.Fatal(err)
	}
}
