package builtin

import (
	"context"
	"slices"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// precise is a model in float64. What it answers is rounded to float32 once, at the very end.
type precise struct {
	*gate
	network arch.Precise
}

func newPrecise(s *settings, w *weights, workers int) *precise {
	p := &precise{gate: newGate(s, w, workers)}
	p.network = s.model.Precise(w, p.pool)
	p.record(backend.PhaseLoad, 0)
	return p
}

// unseen is for those who do not look at layers.
func unseen(int, [][]float64) {}

// read computes a text that nothing will follow, block by block. take gets final hidden states with the position of the first.
func (p *precise) read(ctx context.Context, tokens []int32, see func(int, [][]float64), take func(at int, hidden [][]float64) error) (err error) {
	defer p.weights.guard(&err)()
	if err := p.check(tokens, 0); err != nil {
		return err
	}
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
	_, err = p.prefill(ctx, p.network.NewText(), tokens, see, take)
	return err
}

// prefill reads tokens into a text and returns the last final hidden state.
func (p *precise) prefill(ctx context.Context, text arch.Text, tokens []int32, see func(int, [][]float64), take func(at int, hidden [][]float64) error) (last []float64, err error) {
	for at := 0; at < len(tokens); at += block {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hidden := p.network.Read(text, tokens[at:min(at+block, len(tokens))], see)
		p.record(backend.PhasePrefill, text.Bytes())
		last = hidden[len(hidden)-1]
		if err := take(at, hidden); err != nil {
			return nil, err
		}
	}
	return last, nil
}

func round(dst []float32, x []float64) []float32 {
	for _, v := range x {
		dst = append(dst, float32(v))
	}
	return dst
}

// Hidden reads tokens as one text.
func (p *precise) Hidden(ctx context.Context, tokens []int32) (out []float32, err error) {
	err = p.read(ctx, tokens, unseen, func(_ int, hidden [][]float64) error {
		for _, h := range hidden {
			out = round(out, h)
		}
		return nil
	})
	return out, err
}

// Layers reads tokens as one text and collects what runs through the layers.
func (p *precise) Layers(ctx context.Context, tokens []int32) (out [][]float32, err error) {
	see := func(layer int, x [][]float64) {
		if layer == len(out) {
			out = append(out, nil)
		}
		for _, row := range x {
			out[layer] = round(out[layer], row)
		}
	}
	err = p.read(ctx, tokens, see, func(int, [][]float64) error { return nil })
	return out, err
}

// Logits reads tokens as one text.
func (p *precise) Logits(ctx context.Context, tokens []int32, positions []int) ([][]float32, error) {
	if err := backend.CheckPositions(tokens, positions); err != nil {
		return nil, err
	}
	if positions == nil {
		for i := range tokens {
			positions = append(positions, i)
		}
	}
	out := make([][]float32, len(positions))
	err := p.read(ctx, tokens, unseen, func(at int, hidden [][]float64) error {
		for i, position := range positions {
			if position < at || position >= at+len(hidden) {
				continue
			}
			out[i] = round(nil, p.network.Logits(hidden[position-at : position-at+1])[0])
			if err := finite(out[i], position, tensor.KVFloat32); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Generate continues one prompt after the other.
func (p *precise) Generate(ctx context.Context, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) (_ []backend.Result, err error) {
	defer p.weights.guard(&err)()
	start := time.Now()
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Speculate {
		return nil, &backend.InputError{What: "float64 is not for speed: it does not speculate"}
	}
	if len(prompts) == 0 {
		return nil, &backend.InputError{What: "there are no prompts"}
	}
	for _, tokens := range prompts {
		if err := p.check(tokens, 1); err != nil {
			return nil, err
		}
	}
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	defer p.leave()
	desk := newDesk(o, p.info.VocabSize)
	out := make([]backend.Result, len(prompts))
	for i, tokens := range prompts {
		c := passage{precise: p, start: start, options: o, sampler: newSampler(o, desk), index: i, prompt: tokens, result: &out[i], emit: emit}
		if err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// passage is one prompt of a call.
type passage struct {
	*precise
	start   time.Time
	options backend.GenerateOptions
	sampler *sampler
	index   int
	prompt  []int32
	result  *backend.Result
	emit    func(backend.Event) error
}

func (c *passage) run(ctx context.Context) error {
	c.result.PromptTokens = len(c.prompt)
	text := c.network.NewText()
	last, err := c.prefill(ctx, text, c.prompt, unseen, func(int, [][]float64) error { return nil })
	if err != nil {
		return err
	}
	for {
		token, err := c.take(last)
		if err != nil || c.result.FinishReason != "" {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		last = c.network.Read(text, []int32{token}, unseen)[0]
		c.record(backend.PhaseDecode, text.Bytes())
	}
}

// take picks the next token and judges whether it is the last.
func (c *passage) take(hidden []float64) (int32, error) {
	r := c.result
	logits := round(nil, c.network.Logits([][]float64{hidden})[0])
	if err := finite(logits, len(c.prompt)+len(r.Tokens)-1, tensor.KVFloat32); err != nil {
		return 0, err
	}
	token, at := c.sampler.pick(logits), time.Since(c.start)
	r.Tokens, r.At = append(r.Tokens, token), append(r.At, at)
	switch {
	case slices.Contains(c.options.Stops(c.info), token):
		r.FinishReason = backend.FinishStop
	case len(r.Tokens) >= c.options.MaxTokens || len(c.prompt)+len(r.Tokens) >= c.limit():
		r.FinishReason = backend.FinishLength
	}
	if c.emit == nil {
		return token, nil
	}
	return token, c.emit(backend.Event{Sequence: c.index, Token: token, At: at})
}
