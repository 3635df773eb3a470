package builtin

import (
	"context"
	"fmt"
	"sync"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// gate is what the models of both arithmetics have in common: what they are, one call at a time, and the end.
type gate struct {
	info    backend.Info
	weights *weights
	pool    *tensor.Pool

	busy   chan struct{} // holds a value while a call computes
	closed bool          // guarded by busy

	mu   sync.Mutex
	used map[string]int64 // by phase
}

func newGate(s *settings, w *weights, workers int) *gate {
	sizes := s.model.Sizes()
	return &gate{weights: w, pool: tensor.NewPool(workers), busy: make(chan struct{}, 1), used: map[string]int64{},
		info: backend.Info{VocabSize: sizes.Vocabulary, ContextLength: sizes.Positions, HiddenSize: sizes.Hidden, EOS: s.eos, WeightsBytes: w.bytes}}
}

// Info describes the model.
func (g *gate) Info() backend.Info { return g.info }

// Memory counts weights, mapped or laid out, buffers, and keys and values.
func (g *gate) Memory(phase string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used[phase]
}

// record what a phase uses beside the weights.
func (g *gate) record(phase string, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used[phase] = max(g.used[phase], g.weights.bytes+bytes)
}

// enter waits until no other call computes.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.closed {
		g.leave()
		return backend.ErrClosed
	}
	return nil
}

func (g *gate) leave() { <-g.busy }

// Close waits for a call that computes, ends the workers and the mapping.
func (g *gate) Close() error {
	g.busy <- struct{}{}
	defer g.leave()
	if g.closed {
		return nil
	}
	g.closed = true
	g.pool.Close()
	return g.weights.close()
}

// check judges the tokens of a call.
func (g *gate) check(tokens []int32, extra int) error {
	if err := backend.CheckTokens(g.info, tokens, extra); err != nil {
		return err
	}
	if len(tokens)+extra > maxPositions {
		return &backend.InputError{What: fmt.Sprintf("%d tokens are more than the %d that this runtime can place", len(tokens)+extra, maxPositions)}
	}
	return nil
}

// limit is the number of tokens that a text may have.
func (g *gate) limit() int {
	if g.info.ContextLength > 0 {
		return min(g.info.ContextLength, maxPositions)
	}
	return maxPositions
}

// NotFiniteError says that a model computed NaN or an infinity: its weights are broken, or their numbers too large for float32, or for what keys and values are kept in.
type NotFiniteError struct {
	Token    int32 // the id whose logit it is
	Position int   // in the text
	Value    float32
	Halves   bool // keys and values were kept in float16
}

func (e *NotFiniteError) Error() string {
	why := "too large for float32"
	if e.Halves {
		why = "make keys or values that are too large for float16, in which fast keeps them"
	}
	return fmt.Sprintf("the logit of token %d after position %d is %v: the weights are broken, or %s", e.Token, e.Position, e.Value, why)
}

// Hint says what to write instead. A recipe's generate has no such key.
func (e *NotFiniteError) Hint() string {
	if e.Halves {
		return "compute in float32: `mlxbuild generate --compute float32`, or `compute: float32` of validate and benchmark"
	}
	return ""
}

// NotFinite says what was found, for those to whom it is a finding and not a failure.
func (e *NotFiniteError) NotFinite() string { return e.Error() }

// finite refuses logits that are not numbers.
func finite(logits []float32, position int, kept tensor.KVType) error {
	if _, all := tensor.Largest(logits); all {
		return nil
	}
	for id, v := range logits {
		if v-v != 0 {
			return &NotFiniteError{int32(id), position, v, kept == tensor.KVFloat16}
		}
	}
	return nil
}
