package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/spec"
)

type llamaBenchmarkCmd struct {
	MLXPath   string   `name:"mlx-path" required:"" placeholder:"DIR" help:"The converted model: an MLX folder."`
	HFPath    string   `name:"hf-path" aliases:"model" placeholder:"MODEL" help:"What it was converted from, a folder or org/name on the Hub, which PyTorch runs; without it PyTorch runs the MLX folder's own weights."`
	Prompts   []string `sep:"none" placeholder:"TEXT" help:"Texts to read; several may follow. Default: random tokens, as many as --shape says."`
	More      []string `arg:"" optional:"" sep:"none" hidden:""`
	Batch     []int    `default:"1" placeholder:"N" help:"Texts that are made at once: 1,4,8 (default 1)."`
	Shape     []string `default:"128+64" placeholder:"P+N" help:"Tokens of the prompt + tokens that are generated (default 128+64)."`
	MaxTokens int      `short:"n" placeholder:"N" help:"Tokens that are generated, in place of the second number of --shape."`
	Runtime   string   `default:"auto" enum:"auto,builtin,mlx" help:"What runs the MLX folder: auto, builtin, mlx (default auto)."`
	Compute   string   `name:"torch-compute" default:"float32" enum:"float32,bfloat16,float16" help:"PyTorch's arithmetic: float32 (default), bfloat16, float16."`
	Alone     bool     `help:"Time the MLX side only."`
	Timeout   string   `default:"10m" placeholder:"TIME" help:"Longest time of a cell (default 10m)."`
	Print     bool     `name:"print-recipe" help:"Print the recipe that this stands for, and do nothing."`
	benchmarkFlags
}

func (llamaBenchmarkCmd) Help() string {
	return `Times a converted model and PyTorch in turn, A B B A, on the same tokens: tokens a second, time to first token, memory, throughput of batches, and the ratio with its interval.

  mlxbuild llama benchmark --mlx-path smollm2-4bit --hf-path models/SmolLM2-135M-Instruct
  mlxbuild llama benchmark --mlx-path smollm2-4bit --hf-path models/SmolLM2-135M-Instruct --batch 1,4,8 --json
  mlxbuild llama benchmark --mlx-path smollm2-4bit --prompts "The quick brown fox" "In a galaxy far far away" --quick

Exit codes: ` + exitHelp()
}

func (c llamaBenchmarkCmd) Run(a *app) error {
	a.quick = c.Quick
	prompts, err := givenPrompts(c.Prompts, c.More)
	if err != nil {
		return err
	}
	if err := needModels(c.MLXPath, c.HFPath); err != nil && !c.Print {
		return err
	}
	text := c.recipeText(prompts)
	if c.Print {
		fmt.Fprint(a.stdout, text)
		return nil
	}
	recipe, diags := spec.LoadBytes(memoryRecipe, ".", []byte(text), spec.Options{})
	if diags.HasErrors() {
		return &fault{code: exitUsage, msg: diags[0].Msg, hints: diags[0].Hints}
	}
	b := &recipe.Benchmarks[0]
	b.Folders = true
	for _, p := range prompts {
		b.Prompts = append(b.Prompts, spec.Prompt{Text: p})
	}
	if !c.Alone {
		if err := a.needTorch(); err != nil {
			return err
		}
		b.Versus = &spec.Rival{Target: c.mlxName(), Runtime: "torch", Compute: c.Compute}
		if c.HFPath != "" {
			b.Versus.Target = c.hfName()
		}
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
	return a.benchmark(p, executor.Options{Jobs: 1, KeepGoing: true}, c.benchmarkFlags)
}

// mlxName and hfName are what the folders are called in tables: as they are on disk.
func (c llamaBenchmarkCmd) mlxName() string { return modelName(c.MLXPath, "mlx") }

func (c llamaBenchmarkCmd) hfName() string {
	if name := modelName(c.HFPath, "hf"); name != c.mlxName() {
		return name
	}
	return c.mlxName() + "-hf"
}

var notInNames = lazyregexp.New(`[^A-Za-z0-9._+-]+`)

func modelName(dir, otherwise string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	name := strings.TrimLeft(notInNames().ReplaceAllString(filepath.Base(dir), "-"), "-._+")
	if name == "" || len(name) > 90 {
		return otherwise
	}
	return name
}

// needTorch says early that the other side is missing.
func (a *app) needTorch() error {
	_, err := a.runtimes.ID("torch")
	if missing, ok := err.(*backend.MissingError); ok {
		return &fault{code: exitMissing, msg: missing.Error(), hints: []string{missing.Hint(), "--alone times the MLX side without PyTorch"}}
	}
	return err
}

// recipeText is the command as a recipe.
func (c llamaBenchmarkCmd) recipeText(prompts []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nmodels:\n  %s: {source: %q}\n", c.mlxName(), "path:"+filepath.ToSlash(c.MLXPath))
	if c.HFPath != "" {
		fmt.Fprintf(&b, "  %s: {source: %q}\n", c.hfName(), sourceOf(c.HFPath))
	}
	shapes := c.Shape
	if c.MaxTokens > 0 || prompts != nil {
		for i, s := range shapes {
			p, n, _ := strings.Cut(s, "+")
			if c.MaxTokens > 0 {
				n = strconv.Itoa(c.MaxTokens)
			}
			shapes[i] = p + "+" + n
		}
	}
	if prompts != nil {
		shapes = shapes[:1] // the prompts say how much is read
	}
	batches := make([]string, len(c.Batch))
	for i, n := range c.Batch {
		batches[i] = strconv.Itoa(n)
	}
	fmt.Fprintf(&b, "benchmark:\n  llama:\n    matrix: {target: %q, runtime: %s, batch: [%s], shape: [%s]}\n    timeout: %s\n", c.mlxName(), c.Runtime, strings.Join(batches, ", "), quoteAll(shapes), c.Timeout)
	return b.String()
}

func quoteAll(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return strings.Join(out, ", ")
}
