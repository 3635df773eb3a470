package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

type initCmd struct {
	Model string `placeholder:"MODEL" help:"What to start with: a Hugging Face model folder, or org/name on the Hub."`
	File  string `arg:"" optional:"" default:"mlxbuild.yaml" help:"Where to write (default mlxbuild.yaml)."`
}

func (initCmd) Help() string {
	return `Writes a commented recipe. It never overwrites a file.

  mlxbuild init --model models/SmolLM2-135M-Instruct
  mlxbuild init --model HuggingFaceTB/SmolLM2-135M-Instruct`
}

const firstRecipe = `# yaml-language-server: $schema=./recipe.v1.json
# (for completion in editors: mlxbuild schema > recipe.v1.json)
version: 1

models:
  %s: {source: "%s"}

quantizations:
  bf16: {quantize: false}
  q4: {bits: 4, group_size: 64}
  # q4 with more bits where it matters; the first rule that matches decides.
  q4-plus:
    extends: q4
    overrides:
      - {match: [v_proj, down_proj], layers: ["0..1", "-2.."], bits: 6}

prompts:
  smoke:
    - The quick brown fox
    - "def fibonacci(n):"

generate:
  smoke: {targets: ["*/q4"], prompts: smoke, max_tokens: 32}

# Is it right? Against PyTorch where it is installed (mlxbuild runtime install torch), else against the built-in runtime in float64.
validate:
  right: {kind: parity, targets: ["*/bf16"], prompts: smoke}
`

func (c initCmd) Run(a *app) error {
	model, source := c.Model, sourceOf(c.Model)
	if model == "" {
		model = findModel()
		source = "path:" + filepath.ToSlash(model)
	}
	conv := conversion{hfPath: model}
	text := fmt.Sprintf(firstRecipe, conv.model(), source)
	err := atomicfile.Create(c.File, []byte(text), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &fault{code: exitUsage, msg: c.File + " exists already", hints: []string{"name another file: mlxbuild init other.yaml"}}
	}
	if err != nil {
		return err
	}
	a.term.Line("wrote %s with the model %s", c.File, model)
	if _, err := os.Stat(model); err != nil && strings.HasPrefix(source, "path:") {
		a.term.Line("put the folder of a model where `source` says, then run: mlxbuild build")
		return nil
	}
	a.term.Line("next: mlxbuild build%s", argOf(c.File))
	return nil
}

func argOf(file string) string {
	if file == defaultRecipe {
		return ""
	}
	return " " + file
}

// findModel looks for a model folder nearby, so that the first recipe works as it is where there is one.
func findModel() string {
	for _, pattern := range []string{"*/config.json", "models/*/config.json"} {
		found, _ := filepath.Glob(pattern)
		for _, config := range found {
			dir := filepath.Dir(config)
			if weights, _ := filepath.Glob(filepath.Join(dir, "model*.safetensors")); len(weights) > 0 && !strings.Contains(dir, " ") {
				return dir
			}
		}
	}
	return "models/my-model"
}
