package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/executor"
	promptpkg "github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/generate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

type generateCmd struct {
	Args        []string `arg:"" sep:"none" name:"target-or-folder" help:"A target of the recipe, or an MLX model folder that starts with ./, ../ or /."`
	Prompt      []string `short:"p" sep:"none" required:"" help:"What the model goes on from; may be given several times."`
	System      string   `help:"System message, for models with a chat template."`
	Raw         bool     `help:"Do not apply the model's chat template."`
	Runtime     string   `default:"auto" enum:"auto,builtin,mlx,torch" help:"What runs the model: auto (mlx where a GPU is, else builtin), builtin, mlx, torch."`
	Compute     string   `default:"auto" enum:"auto,float32,fast,int8,float64,bfloat16,float16" help:"Its arithmetic: auto (fast of builtin, else float32), float32, fast, int8, float64, bfloat16, float16."`
	MaxTokens   int      `short:"n" default:"128" placeholder:"N" help:"Longest answer in tokens (default 128)."`
	Temperature float64  `default:"0" placeholder:"T" help:"0 takes the likeliest token; above, the seed decides (default 0)."`
	TopP        float64  `name:"top-p" default:"1" placeholder:"P" help:"Sample from the likeliest tokens that make up this probability (default 1: all)."`
	MinP        float64  `name:"min-p" default:"0" placeholder:"P" help:"Leave out tokens less likely than this times the likeliest (default 0: none)."`
	Seed        uint64   `default:"0" placeholder:"N" help:"Same seed, same text, on every machine (default 0)."`
	Speculate   bool     `xor:"speculate" help:"Where the text repeats itself, compute several tokens at once: the same text, sooner (default: builtin does, at temperature 0)."`
	NoSpeculate bool     `xor:"speculate" help:"Make one token at a time, to know how fast that is."`
}

func (generateCmd) Help() string {
	return `A target that is not up to date is built first. The chat template is applied when the model has one, as mlx_lm.generate does; --raw goes on from the
prompt as it stands.

  mlxbuild generate smollm2/q4 -p "Why is the sky blue?"
  mlxbuild generate ./models/my-mlx-model --raw -p "Once upon a time" --temperature 0.8 --seed 7`
}

func (c generateCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	dir, err := c.folder(a)
	if err != nil {
		return err
	}
	runtime := a.runtimes.Resolve(c.Runtime)
	compute := generate.Compute(runtime)
	if c.Compute != "auto" {
		compute = backend.Compute(c.Compute)
	}
	speculate := generate.Speculates(runtime, compute, c.Temperature)
	if c.Speculate && !speculate {
		return &fault{code: exitUsage, msg: fmt.Sprintf("--speculate is for the runtime builtin in another arithmetic than float64, and this is %s in %s", runtime, compute)}
	}
	speculate = speculate && !c.NoSpeculate
	s, err := generate.Open(a.ctx, a.runtimes.Find(runtime), dir, compute)
	var missing *backend.MissingError
	if errors.As(err, &missing) {
		return err
	}
	if err != nil {
		return &fault{code: exitBadInput, msg: err.Error(), hints: inFlags(hintsOf(err))}
	}
	defer s.Close()
	type answer struct {
		generate.Text
		Seconds    float64 `json:"seconds"`
		FirstToken float64 `json:"ttft_ms"`
		Rate       float64 `json:"decode_tok_s"`
	}
	var answers []answer
	for _, prompt := range c.Prompt {
		t, err := c.one(a, s, prompt, speculate)
		if a.ctx.Err() != nil {
			return executor.ErrInterrupted
		}
		if hints := hintsOf(err); err != nil && len(hints) > 0 {
			return &fault{code: exitCode(err), msg: err.Error(), hints: inFlags(hints)}
		}
		if err != nil {
			return err
		}
		answers = append(answers, answer{t.Text, t.Total.Seconds(), t.FirstToken.Seconds() * 1000, decodeRate(t)})
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "folder": dir, "runtime": runtime, "compute": compute, "speculate": speculate, "answers": answers})
	}
	return nil
}

// inFlags are hints in the command line's words, where they are in a recipe's.
func inFlags(hints []string) (out []string) {
	for _, h := range hints {
		if compute, ok := strings.CutPrefix(h, "compute: "); ok {
			h = "--compute " + compute
		}
		out = append(out, h)
	}
	return out
}

func (c generateCmd) check() error {
	switch {
	case c.MaxTokens < 1:
		return &fault{code: exitUsage, msg: "--max-tokens must be at least 1"}
	case c.Temperature < 0 || c.Temperature > 100:
		return &fault{code: exitUsage, msg: "--temperature must be between 0 and 100"}
	case c.TopP <= 0 || c.TopP > 1:
		return &fault{code: exitUsage, msg: "--top-p must be above 0 and at most 1"}
	case c.MinP < 0 || c.MinP > 1:
		return &fault{code: exitUsage, msg: "--min-p must be between 0 and 1"}
	case c.Temperature > 0 && c.Speculate:
		return &fault{code: exitUsage, msg: "--speculate needs --temperature 0: drafts are compared with the likeliest token"}
	}
	return nil
}

// one writes the text as it comes, and a line of figures on standard error.
func (c generateCmd) one(a *app, s *generate.Session, prompt string, speculate bool) (generate.Timed, error) {
	chat := s.HasTemplate() && !c.Raw
	if c.System != "" && !chat {
		return generate.Timed{}, &fault{code: exitUsage, msg: "--system needs a chat template, and none is used here"}
	}
	emit := func(text string) error {
		_, err := fmt.Fprint(a.stdout, text)
		return err
	}
	if a.json {
		emit = nil
	}
	t, err := s.Text(a.ctx, spec.Prompt{Text: prompt}, generate.Options{Prompt: promptpkg.Options{Chat: chat, System: c.System},
		Generate: backend.GenerateOptions{MaxTokens: c.MaxTokens, Temperature: c.Temperature, TopP: c.TopP, MinP: c.MinP, Seed: c.Seed, Speculate: speculate}}, emit)
	if a.json || err != nil {
		return t, err
	}
	fmt.Fprintln(a.stdout)
	if !a.quiet {
		a.term.Line("%s", c.figures(t))
	}
	return t, nil
}

// figures of a text, in a line.
func (c generateCmd) figures(t generate.Timed) string {
	line := fmt.Sprintf("%s, first token after %s; %s", planner.Count(t.PromptTokens, "prompt token", "prompt tokens"), seconds(t.FirstToken.Seconds()), planner.Count(t.Tokens, "token", "tokens"))
	if rate := decodeRate(t); rate > 0 {
		line += fmt.Sprintf(" at %.1f tok/s", rate)
	}
	if t.FinishReason == backend.FinishLength && t.Tokens < c.MaxTokens {
		line += fmt.Sprintf(", and the model's context of %d tokens is full", t.PromptTokens+t.Tokens)
	}
	return line
}

// decodeRate is the tokens after the first over the time after the first.
func decodeRate(t generate.Timed) float64 {
	rest := (t.Total - t.FirstToken).Seconds()
	if t.Tokens < 2 || rest <= 0 {
		return 0
	}
	return float64(t.Tokens-1) / rest
}

// folder finds the model: a folder as it is, a target after making it.
func (c generateCmd) folder(a *app) (string, error) {
	if len(c.Args) == 1 && isFolderArg(c.Args[0]) {
		if info, err := os.Stat(c.Args[0]); err != nil || !info.IsDir() {
			return "", &fault{code: exitBadInput, msg: "there is no folder " + c.Args[0]}
		}
		return c.Args[0], nil
	}
	p, err := a.open(c.Args)
	if err != nil {
		var f *fault
		if errors.As(err, &f) && len(c.Args) == 1 && isDir(c.Args[0]) {
			f.hints = []string{"to take the folder, write ./" + c.Args[0]}
		}
		return "", err
	}
	defer p.close()
	var picked []step.ID
	for _, id := range p.want {
		if p.graph.Steps[id].Kind == "convert" {
			picked = append(picked, id)
		}
	}
	if len(picked) != 1 {
		return "", &fault{code: exitUsage, msg: fmt.Sprintf("generate takes one target, and this picks %d", len(picked)), hints: []string{"mlxbuild list shows the targets"}}
	}
	p.want = picked
	quiet := *a
	quiet.json = false
	if _, err := quiet.buildQuietly(p); err != nil {
		return "", err
	}
	return p.graph.Steps[picked[0]].Folder, nil
}

// buildQuietly builds and says only what it made, not that there was nothing to do.
func (a app) buildQuietly(p *project) ([]executor.Outcome, error) {
	standings := executor.Examine(p.graph, p.want, p.cache)
	if standings[p.want[0]].State == executor.StandsUpToDate {
		return nil, nil
	}
	return a.build(p, executor.Options{Jobs: 1})
}

func isFolderArg(s string) bool {
	return filepath.IsAbs(s) || s == "." || s == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || strings.HasPrefix(s, `.\`)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
