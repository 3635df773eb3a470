package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch/all"
)

// llamaCmd keeps the commands of the Python program pytorch_to_mlx.
type llamaCmd struct {
	Convert   llamaConvertCmd   `cmd:"" help:"Convert a Hugging Face LLaMA model to MLX."`
	Validate  llamaValidateCmd  `cmd:"" help:"Compare a converted model with PyTorch on prompts."`
	Benchmark llamaBenchmarkCmd `cmd:"" help:"Time a converted model against PyTorch."`
	List      llamaListCmd      `cmd:"" help:"List the LLaMA-family models that are supported."`
}

type llamaConvertCmd struct {
	HFPath   string `name:"hf-path" aliases:"model" required:"" placeholder:"MODEL" help:"The model: a Hugging Face folder, or org/name on the Hub."`
	MLXPath  string `name:"mlx-path" aliases:"output" default:"mlx_model" placeholder:"DIR" help:"Where to write (also --output; default mlx_model)."`
	Quantize bool   `short:"q" help:"Quantize."`
	convertFlags
}

func (llamaConvertCmd) Help() string {
	return `mlxbuild convert under the old command's name:

  mlxbuild llama convert --hf-path models/SmolLM2-135M-Instruct --output smollm2-4bit --quantize --q-bits 4`
}

func (c llamaConvertCmd) Run(a *app) error {
	return a.convert(conversion{command: "llama convert", hfPath: c.HFPath, out: c.MLXPath, quantize: c.Quantize, convertFlags: c.convertFlags})
}

// givenPrompts are those of --prompts "a" "b": what follows the first comes as arguments.
func givenPrompts(flag, more []string) ([]string, error) {
	if len(more) > 0 && len(flag) == 0 {
		return nil, &fault{code: exitUsage, msg: fmt.Sprintf("unexpected argument %s", more[0]), hints: []string{`prompts stand behind --prompts: --prompts "a" "b"`}}
	}
	prompts := append(flag, more...)
	for i, p := range prompts {
		if strings.TrimSpace(p) == "" {
			return nil, &fault{code: exitUsage, msg: fmt.Sprintf("prompt %d is empty", i+1)}
		}
	}
	return prompts, nil
}

// needModels says early that a folder is none of a model's; "" names none.
func needModels(mlx, hf string) error {
	for _, f := range []struct{ flag, dir string }{{"--mlx-path", mlx}, {"--hf-path", hf}} {
		if f.dir == "" || f.flag == "--hf-path" && isOnHub(f.dir) {
			continue
		}
		if _, err := os.Stat(filepath.Join(f.dir, "config.json")); err != nil {
			return &fault{code: exitBadInput, msg: fmt.Sprintf("%s %s is not a model folder: it has no config.json", f.flag, f.dir), hints: []string{"mlxbuild llama convert --hf-path DIR --output DIR makes an MLX folder"}}
		}
	}
	return nil
}

type llamaListCmd struct{}

func (llamaListCmd) Help() string {
	return `Each model_type of config.json that mlxbuild converts and runs, and what it was checked against.`
}

// namedModels are models that recipes in this repository build.
var namedModels = []struct{ Name, Parameters, Recipe, Checked string }{
	{"SmolLM2-135M", "135 M", "recipes/smollm2.yaml", "real weights: every tensor against mlx_lm.convert, logits against PyTorch"},
	{"Llama-3.2-1B", "1.2 B", "recipes/llama-3.2-1b.yaml", "its shape with random weights; the plan from its headers"},
	{"tiny-stories", "0.7 M", "recipes/quickstart.yaml", "real weights: every tensor against mlx_lm.convert, logits against PyTorch"},
}

func (llamaListCmd) Run(a *app) error {
	type supported struct {
		ModelType string `json:"model_type"`
		Arch      string `json:"architecture"`
		Checked   string `json:"checked"`
	}
	var types []supported
	for _, arch := range all.Archs() {
		for _, t := range arch.ModelTypes {
			types = append(types, supported{t, arch.Name, arch.Checked[t]})
		}
	}
	sort.SliceStable(types, func(i, j int) bool { return types[i].Arch < types[j].Arch })
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "model_types": types, "models": namedModels})
	}
	rows := [][]string{{"MODEL_TYPE", "CHECKED"}}
	for _, t := range types {
		rows = append(rows, []string{t.ModelType, t.Checked})
	}
	table(a.stdout, rows)
	fmt.Fprintln(a.stdout)
	rows = [][]string{{"MODEL", "PARAMETERS", "RECIPE", "CHECKED"}}
	for _, m := range namedModels {
		rows = append(rows, []string{m.Name, m.Parameters, m.Recipe, m.Checked})
	}
	table(a.stdout, rows)
	return nil
}
