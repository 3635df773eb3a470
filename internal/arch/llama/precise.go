package llama

import (
	"math"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// precise is the forward pass in float64, one operation after the other, as it stands in mlx_lm/models/llama.py: what network is measured against.
type precise struct {
	c           *Config
	pool        *tensor.Pool
	rope        *tensor.Rope
	embed, head *tensor.Matrix
	norm        []float32
	layers      []layer
	scratch     *tensor.Scratch64
}

// Precise makes the model ready to run in float64.
func (c *Config) Precise(w arch.Weights, pool *tensor.Pool) arch.Precise {
	p := &precise{c: c, pool: pool, embed: w.Matrix("model.embed_tokens"), norm: w.Vector("model.norm.weight"), scratch: tensor.NewScratch64(c.HiddenSize)}
	p.rope, _ = c.Rope() // judged when the config was read
	p.head = w.Matrix(c.Sizes().Head)
	for i := range c.Layer {
		p.layers = append(p.layers, c.layer(w, i))
	}
	return p
}

// text has the keys and values of what was read, [layer][position][heads * head dim].
type text struct{ keys, values [][][]float64 }

// NewText begins one.
func (p *precise) NewText() arch.Text {
	return &text{make([][][]float64, len(p.layers)), make([][][]float64, len(p.layers))}
}

// Bytes of keys and values.
func (t *text) Bytes() (n int64) {
	for _, layer := range t.keys {
		if len(layer) > 0 {
			n += 16 * int64(len(layer)) * int64(len(layer[0]))
		}
	}
	return n
}

// Read computes tokens that follow what the text holds.
func (p *precise) Read(to arch.Text, tokens []int32, see func(layer int, x [][]float64)) [][]float64 {
	t, c := to.(*text), p.c
	first := len(t.keys[0])
	x, normed := matrix(len(tokens), c.HiddenSize), matrix(len(tokens), c.HiddenSize)
	for i, id := range tokens {
		p.embed.Row64(x[i], int(id), p.scratch)
	}
	see(0, x)
	for i := range p.layers {
		l := &p.layers[i]
		p.normalize(normed, x, l.inputNorm)
		add64(x, p.attention(t, i, l, normed, first))
		p.normalize(normed, x, l.mlpNorm)
		add64(x, p.mlp(l, normed))
		see(i+1, x)
	}
	p.normalize(normed, x, p.norm)
	return normed
}

func (p *precise) normalize(dst, x [][]float64, weight []float32) {
	for t := range x {
		tensor.RMSNorm64(dst[t], x[t], weight, p.c.RMSNormEps)
	}
}

func matrix(rows, cols int) [][]float64 {
	out := make([][]float64, rows)
	for i := range out {
		out[i] = make([]float64, cols)
	}
	return out
}

func (p *precise) linear(l linear, x [][]float64) [][]float64 {
	out := matrix(len(x), l.Rows)
	l.Mul64(p.pool, out, x)
	for t := range out {
		for i, b := range l.bias {
			out[t][i] += float64(b)
		}
	}
	return out
}

func add64(dst, x [][]float64) {
	for t := range dst {
		for i, v := range x[t] {
			dst[t][i] += v
		}
	}
}

// attention of one layer over everything that was read, itself included.
func (p *precise) attention(t *text, index int, l *layer, x [][]float64, first int) [][]float64 {
	c, d := p.c, p.c.HeadDim
	q, k, v := p.linear(l.qkv[0], x), p.linear(l.qkv[1], x), p.linear(l.qkv[2], x)
	for i := range x {
		for h := range c.Heads {
			p.rope.Turn64(q[i][h*d:][:d], first+i)
		}
		for h := range c.KVHeads {
			p.rope.Turn64(k[i][h*d:][:d], first+i)
		}
	}
	t.keys[index], t.values[index] = append(t.keys[index], k...), append(t.values[index], v...)
	out := matrix(len(x), c.Heads*d)
	scale := 1 / math.Sqrt(float64(d))
	p.pool.Run(func(worker int) {
		for i := worker; i < len(x)*c.Heads; i += p.pool.Active() {
			token, h := i/c.Heads, i%c.Heads
			end := first + token + 1
			begin := 0
			if l.window > 0 {
				begin = max(0, end-l.window)
			}
			keys, values := make([][]float64, 0, end-begin), make([][]float64, 0, end-begin)
			at := h / (c.Heads / c.KVHeads) * d
			for j := begin; j < end; j++ {
				keys, values = append(keys, t.keys[index][j][at:at+d]), append(values, t.values[index][j][at:at+d])
			}
			tensor.Attend64(out[token][h*d:][:d], q[token][h*d:][:d], keys, values, scale)
		}
	})
	return p.linear(l.o, out)
}

func (p *precise) mlp(l *layer, x [][]float64) [][]float64 {
	gate, up := p.linear(l.gate, x), p.linear(l.up, x)
	for t := range gate {
		tensor.SiLUMul64(gate[t], up[t])
	}
	return p.linear(l.down, gate)
}

// Logits multiplies final hidden states with the output matrix.
func (p *precise) Logits(hidden [][]float64) [][]float64 {
	return p.linear(linear{Matrix: p.head}, hidden)
}
