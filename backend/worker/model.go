package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
)

// model is a model that a worker has loaded.
type model struct {
	runtime *Runtime
	process *process
	handle  int
	loaded  struct {
		Vocab   int              `json:"vocab"`
		Context int              `json:"context"`
		Hidden  int              `json:"hidden"`
		EOS     []int32          `json:"eos"`
		Weights int64            `json:"weights_bytes"`
		Memory  map[string]int64 `json:"memory"`
	}

	mu     sync.Mutex
	closed bool
	memory map[string]int64
}

// Info describes the model.
func (m *model) Info() backend.Info {
	return backend.Info{VocabSize: m.loaded.Vocab, ContextLength: m.loaded.Context, HiddenSize: m.loaded.Hidden, EOS: m.loaded.EOS, WeightsBytes: m.loaded.Weights}
}

// do runs a call on the worker that holds the model.
func (m *model) do(ctx context.Context, op string, request map[string]any, progress func(json.RawMessage) error, answer any, then func() error) error {
	if err := m.runtime.enter(ctx); err != nil {
		return err
	}
	defer m.runtime.leave()
	if m.isClosed() {
		return backend.ErrClosed
	}
	if m.process.dead() {
		return &Error{Runtime: m.runtime.config.Name, Op: op, Class: "died", Message: "the worker that held the model has ended"}
	}
	request["model"] = m.handle
	if err := m.process.call(ctx, op, request, progress, answer); err != nil {
		return m.explain(err)
	}
	return then()
}

// notFiniteError is a finding about a model, not a failure of the worker.
type notFiniteError struct{ failed *Error }

func (e *notFiniteError) Error() string { return e.failed.Message }

// NotFinite says what was found.
func (e *notFiniteError) NotFinite() string { return e.failed.Message }

// explain gives errors the types that callers act on.
func (m *model) explain(err error) error {
	var failed *Error
	if errors.As(err, &failed) && failed.Class == "not_finite" {
		return &notFiniteError{failed}
	}
	return inputError(err)
}

func (m *model) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// Logits reads tokens as one text.
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
	all, err := m.array(ctx, "logits", map[string]any{"tokens": tokens, "positions": positions}, len(positions), m.loaded.Vocab)
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(positions))
	for i := range out {
		out[i] = all[i*m.loaded.Vocab:][:m.loaded.Vocab:m.loaded.Vocab]
	}
	return out, nil
}

// Hidden reads tokens as one text.
func (m *model) Hidden(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := m.check(ctx, tokens, 0); err != nil {
		return nil, err
	}
	return m.array(ctx, "hidden", map[string]any{"tokens": tokens}, len(tokens), m.loaded.Hidden)
}

// Layers reads tokens as one text.
func (m *model) Layers(ctx context.Context, tokens []int32) ([][]float32, error) {
	if err := m.check(ctx, tokens, 0); err != nil {
		return nil, err
	}
	all, err := m.array(ctx, "layers", map[string]any{"tokens": tokens}, -1, len(tokens), m.loaded.Hidden)
	if err != nil {
		return nil, err
	}
	size := len(tokens) * m.loaded.Hidden
	out := make([][]float32, len(all)/size)
	for i := range out {
		out[i] = all[i*size:][:size:size]
	}
	return out, nil
}

// check judges the tokens of a call. A closed model says so first.
func (m *model) check(ctx context.Context, tokens []int32, extra int) error {
	if m.isClosed() {
		return backend.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return backend.CheckTokens(m.Info(), tokens, extra)
}

// maxArray is the largest array that is read, in values; -1 in a shape stands for at most maxBlocks.
const (
	maxArray  = 1 << 32
	maxBlocks = 10_000
)

// array has an operation write an array to a file of the worker's folder and reads it. Its shape must be as expected; -1 stands for any size.
func (m *model) array(ctx context.Context, op string, request map[string]any, shape ...int) (out []float32, err error) {
	path := filepath.Join(m.process.dir, fmt.Sprintf("%d.f32", m.handle))
	request["out"] = path
	var answer struct {
		Shape []int  `json:"shape"`
		DType string `json:"dtype"`
	}
	err = m.do(ctx, op, request, nil, &answer, func() error {
		defer os.Remove(path)
		n := 1
		fits := len(answer.Shape) == len(shape) && answer.DType == "float32"
		for i := 0; fits && i < len(shape); i++ {
			fits = answer.Shape[i] == shape[i] || shape[i] == -1 && answer.Shape[i] > 0 && answer.Shape[i] <= maxBlocks
			n *= answer.Shape[i]
		}
		if !fits || n > maxArray {
			return m.process.failed(op, "protocol", fmt.Sprintf("it answered with %s of %v where %v was expected", answer.DType, answer.Shape, shape))
		}
		out, err = readFloats(path, n)
		if err != nil {
			return m.process.failed(op, "protocol", err.Error())
		}
		return nil
	})
	return out, err
}

// readFloats reads a file of exactly n little-endian float32 values.
func readFloats(path string, n int) ([]float32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("its array is not there: %w", err)
	}
	if info.Size() != 4*int64(n) {
		return nil, fmt.Errorf("its array has %d bytes, not %d", info.Size(), 4*n)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) != 4*n {
		return nil, fmt.Errorf("its array cannot be read: %v", err)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, nil
}

// Generate continues prompts together.
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
	stops := o.Stops(m.Info())
	if stops == nil {
		stops = []int32{}
	}
	request := map[string]any{"prompts": prompts, "options": map[string]any{"max_tokens": o.MaxTokens, "temperature": o.Temperature, "top_p": o.TopP, "min_p": o.MinP, "seed": o.Seed, "stop": stops, "speculate": o.Speculate, "quiet": emit == nil}}
	var answer struct {
		Tokens [][]int32        `json:"tokens"`
		Finish []string         `json:"finish"`
		NS     [][]int64        `json:"ns"`
		Memory map[string]int64 `json:"memory"`
	}
	var out []backend.Result
	err := m.do(ctx, "generate", request, func(raw json.RawMessage) error { return m.emit(raw, len(prompts), emit) }, &answer, func() error {
		if len(answer.Tokens) != len(prompts) || len(answer.Finish) != len(prompts) || len(answer.NS) != len(prompts) {
			return m.process.failed("generate", "protocol", fmt.Sprintf("it answered with %d texts for %d prompts", len(answer.Tokens), len(prompts)))
		}
		m.note(answer.Memory)
		for i, tokens := range answer.Tokens {
			if len(answer.NS[i]) != len(tokens) {
				return m.process.failed("generate", "protocol", "it answered with tokens without times")
			}
			r := backend.Result{Tokens: tokens, FinishReason: answer.Finish[i], PromptTokens: len(prompts[i])}
			for _, ns := range answer.NS[i] {
				r.At = append(r.At, time.Duration(ns))
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// emit passes a token on.
func (m *model) emit(raw json.RawMessage, prompts int, emit func(backend.Event) error) error {
	if emit == nil {
		return nil
	}
	var p struct {
		Sequence int   `json:"s"`
		Token    int32 `json:"t"`
		NS       int64 `json:"ns"`
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Sequence < 0 || p.Sequence >= prompts {
		return m.process.failed("generate", "protocol", fmt.Sprintf("it sent %q, which is no token", clip(string(raw), 80)))
	}
	return emit(backend.Event{Sequence: p.Sequence, Token: p.Token, At: time.Duration(p.NS)})
}

// note keeps the most that each phase has needed.
func (m *model) note(memory map[string]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory == nil {
		m.memory = map[string]int64{}
	}
	for phase, n := range memory {
		m.memory[phase] = max(m.memory[phase], n)
	}
}

// Memory of a phase, as the worker measured it.
func (m *model) Memory(phase string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory[phase]
}

// Close frees the model in the worker, which goes on.
func (m *model) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	m.runtime.busy <- struct{}{}
	defer m.runtime.leave()
	if m.process.dead() {
		return nil
	}
	var died *Error
	err := m.process.call(context.Background(), "unload", map[string]any{"model": m.handle}, nil, nil)
	if errors.As(err, &died) {
		return nil // what it held is gone with it
	}
	return err
}
