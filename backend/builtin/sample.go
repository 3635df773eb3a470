package builtin

import (
	"math"
	"math/rand/v2"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// sampler picks tokens as make_sampler of mlx_lm/sample_utils.py does: probabilities at temperature 1 are cut by top-p, then by min-p, and what is left is drawn from at the temperature.
// It is the text's own, so that what a text becomes does not depend on others. Arithmetic is float64 in an order that is the same everywhere; the generator is PCG.
type sampler struct {
	temperature, topP float64
	minLog            float64 // log(min-p); 0 is no filter
	hasMin            bool
	random            *rand.Rand
	*desk
}

// desk is what samplers work on, one at a time.
type desk struct {
	heap    []float32 // logits, to find those of top-p without sorting all
	weights []float64
}

// newDesk makes room where options draw at all.
func newDesk(o backend.GenerateOptions, vocab int) *desk {
	if o.Temperature == 0 {
		return &desk{}
	}
	return &desk{heap: make([]float32, vocab), weights: make([]float64, vocab)}
}

func newSampler(o backend.GenerateOptions, d *desk) *sampler {
	s := &sampler{temperature: o.Temperature, topP: o.TopP, random: rand.New(rand.NewPCG(o.Seed, 0)), desk: d}
	if o.MinP > 0 {
		s.hasMin, s.minLog = true, tensor.Log(o.MinP)
	}
	return s
}

// pick returns the next token. Logits are finite.
func (s *sampler) pick(logits []float32) int32 {
	best, _ := tensor.Largest(logits)
	if s.temperature == 0 {
		return int32(best)
	}
	top := logits[best]
	least := s.threshold(logits, top)
	var total float64
	for i, v := range logits {
		s.weights[i] = 0
		if d := float64(v) - float64(top); v >= least && !(s.hasMin && d < s.minLog) {
			s.weights[i] = tensor.Exp(d / s.temperature)
			total += s.weights[i]
		}
	}
	return s.draw(total, best)
}

// draw picks an id with the probability of its weight, walking through the ids in order.
func (s *sampler) draw(total float64, best int) int32 {
	at := float64(s.random.Float64() * total)
	for i, w := range s.weights {
		at -= w
		if at < 0 && w > 0 {
			return int32(i)
		}
	}
	return int32(best) // all that rounding left over
}

// threshold is the least logit that top-p keeps: a token goes when those likelier than it have that much of the probability already; equals stay together.
func (s *sampler) threshold(logits []float32, top float32) float32 {
	if s.topP <= 0 || s.topP >= 1 {
		return float32(math.Inf(-1))
	}
	var all float64
	for _, v := range logits {
		all += tensor.Exp(float64(v) - float64(top))
	}
	h := s.heap[:copy(s.heap, logits)]
	for i := len(h)/2 - 1; i >= 0; i-- {
		sink(h, i)
	}
	least, above := top, 0.0
	for len(h) > 0 && above < float64(s.topP*all) {
		least = h[0]
		above += tensor.Exp(float64(least) - float64(top))
		h[0] = h[len(h)-1]
		h = h[:len(h)-1]
		sink(h, 0)
	}
	return least
}

// sink restores the heap, largest first, below i.
func sink(h []float32, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] > h[child] {
			child++
		}
		if h[i] >= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
