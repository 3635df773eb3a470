// Package generate is the step kind that writes text with a built target: one cached step for each generate entry and target.
//
// Text is exact: the same weights, prompts and parameters give the same text on every machine, so it is kept by content like everything else.
package generate

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Code is raised when what this package writes for the same key changes.
const Code = "generate/1"

// Kind plans the generate section.
type Kind struct{ Runtimes *backend.Set }

// Name of the kind.
func (Kind) Name() string { return "generate" }

// Plan adds one step for each entry and each target that its selectors pick.
func (k Kind) Plan(b step.Builder) (diags spec.Diags) {
	for _, g := range b.Recipe().Generate {
		for _, sel := range g.Targets {
			if wrong, hints := step.Unmatched(sel, b.Targets()); wrong != "" {
				diags = append(diags, spec.Diag{Pos: g.Pos, Msg: fmt.Sprintf("generate.%s.targets: %s", g.Name, wrong), Hints: hints})
			}
		}
		runtime := k.Runtimes.Resolve(g.Runtime)
		for _, t := range b.Targets() {
			if !t.Picked(g.Targets) {
				continue
			}
			labels := t.Labels()
			labels["kind"] = "generate"
			name := "generate " + g.Name + " " + t.ID
			b.Add(step.Step{Kind: "generate", Name: name, Target: t.ID, Labels: labels, Pos: g.Pos, Pool: step.PoolCPU,
				Ins: []step.In{{Role: "model", Artifact: b.Artifact(step.TargetArtifact(b.BuildDir(), t.ID)), Held: true}},
				Out: b.Artifact(name + " in " + b.BuildDir()), Action: newAction(k.Runtimes, runtime, g)})
		}
	}
	return diags
}

// action generates the text of one entry on one target.
type action struct {
	runtime backend.Runtime
	id      string // of the runtime
	missing error
	entry   spec.Generate
}

func newAction(runtimes *backend.Set, runtime string, entry spec.Generate) *action {
	a := &action{runtime: runtimes.Find(runtime), entry: entry}
	a.id, a.missing = runtimes.ID(runtime)
	return a
}

// Key holds the prompts themselves, not their names, and only the parameters that matter.
func (a *action) Key(k *cache.KeyWriter) {
	k.Code(append([]string{Code}, prompt.Codes...)...)
	k.Param("runtime", a.runtime.Name())
	k.Param("runtime_id", a.id)
	k.Param("compute", string(Compute(a.runtime.Name())))
	k.Param("chat", a.entry.Prompts.Chat)
	k.Param("system", a.entry.Prompts.System)
	k.Param("prompts", prompt.Values(a.entry.Prompts.Prompts))
	k.Param("max_tokens", a.entry.MaxTokens)
	k.Param("temperature", a.entry.Temperature)
	if a.entry.Temperature > 0 {
		k.Param("top_p", a.entry.TopP)
		k.Param("min_p", a.entry.MinP)
		k.Param("seed", int64(a.entry.Seed))
	}
}

// Where finds the recipe line of a changed parameter.
func (a *action) Where(name, path string) (spec.Pos, bool) {
	if pos, ok := a.entry.Where[name]; ok {
		return pos, true
	}
	return a.entry.Pos, true
}

// besideWeights is about what a model of 135 million parameters takes beside its weights: its tokenizer, activations of a block, keys and values of some thousand tokens.
const besideWeights = 64 << 20

// Prepare has nothing to decide from headers.
func (a *action) Prepare() (*step.Forecast, error) {
	n := len(a.entry.Prompts.Prompts)
	each := ""
	if n != 1 {
		each = " each"
	}
	return &step.Forecast{Summary: fmt.Sprintf("%d %s, up to %d tokens%s on %s", n, plural(n, "prompt"), a.entry.MaxTokens, each, a.runtime.Name()), PeakMemory: besideWeights, Missing: a.missing}, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// Text is what came of one prompt.
type Text struct {
	Prompt       string `json:"prompt"` // as the model got it, template applied
	Text         string `json:"text"`
	PromptTokens int    `json:"prompt_tokens"`
	Tokens       int    `json:"tokens"`
	FinishReason string `json:"finish_reason"` // stop, length
}

// Texts is the record of a generate step.
type Texts struct {
	Runtime string `json:"runtime"`
	Compute string `json:"compute"`
	Texts   []Text `json:"texts"`
}

// Run loads the target from its folder and writes text for every prompt.
func (a *action) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	compute := Compute(a.runtime.Name())
	s, err := Open(ctx, a.runtime, e.Inputs[0].Dir, compute)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	out := Texts{Runtime: a.runtime.Name(), Compute: string(compute)}
	for _, p := range a.entry.Prompts.Prompts {
		text, err := s.Text(ctx, p, Options{Prompt: prompt.Options{Chat: a.entry.Prompts.Chat, System: a.entry.Prompts.System, Now: prompt.SomeDay}, Generate: backend.GenerateOptions{
			MaxTokens: a.entry.MaxTokens, Temperature: a.entry.Temperature, TopP: a.entry.TopP, MinP: a.entry.MinP, Seed: a.entry.Seed,
			Speculate: Speculates(a.runtime.Name(), compute, a.entry.Temperature)}}, nil)
		if err != nil {
			return nil, err
		}
		out.Texts = append(out.Texts, text.Text)
		e.Progress(1)
	}
	value, err := json.Marshal(out)
	return &step.Result{Value: value}, err
}

// Runtimes that write the text.
func (a *action) Runtimes() []string { return []string{a.runtime.Name()} }
