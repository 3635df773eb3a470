package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/spec"
)

type llamaValidateCmd struct {
	MLXPath   string   `name:"mlx-path" required:"" placeholder:"DIR" help:"The converted model: an MLX folder."`
	HFPath    string   `name:"hf-path" aliases:"model" placeholder:"MODEL" help:"What it was converted from, a folder or org/name on the Hub; without it the folder's own weights are run in another implementation."`
	Prompts   []string `sep:"none" placeholder:"TEXT" help:"What is compared on; several may follow. Default: three short ones."`
	More      []string `arg:"" optional:"" sep:"none" hidden:""`
	Runtime   string   `default:"auto" enum:"auto,builtin,mlx,torch" help:"What runs the MLX folder: auto, builtin, mlx, torch (default auto)."`
	Reference string   `default:"auto" enum:"auto,torch,builtin,mlx" help:"What it is compared with: torch (default where PyTorch is installed), builtin in float64, mlx."`
	MaxTokens int      `short:"n" default:"64" placeholder:"N" help:"Tokens of text in which mismatches are counted (default 64)."`
	validateFlags
}

func (llamaValidateCmd) Help() string {
	return `Compares a converted model with PyTorch on prompts: the largest error of any logit, the tokens that would be chosen otherwise, and both texts where they part.

  mlxbuild llama validate --mlx-path smollm2-4bit --hf-path models/SmolLM2-135M-Instruct \
    --prompts "The quick brown fox" "In a galaxy far far away"

An MLX folder that is not quantized must agree with PyTorch to 1e-4 (warning: 1e-5), relative to the largest logit. A quantized one has other weights: it is judged by the KL divergence from
the original, by what its precision usually costs.

Exit codes: ` + exitHelp()
}

// defaultPrompts are those of the program that this one grew from.
var defaultPrompts = []string{"The quick brown fox", "In a galaxy far far away", "def fibonacci(n):"}

func (c llamaValidateCmd) Run(a *app) error {
	prompts, err := givenPrompts(c.Prompts, c.More)
	if err != nil {
		return err
	}
	if len(prompts) == 0 {
		prompts = defaultPrompts
	}
	if c.MaxTokens < 1 {
		return &fault{code: exitUsage, msg: "--max-tokens must be at least 1"}
	}
	if err := needModels(c.MLXPath, c.HFPath); err != nil {
		return err
	}
	recipe, err := c.recipe(a, prompts)
	if err != nil {
		return err
	}
	p, err := a.newProject()
	if err != nil {
		return err
	}
	defer p.close()
	if err := a.plan(p, []*spec.Recipe{recipe}, nil); err != nil {
		return err
	}
	if err := a.lockMissing(p); err != nil {
		return err
	}
	return a.validate(p, executor.Options{Jobs: 1}, c.validateFlags, true)
}

// recipe is the validation as a recipe in memory, of the folders as they are.
func (c llamaValidateCmd) recipe(a *app, prompts []string) (*spec.Recipe, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nmodels:\n  mlx: {source: %q}\n", "path:"+filepath.ToSlash(c.MLXPath))
	if c.HFPath != "" {
		fmt.Fprintf(&b, "  hf: {source: %q}\n", sourceOf(c.HFPath))
	}
	kind := spec.Parity
	if c.HFPath != "" {
		class, err := validate.ClassOf(c.MLXPath)
		if err != nil {
			return nil, &fault{code: exitBadInput, msg: err.Error(), hints: hintsOf(err)}
		}
		if class.Bits > 0 {
			kind = spec.Fidelity
		}
	}
	fmt.Fprintf(&b, "validate:\n  prompts:\n    kind: %s\n    targets: [mlx]\n    runtime: %s\n    max_tokens: %d\n    prompts:\n", kind, c.Runtime, c.MaxTokens)
	for _, p := range prompts {
		fmt.Fprintf(&b, "      - %s\n", strconv.Quote(p))
	}
	reference := c.Reference
	if reference == "auto" {
		reference = ""
		if a.runtimes.Has("torch") {
			reference = "torch"
		} else if kind == spec.Fidelity {
			reference = "builtin"
		}
	}
	if reference != "" {
		fmt.Fprintf(&b, "    reference: {runtime: %s}\n", reference)
	}
	r, diags := spec.LoadBytes(memoryRecipe, ".", []byte(b.String()), spec.Options{})
	if diags.HasErrors() {
		return nil, diags
	}
	v := &r.Validations[0]
	v.Folder = "mlx"
	if c.HFPath != "" {
		v.Reference.Folder = "hf"
	}
	return r, nil
}
