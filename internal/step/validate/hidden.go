package validate

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/metric"
)

// compareHidden compares chunks of a corpus by their final hidden states, each side with its own output matrix.
func (c *comparing) compareHidden(ctx context.Context) (chunks []metric.Chunk, err error) {
	c.report.Noise = c.ref.Noise
	size := c.ref.Hidden
	theirs, err := openValues(c.env.Inputs[inReference], valuesFile, int64(c.tokens.positions())*int64(size))
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	reference, err := c.openHead(c.env.Inputs[inReferenceModel].Dir, c.other.compute)
	if err != nil {
		return nil, err
	}
	defer reference.Close()
	if d := fmt.Sprintf("%x", reference.Digest()); d != c.ref.Head {
		return nil, fmt.Errorf("the output matrix of %s changed while it was needed; run again", c.reference.id)
	}
	mine, err := c.openHead(c.env.Inputs[inModel].Dir, c.side.compute)
	if err != nil {
		return nil, err
	}
	defer mine.Close()
	for i, s := range c.tokens.Sequences {
		c.env.Status(fmt.Sprintf("chunk %d of %d", i+1, len(c.tokens.Sequences)))
		states, err := c.model.Hidden(ctx, s.IDs)
		if err != nil {
			return nil, inText(i, err)
		}
		before := make([]float32, (s.To-s.From)*size)
		if err := theirs.read(before); err != nil {
			return nil, err
		}
		chunk, err := compareHidden(reference, mine, before, states[s.From*size:s.To*size], s)
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, chunk)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return chunks, nil
}

// headBlock is how many positions have their logits computed at once.
const headBlock = 32

// compareHidden compares the judged positions of one sequence, from hidden states [positions, hidden] of both sides.
func compareHidden(headA, headB Head, a, b []float32, s Sequence) (metric.Chunk, error) {
	size, vocabulary := headA.Hidden(), headA.Vocabulary()
	out := make(metric.Chunk, s.To-s.From)
	la, lb := make([]float32, headBlock*vocabulary), make([]float32, headBlock*vocabulary)
	workers := runtime.GOMAXPROCS(0)
	comparers := make([]metric.Comparer, workers)
	for at := 0; at < len(out); at += headBlock {
		n := min(headBlock, len(out)-at)
		if err := headA.Logits(la[:n*vocabulary], a[at*size:(at+n)*size]); err != nil {
			return nil, err
		}
		if err := headB.Logits(lb[:n*vocabulary], b[at*size:(at+n)*size]); err != nil {
			return nil, err
		}
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				for i := w; i < n; i += workers {
					out[at+i] = comparers[w].Compare(la[i*vocabulary:][:vocabulary], lb[i*vocabulary:][:vocabulary], s.Label(s.From+at+i))
				}
			})
		}
		all.Wait()
	}
	return out, nil
}

// hiddenNoise is the mean KL between a chunk as it is, and without its last eighth, where both are judged.
func hiddenNoise(ctx context.Context, m backend.Model, head Head, s Sequence, states []float32) (metric.Number, error) {
	shorter := s
	shorter.IDs = s.IDs[:len(s.IDs)-len(s.IDs)/8]
	shorter.To = min(s.To, len(shorter.IDs))
	if shorter.To <= s.From {
		return 0, nil
	}
	again, err := m.Hidden(ctx, shorter.IDs)
	if err != nil {
		return 0, err
	}
	size := m.Info().HiddenSize
	positions, err := compareHidden(head, head, states[s.From*size:shorter.To*size], again[s.From*size:shorter.To*size], shorter)
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, p := range positions {
		sum += p.KL
	}
	return metric.Number(sum / float64(len(positions))), nil
}
