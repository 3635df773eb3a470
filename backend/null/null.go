// Package null is a runtime without a device: it computes nothing, and what it answers is known beforehand, text and times.
//
// A text goes on by counting up: after id n comes n+1, after the last id 0, which ends a text. Each token of a prompt takes a millisecond and each new token another, on a clock of its own
// that waits for nobody. It is there for tests of what calls runtimes.
package null

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
)

// What every model of this runtime is.
const (
	Vocabulary = 1024
	Hidden     = 8
	Context    = 512
	Weights    = 1 << 20
	Tick       = time.Millisecond
)

// Runtime answers by rule.
type Runtime struct{}

// New returns the runtime.
func New() backend.Runtime { return Runtime{} }

// Name of the runtime.
func (Runtime) Name() string { return "null" }

// ID names the rule.
func (Runtime) ID(context.Context) (string, error) { return "null/1", nil }

// Load wants a folder, and reads nothing of it.
func (Runtime) Load(ctx context.Context, dir string, compute backend.Compute) (backend.Model, error) {
	if compute != backend.Float32 && compute != backend.Fast { // it stands for the built-in runtime too, whose default is Fast
		return nil, &backend.ComputeError{Runtime: "null", Asked: compute, Has: []backend.Compute{backend.Float32, backend.Fast}}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", dir)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &model{}, nil
}

type model struct {
	mu     sync.Mutex
	closed bool
}

func (m *model) Info() backend.Info {
	return backend.Info{VocabSize: Vocabulary, ContextLength: Context, HiddenSize: Hidden, EOS: []int32{0}, WeightsBytes: Weights}
}

// check is what all calls begin with.
func (m *model) check(ctx context.Context, tokens []int32, extra int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return backend.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return backend.CheckTokens(m.Info(), tokens, extra)
}

func next(id int32) int32 { return (id + 1) % Vocabulary }

// Logits are 1 for the id that comes next and 0 for all others.
func (m *model) Logits(ctx context.Context, tokens []int32, positions []int) ([][]float32, error) {
	if err := m.check(ctx, tokens, 0); err != nil {
		return nil, err
	}
	if err := backend.CheckPositions(tokens, positions); err != nil {
		return nil, err
	}
	if positions == nil {
		for i := range tokens {
			positions = append(positions, i)
		}
	}
	out := make([][]float32, len(positions))
	for i, p := range positions {
		out[i] = make([]float32, Vocabulary)
		out[i][next(tokens[p])] = 1
	}
	return out, nil
}

// Hidden has each token's id in all places.
func (m *model) Hidden(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := m.check(ctx, tokens, 0); err != nil {
		return nil, err
	}
	out := make([]float32, 0, len(tokens)*Hidden)
	for _, id := range tokens {
		for range Hidden {
			out = append(out, float32(id))
		}
	}
	return out, nil
}

// Layers says of a model with two blocks that they change nothing.
func (m *model) Layers(ctx context.Context, tokens []int32) ([][]float32, error) {
	h, err := m.Hidden(ctx, tokens)
	return [][]float32{h, h, h}, err
}

// Generate counts up, whatever temperature and seed are.
func (m *model) Generate(ctx context.Context, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) ([]backend.Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if len(prompts) == 0 {
		return nil, &backend.InputError{What: "there are no prompts"}
	}
	for _, p := range prompts {
		if err := m.check(ctx, p, 1); err != nil {
			return nil, err
		}
	}
	out := make([]backend.Result, len(prompts))
	for i, p := range prompts {
		if err := count(ctx, &out[i], i, p, o, o.Stops(m.Info()), emit); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func count(ctx context.Context, r *backend.Result, i int, prompt []int32, o backend.GenerateOptions, stops []int32, emit func(backend.Event) error) error {
	r.PromptTokens = len(prompt)
	at := time.Duration(len(prompt)) * Tick
	for id := next(prompt[len(prompt)-1]); r.FinishReason == ""; id = next(id) {
		if err := ctx.Err(); err != nil {
			return err
		}
		at += Tick
		r.Tokens, r.At = append(r.Tokens, id), append(r.At, at)
		switch {
		case slices.Contains(stops, id):
			r.FinishReason = backend.FinishStop
		case len(r.Tokens) == o.MaxTokens || len(prompt)+len(r.Tokens) == Context:
			r.FinishReason = backend.FinishLength
		}
		if emit == nil {
			continue
		}
		if err := emit(backend.Event{Sequence: i, Token: id, At: at}); err != nil {
			return err
		}
	}
	return nil
}

// Memory is the weights in every phase.
func (m *model) Memory(phase string) int64 {
	switch phase {
	case backend.PhaseLoad, backend.PhasePrefill, backend.PhaseDecode:
		return Weights
	}
	return 0
}

func (m *model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
