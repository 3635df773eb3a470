package builtin

import (
	"context"
	"slices"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// sequence is one text of a call.
type sequence struct {
	kv      *tensor.KV
	prompt  []int32
	read    int // tokens of the prompt that were computed
	sampler *sampler
	result  *backend.Result
	last    int32 // the token that is to be computed next
	done    bool

	foresight *foresight // nil where nothing is drafted
}

func newSequence(m *model, prompt []int32) *sequence {
	s := &sequence{kv: tensor.NewKV(m.network.KVShape()), prompt: prompt}
	s.kv.Budget = m.weights.arena.Budget
	return s
}

// end gives back what the text took. err is that of the call.
func (s *sequence) end(err *error) {
	if e := s.kv.Release(); *err == nil {
		*err = e
	}
}

// Generate reads the prompts one after the other, in blocks, and then makes one token for each text at a time.
func (m *model) Generate(ctx context.Context, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) (_ []backend.Result, err error) {
	defer m.weights.guard(&err)()
	start := time.Now()
	if err := o.Check(); err != nil {
		return nil, err
	}
	if len(prompts) == 0 {
		return nil, &backend.InputError{What: "there are no prompts"}
	}
	for _, p := range prompts {
		if err := m.check(p, 1); err != nil {
			return nil, err
		}
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.leave()
	g := m.newGeneration(start, prompts, o, emit)
	defer g.end(&err)
	if err := g.prefill(ctx); err != nil {
		return nil, err
	}
	for g.goesOn() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := g.advance(ctx); err != nil {
			return nil, err
		}
	}
	return g.results, nil
}

// generation is one call of Generate.
type generation struct {
	*model
	start     time.Time
	options   backend.GenerateOptions
	stops     []int32
	emit      func(backend.Event) error
	sequences []*sequence
	results   []backend.Result
}

func (m *model) newGeneration(start time.Time, prompts [][]int32, o backend.GenerateOptions, emit func(backend.Event) error) *generation {
	g := &generation{model: m, start: start, options: o, stops: o.Stops(m.info), emit: emit, results: make([]backend.Result, len(prompts))}
	if m.logits == nil {
		m.logits = make([]float32, headRows*m.info.VocabSize)
	}
	desk := newDesk(o, m.info.VocabSize)
	for i, p := range prompts {
		r := &g.results[i]
		r.PromptTokens = len(p)
		s := newSequence(m, p)
		s.result, s.sampler = r, newSampler(o, desk)
		room := g.room(s)
		r.Tokens, r.At = make([]int32, 0, room), make([]time.Duration, 0, room)
		g.sequences = append(g.sequences, s)
	}
	return g
}

// left is how many more tokens a text can have.
func (g *generation) left(s *sequence) int {
	made := len(s.result.Tokens)
	return min(g.options.MaxTokens-made, g.limit()-len(s.prompt)-made)
}

// room for the tokens that a text is sure to have place for; longer texts grow.
func (g *generation) room(s *sequence) int { return min(g.left(s), 1<<16) }

// prefill reads the prompts and takes the first token of each, all at the end: texts that are made together begin together.
func (g *generation) prefill(ctx context.Context) error {
	last := make([]float32, 0, len(g.sequences)*g.info.HiddenSize)
	for _, s := range g.sequences {
		var hidden []float32
		for s.read < len(s.prompt) {
			var err error
			if hidden, err = g.readBlock(ctx, s); err != nil {
				return err
			}
		}
		last = append(last, hidden[len(hidden)-g.info.HiddenSize:]...)
	}
	return g.takeAll(g.sequences, 0, last)
}

// end gives back what the texts took.
func (g *generation) end(err *error) {
	for _, s := range g.sequences {
		s.end(err)
	}
}

// goesOn reports whether any text is not done.
func (g *generation) goesOn() bool {
	for _, s := range g.sequences {
		if !s.done {
			return true
		}
	}
	return false
}

// advance makes tokens: one for every text, or several of the only one that is left.
func (g *generation) advance(ctx context.Context) error {
	if g.options.Speculate {
		if i, ok := g.only(); ok {
			return g.leap(ctx, i)
		}
	}
	return g.step()
}

// only is the text that is left where the others are done.
func (g *generation) only() (at int, ok bool) {
	for i, s := range g.sequences {
		if !s.done && ok {
			return 0, false
		}
		if !s.done {
			at, ok = i, true
		}
	}
	return at, ok
}

// leap computes the next token of a text and those that are foretold to follow it together, and takes what comes out as far as it was foretold. What comes out for a token is the same bits whatever is computed with it, so the
// tokens are those of steps; and what is kept of drafts that were wrong is written over by the next leap, before anything sees it.
func (g *generation) leap(ctx context.Context, i int) error {
	s := g.sequences[i]
	if s.foresight == nil {
		s.foresight = newForesight(g.room(s), s.prompt, s.result.Tokens)
	}
	var drafts [headRows - 1]int32
	draft := drafts[:g.draftSize(s)]
	s.foresight.draft(draft)
	start := time.Now()
	logits, err := g.computeWith(s, draft)
	if err != nil {
		return err
	}
	g.pace.note(len(draft), time.Since(start).Seconds())
	for k := range 1 + len(draft) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.take(i, logits[k*g.info.VocabSize:][:g.info.VocabSize]); err != nil {
			return err
		}
		if s.done || k < len(draft) && s.last != draft[k] {
			break
		}
	}
	g.noteDecode()
	return nil
}

// draftSize is 0 where nothing is foretold, or what is has not been right often enough. No draft is longer than the text can become.
func (g *generation) draftSize(s *sequence) int {
	if s.foresight.next == 0 {
		return 0
	}
	return g.pace.size(s.foresight.right, g.left(s)-1)
}

// computeWith computes the next token of a text with a draft behind it, and returns their logits.
func (g *generation) computeWith(s *sequence, draft []int32) ([]float32, error) {
	position := len(s.prompt) + len(s.result.Tokens) - 1
	if err := s.kv.Grow(position + 1 + len(draft)); err != nil {
		return nil, err
	}
	g.begin()
	g.add(s, s.last, position)
	for k, token := range draft {
		g.add(s, token, position+1+k)
	}
	logits := g.logits[:len(g.tokens)*g.info.VocabSize]
	g.network.Logits(logits, g.forward())
	return logits, nil
}

// step makes one token for every text that is not done, a block of texts at a time.
func (g *generation) step() error {
	for at := 0; at < len(g.sequences); {
		g.begin()
		first := at
		for ; at < len(g.sequences) && len(g.tokens) < block; at++ {
			if s := g.sequences[at]; !s.done {
				position := len(s.prompt) + len(s.result.Tokens) - 1
				if err := s.kv.Grow(position + 1); err != nil {
					return err
				}
				g.add(s, s.last, position)
			}
		}
		if len(g.tokens) == 0 {
			return nil
		}
		if err := g.takeAll(g.sequences[first:at], first, g.forward()); err != nil {
			return err
		}
	}
	g.noteDecode()
	return nil
}

// takeAll takes the next token of each text that has a row in hidden.
func (g *generation) takeAll(sequences []*sequence, first int, hidden []float32) error {
	size, vocab := g.info.HiddenSize, g.info.VocabSize
	var rows int // whose logits stand in g.logits
	var next int
	for i, s := range sequences {
		if s.done {
			continue
		}
		if next == rows {
			rows, next = min(headRows, len(hidden)/size), 0
			g.network.Logits(g.logits[:rows*vocab], hidden[:rows*size])
			hidden = hidden[rows*size:]
		}
		if err := g.take(first+i, g.logits[next*vocab:][:vocab]); err != nil {
			return err
		}
		next++
	}
	return nil
}

// take picks the next token of a text and judges whether it is the last.
func (g *generation) take(i int, logits []float32) error {
	s := g.sequences[i]
	r := s.result
	if err := finite(logits, len(s.prompt)+len(r.Tokens)-1, g.network.KVShape().Type); err != nil {
		return err
	}
	s.last = s.sampler.pick(logits)
	at := time.Since(g.start)
	r.Tokens, r.At = append(r.Tokens, s.last), append(r.At, at)
	if s.foresight != nil {
		s.foresight.add(s.last)
	}
	switch {
	case slices.Contains(g.stops, s.last):
		s.done, r.FinishReason = true, backend.FinishStop
	case g.left(s) == 0:
		s.done, r.FinishReason = true, backend.FinishLength
	}
	if g.emit == nil {
		return nil
	}
	return g.emit(backend.Event{Sequence: i, Token: s.last, At: at})
}

func (g *generation) noteDecode() {
	var keys int64
	for _, s := range g.sequences {
		keys += s.kv.Bytes()
	}
	g.note(backend.PhaseDecode, keys)
}
