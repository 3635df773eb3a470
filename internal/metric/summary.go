package metric

import (
	"math"
	"math/rand/v2"
	"sort"

	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// Value is a figure with its 95 % interval; without one, Low and High equal Value.
type Value struct {
	Value    Number `json:"value"`
	Low      Number `json:"low"`
	High     Number `json:"high"`
	Interval bool   `json:"interval,omitempty"`
	N        int    `json:"n"` // positions it is made of
}

// exactly is a figure without an interval.
func exactly(v float64, n int) Value {
	return Value{Value: Number(v), Low: Number(v), High: Number(v), N: n}
}

// Chunk is one text's positions: what is resampled together, because tokens of one text are not independent.
type Chunk []Position

// Resamples of the bootstrap.
const Resamples = 10_000

// Parity reduces positions to the figures of two implementations: the worst position counts.
func Parity(chunks []Chunk) map[string]Value {
	worst := map[string]float64{LogitErrorRel: 0, LogitErrorAbs: 0, ProbError: 0, CosineDistance: 0}
	n := 0
	for _, c := range chunks {
		for _, p := range c {
			n++
			for name, v := range map[string]float64{LogitErrorRel: p.Rel, LogitErrorAbs: p.Abs, ProbError: p.Prob, CosineDistance: p.Cosine} {
				worst[name] = math.Max(worst[name], v) // NaN stays
			}
		}
	}
	out := map[string]Value{}
	for name, v := range worst {
		out[name] = exactly(v, n)
	}
	return out
}

// Fidelity reduces positions to the figures of other weights, each with a percentile bootstrap over chunks (10,000 resamples, 95 %), drawn with PCG from the seed.
func Fidelity(chunks []Chunk, seed [2]uint64) map[string]Value {
	f := newFidelity(chunks)
	if f.n == 0 {
		return nil
	}
	out := map[string]Value{}
	for i, v := range f.figures(f.once()) {
		if i == ratio && f.labels == 0 {
			continue
		}
		out[drawn[i]] = exactly(v, f.n)
	}
	out[KLDMax] = exactly(f.kldMax, f.n) // no resample has a larger one: it gets no interval
	if len(chunks) < 2 || f.broken {
		return out
	}
	for i, d := range f.resample(rand.New(rand.NewPCG(seed[0], seed[1]))) {
		if v, ok := out[drawn[i]]; ok {
			sort.Float64s(d)
			v.Low, v.High, v.Interval = Number(quantile(d, 0.025)), Number(quantile(d, 0.975)), true
			out[drawn[i]] = v
		}
	}
	return out
}

// drawn are the figures that are drawn again with each resample.
var drawn = [...]string{KLDMean, KLDMedian, KLDP99, Top1, Top5, PerplexityRatio}

const ratio = len(drawn) - 1 // index of the one that needs labels

// resample draws whole texts, as many as there are, with replacement.
func (f *fidelity) resample(rng *rand.Rand) (draws [len(drawn)][]float64) {
	weights := make([]int, len(f.sums))
	for range Resamples {
		clear(weights)
		for range f.sums {
			weights[rng.IntN(len(f.sums))]++
		}
		for i, v := range f.figures(weights) {
			draws[i] = append(draws[i], v)
		}
	}
	return draws
}

// fidelity has the sums of each chunk, and all positions in the order of their KL, so that a resample is a walk over both.
type fidelity struct {
	n      int
	labels int
	kldMax float64
	broken bool // a position is NaN
	sums   []chunkSums
	sorted []place
}

type chunkSums struct {
	n, top1, top5     int
	kl, nll, otherNLL float64
	labels            int
}

type place struct {
	kl    float64
	chunk int
}

func newFidelity(chunks []Chunk) *fidelity {
	f := &fidelity{sums: make([]chunkSums, len(chunks))}
	for i, c := range chunks {
		s := &f.sums[i]
		for _, p := range c {
			f.broken = f.broken || p.KL != p.KL
			s.n++
			s.kl += p.KL
			f.kldMax = math.Max(f.kldMax, p.KL)
			if p.Top1 {
				s.top1++
			}
			if p.Top5 {
				s.top5++
			}
			if p.Labelled {
				s.labels++
			}
			s.nll, s.otherNLL = s.nll+p.NLL, s.otherNLL+p.OtherNLL
			f.sorted = append(f.sorted, place{p.KL, i})
		}
		f.n, f.labels = f.n+s.n, f.labels+s.labels
	}
	sort.Slice(f.sorted, func(i, j int) bool { return f.sorted[i].kl < f.sorted[j].kl })
	return f
}

func (f *fidelity) once() []int {
	weights := make([]int, len(f.sums))
	for i := range weights {
		weights[i] = 1
	}
	return weights
}

// figures of the chunks, each taken as often as its weight says, in the order of drawn.
func (f *fidelity) figures(weights []int) (out [len(drawn)]float64) {
	var n, top1, top5, labels int
	var kl, nll, otherNLL float64
	for i, w := range weights {
		if w == 0 {
			continue
		}
		s := &f.sums[i]
		n, top1, top5, labels = n+w*s.n, top1+w*s.top1, top5+w*s.top5, labels+w*s.labels
		kl, nll, otherNLL = kl+float64(float64(w)*s.kl), nll+float64(float64(w)*s.nll), otherNLL+float64(float64(w)*s.otherNLL)
	}
	total := float64(n)
	median, p99 := math.NaN(), math.NaN()
	if !f.broken {
		median, p99 = f.quantiles(weights, n)
	}
	return [len(drawn)]float64{kl / total, median, p99, float64(top1) / total, float64(top5) / total, tensor.Exp((otherNLL - nll) / float64(labels))}
}

// quantiles are the median and the 99th percentile of n positions, linear between neighbours as NumPy's.
func (f *fidelity) quantiles(weights []int, n int) (median, p99 float64) {
	ranks := [2]float64{0.5 * float64(n-1), 0.99 * float64(n-1)}
	var out, low [2]float64
	seen, found, next := 0, 0, 0 // next counts lower neighbours that are known
	for _, p := range f.sorted {
		if weights[p.chunk] == 0 {
			continue
		}
		seen += weights[p.chunk] // ranks below seen have values up to p.kl
		for next < 2 && seen > int(ranks[next]) {
			low[next] = p.kl
			next++
		}
		for found < next && seen > min(int(ranks[found])+1, n-1) {
			out[found] = low[found] + float64((ranks[found]-math.Floor(ranks[found]))*(p.kl-low[found]))
			found++
		}
		if found == 2 {
			break
		}
	}
	return out[0], out[1]
}

// Perplexity of the reference and of the other side: the exponential of the mean negative log-likelihood over all labels.
func Perplexity(chunks []Chunk) (reference, other float64) {
	var labels int
	var nll, otherNLL float64
	for _, s := range newFidelity(chunks).sums {
		labels += s.labels
		nll, otherNLL = nll+s.nll, otherNLL+s.otherNLL
	}
	if labels == 0 {
		return math.NaN(), math.NaN()
	}
	return tensor.Exp(nll / float64(labels)), tensor.Exp(otherNLL / float64(labels))
}

// quantile of sorted draws, linear between neighbours.
func quantile(sorted []float64, q float64) float64 {
	at := float64(q * float64(len(sorted)-1))
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + float64((at-float64(i))*(sorted[i+1]-sorted[i]))
}
