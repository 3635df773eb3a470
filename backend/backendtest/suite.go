// Package backendtest is what every runtime has to pass: the contract of package backend as tests.
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
)

// Run holds a runtime to the contract on a model folder that it can load. The model has at least 64 ids and room for 16 tokens.
func Run(t *testing.T, r backend.Runtime, dir string) { RunWithin(t, r, dir, 0) }

// RunWithin is Run for a runtime that computes a little differently when the same tokens come in other shapes: by at most so much of the largest value.
func RunWithin(t *testing.T, r backend.Runtime, dir string, tolerance float64) {
	suite{r, dir, backend.Float32, tolerance}.run(t)
}

// RunIn is Run in another arithmetic than float32.
func RunIn(t *testing.T, r backend.Runtime, dir string, compute backend.Compute) {
	suite{r, dir, compute, 0}.run(t)
}

func (s suite) run(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"identity", s.identity}, {"refuses other arithmetic", s.arithmetic}, {"refuses a missing folder", s.missing},
		{"logits", s.logits}, {"hidden", s.hidden}, {"layers", s.layers}, {"refuses bad input", s.badInput}, {"refuses bad options", s.badOptions},
		{"greedy is the likeliest", s.greedy}, {"speculation changes nothing", s.speculation}, {"batch equals single", s.batch}, {"same seed same text", s.seed},
		{"stops", s.stops}, {"events", s.events}, {"context is respected", s.context}, {"emit's error ends the call", s.emitError},
		{"cancel", s.cancel}, {"memory", s.memory}, {"closed", s.closed}, {"two models at once", s.together},
	} {
		t.Run(c.name, c.test)
	}
}

type suite struct {
	runtime backend.Runtime
	dir     string
	compute backend.Compute
	// tolerance is what two ways of computing the same may differ by, as a share of the largest value.
	tolerance float64
}

// same compares what was computed in two ways.
func (s suite) same(a, b []float32) bool {
	if s.tolerance == 0 || len(a) != len(b) {
		return slices.Equal(a, b)
	}
	var largest, off float64
	for i := range a {
		largest = max(largest, math.Abs(float64(a[i])))
		off = max(off, math.Abs(float64(a[i])-float64(b[i])))
	}
	return off <= s.tolerance*largest // false for NaN
}

// prompts of several lengths.
var prompts = [][]int32{{5, 9, 12}, {40}, {7, 7, 63, 1, 30, 2, 11}}

func (s suite) load(t *testing.T) backend.Model {
	t.Helper()
	m, err := s.runtime.Load(t.Context(), s.dir, s.compute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func generate(t *testing.T, m backend.Model, prompts [][]int32, o backend.GenerateOptions) []backend.Result {
	t.Helper()
	results, err := m.Generate(t.Context(), prompts, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(prompts) {
		t.Fatalf("%d results for %d prompts", len(results), len(prompts))
	}
	return results
}

func (s suite) identity(t *testing.T) {
	first, err := s.runtime.ID(t.Context())
	second, err2 := s.runtime.ID(t.Context())
	if err != nil || err2 != nil || first == "" || first != second || s.runtime.Name() == "" {
		t.Errorf("name %q, ids %q %v, %q %v", s.runtime.Name(), first, err, second, err2)
	}
	info := s.load(t).Info()
	if info.VocabSize < 64 || info.HiddenSize < 1 || info.ContextLength != 0 && info.ContextLength < 16 || info.WeightsBytes < 0 {
		t.Errorf("info is %+v", info)
	}
}

func (s suite) arithmetic(t *testing.T) {
	_, err := s.runtime.Load(t.Context(), s.dir, "abacus")
	var want *backend.ComputeError
	if !errors.As(err, &want) || want.Asked != "abacus" || len(want.Has) == 0 {
		t.Errorf("error is %v", err)
	}
}

func (s suite) missing(t *testing.T) {
	if _, err := s.runtime.Load(t.Context(), t.TempDir()+"/none", backend.Float32); err == nil {
		t.Error("no error")
	}
}

func (s suite) logits(t *testing.T) {
	m := s.load(t)
	for _, p := range prompts {
		all, err := m.Logits(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != len(p) || len(all[0]) != m.Info().VocabSize {
			t.Fatalf("%d rows of %d for %d tokens", len(all), len(all[0]), len(p))
		}
		positions := []int{len(p) - 1, 0, len(p) - 1}
		some, err := m.Logits(t.Context(), p, positions)
		if err != nil || len(some) != len(positions) {
			t.Fatal(len(some), err)
		}
		for i, at := range positions {
			if !s.same(some[i], all[at]) {
				t.Errorf("row %d is not that of position %d", i, at)
			}
		}
		if shorter, err := m.Logits(t.Context(), p[:1], nil); err != nil || !s.same(shorter[0], all[0]) {
			t.Errorf("what comes later changes what came before (%v)", err)
		}
	}
	if none, err := m.Logits(t.Context(), prompts[0], []int{}); err != nil || len(none) != 0 {
		t.Errorf("no positions give %d rows, %v", len(none), err)
	}
}

func (s suite) hidden(t *testing.T) {
	m := s.load(t)
	long, err := m.Hidden(t.Context(), prompts[2])
	if err != nil || len(long) != len(prompts[2])*m.Info().HiddenSize {
		t.Fatalf("%d values, %v", len(long), err)
	}
	short, err := m.Hidden(t.Context(), prompts[2][:3])
	if err != nil || !s.same(short, long[:len(short)]) {
		t.Errorf("what comes later changes what came before (%v)", err)
	}
}

func (s suite) layers(t *testing.T) {
	m := s.load(t)
	long, err := m.Layers(t.Context(), prompts[2])
	if err != nil || len(long) < 2 {
		t.Fatalf("%d layers, %v", len(long), err)
	}
	short, err := m.Layers(t.Context(), prompts[2][:3])
	if err != nil || len(short) != len(long) {
		t.Fatalf("%d layers for a shorter text, %v", len(short), err)
	}
	for i := range long {
		if len(long[i]) != len(prompts[2])*m.Info().HiddenSize || !s.same(short[i], long[i][:len(short[i])]) {
			t.Errorf("layer %d: %d values; what comes later changes what came before", i, len(long[i]))
		}
	}
}

func (s suite) badInput(t *testing.T) {
	m := s.load(t)
	bad := map[string][]int32{"empty": {}, "negative": {1, -1}, "too large": {int32(m.Info().VocabSize)}}
	if n := m.Info().ContextLength; n > 0 && n < 1<<16 {
		bad["too long"] = make([]int32, n+1)
	}
	for name, tokens := range bad {
		_, err := m.Logits(t.Context(), tokens, nil)
		wantInput(t, name+": logits", err)
		_, err = m.Hidden(t.Context(), tokens)
		wantInput(t, name+": hidden", err)
		_, err = m.Layers(t.Context(), tokens)
		wantInput(t, name+": layers", err)
		_, err = m.Generate(t.Context(), [][]int32{prompts[0], tokens}, backend.GenerateOptions{MaxTokens: 1}, nil)
		wantInput(t, name+": generate", err)
	}
	for _, position := range []int{-1, 3} {
		_, err := m.Logits(t.Context(), prompts[0], []int{position})
		wantInput(t, fmt.Sprint("position ", position), err)
	}
	_, err := m.Generate(t.Context(), nil, backend.GenerateOptions{MaxTokens: 1}, nil)
	wantInput(t, "no prompts", err)
	generate(t, m, prompts, backend.GenerateOptions{MaxTokens: 1}) // and it still works
}

func wantInput(t *testing.T, what string, err error) {
	t.Helper()
	var want *backend.InputError
	if !errors.As(err, &want) {
		t.Errorf("%s: the error is %v", what, err)
	}
}

func (s suite) badOptions(t *testing.T) {
	m := s.load(t)
	for _, o := range []backend.GenerateOptions{{}, {MaxTokens: -1}, {MaxTokens: 1, Temperature: -1}, {MaxTokens: 1, TopP: 1.5}, {MaxTokens: 1, TopP: -0.5}, {MaxTokens: 1, MinP: 2}, {MaxTokens: 1, MinP: -1},
		{MaxTokens: 1, Temperature: 1, Speculate: true}} {
		_, err := m.Generate(t.Context(), prompts, o, nil)
		wantInput(t, fmt.Sprintf("%+v", o), err)
	}
}

// greedy compares generation, which keeps keys and values, with logits of the whole text.
func (s suite) greedy(t *testing.T) {
	m := s.load(t)
	o := backend.GenerateOptions{MaxTokens: 6, IgnoreEOS: true}
	for _, p := range prompts {
		got := generate(t, m, [][]int32{p}, o)[0]
		if again := generate(t, m, [][]int32{p}, o)[0]; !slices.Equal(again.Tokens, got.Tokens) {
			t.Errorf("once %v, then %v", got.Tokens, again.Tokens)
		}
		if len(got.Tokens) != 6 || got.FinishReason != backend.FinishLength || got.PromptTokens != len(p) {
			t.Errorf("%+v", got)
		}
		rows, err := m.Logits(t.Context(), append(slices.Clone(p), got.Tokens...), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, token := range got.Tokens {
			row := rows[len(p)-1+i]
			best := slices.Index(row, slices.Max(row))
			if int32(best) != token && !(float64(row[best]-row[token]) <= s.tolerance*math.Abs(float64(row[best]))) {
				t.Errorf("token %d is %d, the likeliest is %d", i, token, best)
			}
		}
	}
}

// speculation gives the same tokens, or is refused.
func (s suite) speculation(t *testing.T) {
	m := s.load(t)
	prompt := slices.Repeat([]int32{5, 9, 12}, 4)
	o := backend.GenerateOptions{MaxTokens: 24, IgnoreEOS: true}
	want := generate(t, m, [][]int32{prompt}, o)[0]
	o.Speculate = true
	got, err := m.Generate(t.Context(), [][]int32{prompt}, o, nil)
	if err != nil {
		wantInput(t, "speculation", err)
		return
	}
	if !slices.Equal(got[0].Tokens, want.Tokens) || got[0].FinishReason != want.FinishReason {
		t.Errorf("with drafts %v %s, without %v %s", got[0].Tokens, got[0].FinishReason, want.Tokens, want.FinishReason)
	}
}

func (s suite) batch(t *testing.T) {
	m := s.load(t)
	for _, temperature := range []float64{0, 1} {
		o := backend.GenerateOptions{MaxTokens: 8, Temperature: temperature, Seed: 3}
		for i, together := range generate(t, m, prompts, o) {
			alone := generate(t, m, prompts[i:i+1], o)[0]
			if !slices.Equal(alone.Tokens, together.Tokens) || alone.FinishReason != together.FinishReason {
				t.Errorf("temperature %v, prompt %d: alone %v, in a batch %v", temperature, i, alone.Tokens, together.Tokens)
			}
		}
	}
}

func (s suite) seed(t *testing.T) {
	m := s.load(t)
	o := backend.GenerateOptions{MaxTokens: 10, Temperature: 0.8, TopP: 0.9, MinP: 0.01, Seed: 42}
	first, second := generate(t, m, prompts, o), generate(t, m, prompts, o)
	for i := range first {
		if !slices.Equal(first[i].Tokens, second[i].Tokens) {
			t.Errorf("once %v, then %v", first[i].Tokens, second[i].Tokens)
		}
	}
}

func (s suite) stops(t *testing.T) {
	m := s.load(t)
	free := generate(t, m, prompts[:1], backend.GenerateOptions{MaxTokens: 5, IgnoreEOS: true})[0].Tokens
	stop := free[2]
	want := free[:slices.Index(free, stop)+1]
	got := generate(t, m, prompts[:1], backend.GenerateOptions{MaxTokens: 5, Stop: []int32{stop}})[0]
	if !slices.Equal(got.Tokens, want) || got.FinishReason != backend.FinishStop {
		t.Errorf("stopped at %d: %v %s, want %v", stop, got.Tokens, got.FinishReason, want)
	}
	got = generate(t, m, prompts[:1], backend.GenerateOptions{MaxTokens: 5, Stop: []int32{}})[0]
	if !slices.Equal(got.Tokens, free) || got.FinishReason != backend.FinishLength {
		t.Errorf("with no token to stop at: %v %s, want %v", got.Tokens, got.FinishReason, free)
	}
}

func (s suite) events(t *testing.T) {
	m := s.load(t)
	var events []backend.Event
	results, err := m.Generate(t.Context(), prompts, backend.GenerateOptions{MaxTokens: 4}, func(e backend.Event) error {
		events = append(events, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		var tokens []int32
		for _, e := range events {
			if e.Sequence == i {
				if e.At != r.At[len(tokens)] {
					t.Errorf("prompt %d, token %d: event at %v, result says %v", i, len(tokens), e.At, r.At[len(tokens)])
				}
				tokens = append(tokens, e.Token)
			}
		}
		if !slices.Equal(tokens, r.Tokens) || !slices.IsSorted(r.At) || r.At[0] <= 0 {
			t.Errorf("prompt %d: events %v, result %+v", i, tokens, r)
		}
	}
}

func (s suite) context(t *testing.T) {
	m := s.load(t)
	n := m.Info().ContextLength
	if n == 0 || n > 2048 {
		t.Skipf("a context of %d is not tried", n)
	}
	prompt := make([]int32, n-2)
	for i := range prompt {
		prompt[i] = int32(i % 64)
	}
	got := generate(t, m, [][]int32{prompt}, backend.GenerateOptions{MaxTokens: 10, IgnoreEOS: true})[0]
	if len(got.Tokens) != 2 || got.FinishReason != backend.FinishLength {
		t.Errorf("with room for 2 tokens it made %d, %s", len(got.Tokens), got.FinishReason)
	}
	_, err := m.Generate(t.Context(), [][]int32{make([]int32, n)}, backend.GenerateOptions{MaxTokens: 1}, nil)
	wantInput(t, "no room", err)
}

func (s suite) emitError(t *testing.T) {
	m := s.load(t)
	enough, calls := errors.New("enough"), 0
	_, err := m.Generate(t.Context(), prompts, backend.GenerateOptions{MaxTokens: 4, IgnoreEOS: true}, func(backend.Event) error {
		if calls++; calls == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || calls != 2 {
		t.Errorf("%v after %d events", err, calls)
	}
}

func (s suite) cancel(t *testing.T) {
	m := s.load(t)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := m.Generate(ctx, prompts[:1], backend.GenerateOptions{MaxTokens: 12, IgnoreEOS: true}, func(backend.Event) error {
		if calls++; calls == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls != 2 {
		t.Errorf("%v after %d events", err, calls)
	}
	_, err = m.Logits(ctx, prompts[0], nil)
	_, err2 := m.Hidden(ctx, prompts[0])
	_, err3 := m.Generate(ctx, prompts, backend.GenerateOptions{MaxTokens: 1}, nil)
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("on a cancelled context: %v", err)
		}
	}
	generate(t, m, prompts, backend.GenerateOptions{MaxTokens: 1}) // and it still works
}

func (s suite) memory(t *testing.T) {
	m := s.load(t)
	generate(t, m, prompts, backend.GenerateOptions{MaxTokens: 3, IgnoreEOS: true})
	load, prefill, decode := m.Memory(backend.PhaseLoad), m.Memory(backend.PhasePrefill), m.Memory(backend.PhaseDecode)
	if weights := m.Info().WeightsBytes; load < weights || prefill < weights || decode < weights || m.Memory("holiday") != 0 {
		t.Errorf("weights %d, load %d, prefill %d, decode %d", m.Info().WeightsBytes, load, prefill, decode)
	}
}

func (s suite) closed(t *testing.T) {
	m := s.load(t)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.Logits(t.Context(), prompts[0], nil)
	_, err2 := m.Hidden(t.Context(), prompts[0])
	_, err3 := m.Generate(t.Context(), prompts, backend.GenerateOptions{MaxTokens: 1}, nil)
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, backend.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func (s suite) together(t *testing.T) {
	models := []backend.Model{s.load(t), s.load(t)}
	o := backend.GenerateOptions{MaxTokens: 5}
	want := generate(t, models[0], prompts, o)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			got, err := models[i%2].Generate(t.Context(), prompts, o, nil)
			for j := range want {
				if err != nil || !slices.Equal(got[j].Tokens, want[j].Tokens) {
					t.Errorf("call %d, prompt %d: %v, want %v", i, j, err, want[j].Tokens)
					return
				}
			}
		})
	}
	all.Wait()
}
