package builtin

import (
	"context"
	"slices"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// block is the number of tokens that are computed together: whole tiles of a dozen and of sixteen, and enough that weights in the cache meet many of them (120 and 192 read a prompt of 512 tokens as fast on two cores,
// 64 a tenth slower); few enough that their activations stay small beside the weights.
const block = 144

// headRows is the number of tokens whose logits are computed together.
const headRows = 8

// maxPositions is where angles would leave the range that sine and cosine are right in.
const maxPositions = tensor.MaxAngle / 16

type model struct {
	*gate
	network arch.Network

	hidden []float32 // [block, hidden size]
	tokens []int32   // of the block at hand
	places []arch.Place
	logits []float32 // [headRows, vocabulary]; made when first needed
	pace   pace
}

// note records what is in use in a phase, extra being the bytes that belong to a call.
func (m *model) note(phase string, extra int64) {
	m.record(phase, m.network.Bytes()+4*int64(len(m.hidden)+len(m.logits))+extra)
}

// Hidden reads tokens as one text.
func (m *model) Hidden(ctx context.Context, tokens []int32) ([]float32, error) {
	out := []float32{}
	err := m.readAll(ctx, tokens, func(_ int, hidden []float32) error {
		out = append(out, hidden...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Layers reads tokens as one text and collects what runs through the layers.
func (m *model) Layers(ctx context.Context, tokens []int32) ([][]float32, error) {
	var out [][]float32
	see := func(layer int, x []float32) {
		if layer == len(out) {
			out = append(out, nil)
		}
		out[layer] = append(out[layer], x...)
	}
	if err := m.read(ctx, tokens, see, func(int, []float32) error { return nil }); err != nil {
		return nil, err
	}
	return out, nil
}

// Logits reads tokens as one text, and multiplies with the output matrix only what is asked for.
func (m *model) Logits(ctx context.Context, tokens []int32, positions []int) ([][]float32, error) {
	if err := backend.CheckPositions(tokens, positions); err != nil {
		return nil, err
	}
	if positions == nil {
		positions = make([]int, len(tokens))
		for i := range positions {
			positions[i] = i
		}
	}
	out := make([][]float32, len(positions))
	err := m.readAll(ctx, tokens, func(at int, hidden []float32) error {
		var here []int // which of positions are in this block
		for i, p := range positions {
			if p >= at && (p-at)*m.info.HiddenSize < len(hidden) {
				here = append(here, i)
			}
		}
		for part := range slices.Chunk(here, headRows) {
			if err := m.logitsOf(out, part, positions, at, hidden); err != nil {
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

// logitsOf fills out for some of positions, at most headRows, all in a block whose first token stands at position at.
func (m *model) logitsOf(out [][]float32, part, positions []int, at int, hidden []float32) error {
	size, vocab := m.info.HiddenSize, m.info.VocabSize
	rows, logits := make([]float32, 0, len(part)*size), make([]float32, len(part)*vocab)
	for _, i := range part {
		rows = append(rows, hidden[(positions[i]-at)*size:][:size]...)
	}
	m.network.Logits(logits, rows)
	for k, i := range part {
		out[i] = logits[k*vocab:][:vocab:vocab]
		if err := finite(out[i], positions[i], m.network.KVShape().Type); err != nil {
			return err
		}
	}
	return nil
}

// readAll computes a text that nothing will follow. take gets what comes out of the last norm, block by block, with the position of its first row; it must not keep it.
func (m *model) readAll(ctx context.Context, tokens []int32, take func(at int, hidden []float32) error) error {
	return m.read(ctx, tokens, nil, take)
}

// read is readAll with somebody who sees the layers, or nil.
func (m *model) read(ctx context.Context, tokens []int32, see func(layer int, x []float32), take func(at int, hidden []float32) error) (err error) {
	defer m.weights.guard(&err)()
	if err := m.check(tokens, 0); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.leave()
	m.network.Observe(see)
	s := newSequence(m, tokens)
	defer s.end(&err)
	for s.read < len(tokens) {
		at := s.read
		hidden, err := m.readBlock(ctx, s)
		if err != nil {
			return err
		}
		if err := take(at, hidden); err != nil {
			return err
		}
	}
	return nil
}

// readBlock computes the next tokens of a prompt.
func (m *model) readBlock(ctx context.Context, s *sequence) ([]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.kv.Grow(len(s.prompt)); err != nil { // for all of it, before weights are laid out in what is left
		return nil, err
	}
	n := min(block, len(s.prompt)-s.read)
	m.begin()
	for i := range n {
		m.add(s, s.prompt[s.read+i], s.read+i)
	}
	s.read += n
	hidden := m.forward()
	m.note(backend.PhasePrefill, s.kv.Bytes())
	return hidden, nil
}

func (m *model) begin() { m.tokens, m.places = m.tokens[:0], m.places[:0] }

func (m *model) add(s *sequence, token int32, position int) {
	m.tokens = append(m.tokens, token)
	m.places = append(m.places, arch.Place{KV: s.kv, Position: position})
}

// forward computes the tokens that were added.
func (m *model) forward() []float32 {
	hidden := m.hidden[:len(m.tokens)*m.info.HiddenSize]
	m.network.Forward(hidden, m.tokens, m.places)
	return hidden
}
