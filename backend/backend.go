// Package backend is the seam between mlxbuild and what runs a model: a Runtime loads a folder in MLX format, a Model computes with it.
//
// Runtimes get token ids, never text, and decide nothing: what to run, with what parameters and on which machine is said by the caller. Every runtime passes backendtest. Where a
// runtime is asked for something it cannot do it returns an error; it never does something similar instead.
package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Compute names the arithmetic that a model is run in.
type Compute string

// The arithmetics there are; a runtime has some of them. Each is that of activations and sums, whatever the weights are stored as.
const (
	Float64  Compute = "float64"
	Float32  Compute = "float32"
	BFloat16 Compute = "bfloat16"
	Float16  Compute = "float16"
	Fast     Compute = "fast" // builtin: activations as 15-bit whole numbers where weights are codes, else float32
	Int8     Compute = "int8" // builtin: activations as 8-bit whole numbers where weights are codes
)

// Phases that Model.Memory knows.
const (
	PhaseLoad    = "load"    // the most that was in use until the model was there
	PhasePrefill = "prefill" // the most that was in use while prompts were read
	PhaseDecode  = "decode"  // the most that was in use while tokens were made
)

// Runtime runs models of one kind of program or library.
type Runtime interface {
	// Name as recipes have it: "builtin", "mlx".
	Name() string
	// ID has everything of the runtime that can change a result, versions and device included; it goes into keys. The error says what is missing on this machine.
	ID(ctx context.Context) (string, error)
	// Load opens a model folder in MLX format. The folder must stay as it is until Close. An arithmetic that the runtime does not have is a *ComputeError.
	Load(ctx context.Context, dir string, compute Compute) (Model, error)
}

// Model is a loaded model. Its methods may be called from several goroutines; calls wait for one another. After Close they return ErrClosed.
//
// Token ids from outside the vocabulary, an empty list of tokens, and more tokens than the model has positions are a *InputError, and nothing is computed.
type Model interface {
	Info() Info
	// Logits reads tokens as one text and returns the logits after the tokens at these positions (from 0; nil: all), [len(positions)][vocabulary].
	Logits(ctx context.Context, tokens []int32, positions []int) ([][]float32, error)
	// Hidden reads tokens as one text and returns what comes out of the last norm, [len(tokens) * hidden size] row by row.
	Hidden(ctx context.Context, tokens []int32) ([]float32, error)
	// Layers reads tokens as one text and returns what runs through the model: what enters the first block, then what leaves each, [blocks + 1][len(tokens) * hidden size].
	Layers(ctx context.Context, tokens []int32) ([][]float32, error)
	// Generate continues each prompt. emit, when not nil, gets every token as it comes, on the calling goroutine; its error ends the call and is returned. What a prompt is continued
	// with depends on that prompt and the options only, not on the other prompts.
	Generate(ctx context.Context, prompts [][]int32, o GenerateOptions, emit func(Event) error) ([]Result, error)
	// Memory is the most bytes that a phase has needed so far, mapped weights included; 0 when the phase has not been or is unknown.
	Memory(phase string) int64
	// Close frees the model. Closing again does nothing.
	Close() error
}

// Info describes a loaded model.
type Info struct {
	VocabSize     int
	ContextLength int // positions; 0 when config.json does not say
	HiddenSize    int
	EOS           []int32 // the ids that end a text
	WeightsBytes  int64   // of all weight tensors, as stored
}

// GenerateOptions say how prompts are continued. Filters and temperature follow mlx_lm/sample_utils.py: top-p, then min-p, on the probabilities at temperature 1, then the temperature.
type GenerateOptions struct {
	MaxTokens   int     // for each prompt; at least 1
	Temperature float64 // 0: always the likeliest token, of equals the lowest id
	TopP        float64 // kept are the likeliest tokens up to this probability; off outside (0, 1)
	MinP        float64 // tokens less likely than this times the likeliest are left out; 0 is off
	Seed        uint64  // same seed, same text, on every machine
	Stop        []int32 // nil: Info().EOS
	IgnoreEOS   bool    // never stop at a token
	Speculate   bool    // at temperature 0: compute several tokens at once where the text repeats itself; they are the same tokens. A runtime that cannot refuses
}

// Check the options. Its error is a *InputError.
func (o GenerateOptions) Check() error {
	switch {
	case o.MaxTokens < 1:
		return &InputError{fmt.Sprintf("max_tokens is %d; it must be at least 1", o.MaxTokens)}
	case !(o.Temperature >= 0 && o.Temperature <= 1e6):
		return &InputError{fmt.Sprintf("temperature is %v; it must be at least 0", o.Temperature)}
	case !(o.TopP >= 0 && o.TopP <= 1):
		return &InputError{fmt.Sprintf("top_p is %v; it must be between 0 and 1", o.TopP)}
	case !(o.MinP >= 0 && o.MinP <= 1):
		return &InputError{fmt.Sprintf("min_p is %v; it must be between 0 and 1", o.MinP)}
	case o.Speculate && o.Temperature > 0:
		return &InputError{fmt.Sprintf("speculation needs temperature 0, where one token is the right one; it is %v", o.Temperature)}
	}
	return nil
}

// Stops are the ids that end a text under these options.
func (o GenerateOptions) Stops(info Info) []int32 {
	switch {
	case o.IgnoreEOS:
		return nil
	case o.Stop != nil:
		return o.Stop
	}
	return info.EOS
}

// Event is one token of one prompt's continuation.
type Event struct {
	Sequence int           // index of the prompt
	Token    int32         // the token that stops a text is an event too
	At       time.Duration // since Generate was called
}

// Reasons why a text ended.
const (
	FinishStop   = "stop"   // its last token is one that stops
	FinishLength = "length" // MaxTokens, or the model's context, is used up
)

// Result is the continuation of one prompt.
type Result struct {
	Tokens       []int32 // with the token that stopped it
	FinishReason string
	At           []time.Duration // when each token was there, since Generate was called
	PromptTokens int
}

// ErrClosed is returned by a model after Close.
var ErrClosed = errors.New("the model is closed")

// InputError says what is wrong with the tokens or options of a call.
type InputError struct{ What string }

func (e *InputError) Error() string { return e.What }

// ComputeError says that a runtime does not have an arithmetic.
type ComputeError struct {
	Runtime string
	Asked   Compute
	Has     []Compute
}

// Hint says what to write instead.
func (e *ComputeError) Hint() string { return fmt.Sprintf("compute: %s", e.Has[0]) }

func (e *ComputeError) Error() string {
	has := make([]string, len(e.Has))
	for i, c := range e.Has {
		has[i] = string(c)
	}
	return fmt.Sprintf("the %s runtime cannot compute in %q; it has %s", e.Runtime, string(e.Asked), strings.Join(has, ", "))
}

// MissingError says that a runtime is not on this machine, or not whole.
type MissingError struct {
	Runtime string
	What    string // what was looked for and where, in a sentence
	Do      string // what to do about it
	Until   string // a file that is not there: it is missing at least until that comes; "" where more decides
}

func (e *MissingError) Error() string { return "the " + e.Runtime + " runtime is missing: " + e.What }

// Hint says what to do.
func (e *MissingError) Hint() string { return e.Do }

// CheckTokens judges tokens against a model, for runtimes. extra is the number of tokens that will follow at least.
func CheckTokens(info Info, tokens []int32, extra int) error {
	if len(tokens) == 0 {
		return &InputError{"there are no tokens to start from"}
	}
	for i, id := range tokens {
		if id < 0 || int(id) >= info.VocabSize {
			return &InputError{fmt.Sprintf("token %d is id %d; the model has the ids 0 to %d", i, id, info.VocabSize-1)}
		}
	}
	if what := fmt.Sprintf("%d tokens", len(tokens)); info.ContextLength > 0 && len(tokens)+extra > info.ContextLength {
		if extra > 0 {
			what += fmt.Sprintf(", and %d to follow,", extra)
		}
		return &InputError{fmt.Sprintf("%s do not fit the model's context of %d", what, info.ContextLength)}
	}
	return nil
}

// CheckPositions judges the positions that Logits is asked for.
func CheckPositions(tokens []int32, positions []int) error {
	for _, p := range positions {
		if p < 0 || p >= len(tokens) {
			return &InputError{fmt.Sprintf("position %d is outside the %d tokens", p, len(tokens))}
		}
	}
	return nil
}
