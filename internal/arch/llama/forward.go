package llama

import (
	"math"
	"strconv"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// network is the forward pass: class LlamaModel and its parts in mlx_lm/models/llama.py, for a block of tokens.
//
// Work is split between the workers by rows of matrices, by tokens or by heads, in pieces that end where the next needs what all of them made. Everything between is done by the caller alone for one
// token, and split by tokens for more.
type network struct {
	c     *Config
	pool  *tensor.Pool
	arena *tensor.Arena
	rope  *tensor.Rope

	embed, head *tensor.Matrix
	norm        []float32
	layers      []layer

	// activations of a block of tokens
	x             []float32     // [block, hidden]: what runs through the layers
	normed        *tensor.Input // of hidden
	q, k, v       []float32     // [block, heads * head dim]
	attended      *tensor.Input // of heads * head dim
	gate, up, out []float32     // [block, intermediate], and [block, hidden]
	activated     *tensor.Input // of intermediate
	cos, sin      []float32     // [block, head dim / 2]
	scratch       []*tensor.Scratch
	arithmetic    tensor.Arithmetic
	attention     *tensor.Attention
	seen          func(token int) []float32 // a row of attended
	bytes         int64

	// what the current piece works on; pieces are made once, because making a closure allocates
	n       int
	shares  int // of products
	layer   *layer
	index   int // of layer
	places  []arch.Place
	target  []float32     // of logits
	weights []float32     // of the norm at hand
	sealing *tensor.Input // whose sums are made
	see     func(layer int, x []float32)
	pieces  struct {
		norm, seal, qkv, turn, attend, merge, o, gateUp, down, head func(worker int)
	}
}

type layer struct {
	qkv                [3]linear
	o, gate, up, down  linear
	inputNorm, mlpNorm []float32
	window             int // positions that a token sees, itself included; 0: all
}

type linear struct {
	*tensor.Matrix
	bias []float32
}

// Network makes the model ready to run.
func (c *Config) Network(w arch.Weights, pool *tensor.Pool, block int, a tensor.Arithmetic) arch.Network {
	n := &network{c: c, pool: pool, arena: w.Arena(), embed: w.Matrix("model.embed_tokens"), norm: w.Vector("model.norm.weight")}
	n.rope, _ = c.Rope() // judged when the config was read
	n.head = n.embed
	if !c.Tied {
		n.head = w.Matrix("lm_head")
	}
	for i := range c.Layer {
		n.layers = append(n.layers, c.layer(w, i))
	}
	n.allocate(block, a)
	p := &n.pieces
	p.norm, p.seal, p.qkv, p.turn, p.attend, p.merge = n.normPiece, n.sealPiece, n.qkvPiece, n.turnPiece, n.attendPiece, n.mergePiece
	p.o, p.gateUp, p.down, p.head = n.oPiece, n.gateUpPiece, n.downPiece, n.headPiece
	return n
}

func (c *Config) layer(w arch.Weights, i int) layer {
	at := "model.layers." + strconv.Itoa(i) + "."
	linear := func(module string, biased bool) linear {
		l := linear{Matrix: w.Matrix(at + module)}
		if biased {
			l.bias = w.Vector(at + module + ".bias")
		}
		return l
	}
	l := layer{inputNorm: w.Vector(at + "input_layernorm.weight"), mlpNorm: w.Vector(at + "post_attention_layernorm.weight")}
	for j, name := range [3]string{"q_proj", "k_proj", "v_proj"} {
		l.qkv[j] = linear("self_attn."+name, c.AttentionBias)
	}
	l.o = linear("self_attn.o_proj", c.AttentionBias)
	l.gate, l.up, l.down = linear("mlp.gate_proj", c.MLPBias), linear("mlp.up_proj", c.MLPBias), linear("mlp.down_proj", c.MLPBias)
	if c.LayerTypes[i] == "sliding_attention" {
		l.window = c.SlidingWindow
	}
	return l
}

func (n *network) allocate(block int, a tensor.Arithmetic) {
	c := n.c
	floats := func(size int) []float32 {
		n.bytes += 4 * int64(size)
		return make([]float32, size)
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	n.x, n.out = floats(block*c.HiddenSize), floats(block*c.HiddenSize)
	n.q, n.k, n.v = floats(block*q), floats(block*kv), floats(block*kv)
	n.gate, n.up = floats(block*c.Intermediate), floats(block*c.Intermediate)
	n.cos, n.sin = floats(block*c.HeadDim/2), floats(block*c.HeadDim/2)
	ofHidden, ofHeads, ofInner := []*tensor.Matrix{n.head}, []*tensor.Matrix{}, []*tensor.Matrix{}
	for i := range n.layers {
		l := &n.layers[i]
		ofHidden = append(ofHidden, l.qkv[0].Matrix, l.qkv[1].Matrix, l.qkv[2].Matrix, l.gate.Matrix, l.up.Matrix)
		ofHeads, ofInner = append(ofHeads, l.o.Matrix), append(ofInner, l.down.Matrix)
	}
	n.normed, n.attended, n.activated = tensor.NewInput(block, c.HiddenSize, a, ofHidden...), tensor.NewInput(block, q, a, ofHeads...), tensor.NewInput(block, c.Intermediate, a, ofInner...)
	n.bytes += n.normed.Bytes() + n.attended.Bytes() + n.activated.Bytes()
	n.arithmetic = a
	n.attention = tensor.NewAttention(n.KVShape(), c.Heads, n.pool.Workers(), float32(1/math.Sqrt(float64(c.HeadDim))))
	n.seen = n.attended.Row
	for range min(finer*n.pool.Workers(), tensor.MaxShares) {
		n.scratch = append(n.scratch, tensor.NewScratch())
	}
}

// Bytes of all buffers.
func (n *network) Bytes() int64 { return n.bytes + n.attention.Bytes() }

// kvTypes are how keys and values are kept, by what becomes of activations in products.
var kvTypes = map[tensor.Arithmetic]tensor.KVType{tensor.Float32: tensor.KVFloat32, tensor.Fast: tensor.KVFloat16, tensor.Int8: tensor.KVInt8}

// KVShape is what each position leaves behind.
func (n *network) KVShape() tensor.KVShape {
	return tensor.KVShape{Layers: n.c.Layer, Heads: n.c.KVHeads, HeadDim: n.c.HeadDim, Type: kvTypes[n.arithmetic]}
}

// Forward runs tokens through all layers.
func (n *network) Forward(hidden []float32, tokens []int32, places []arch.Place) {
	n.n, n.places = len(tokens), places
	for _, in := range [3]*tensor.Input{n.normed, n.attended, n.activated} {
		in.Begin(n.n)
	}
	n.begin(tokens)
	n.show(0)
	for i := range n.layers {
		n.index, n.layer = i, &n.layers[i]
		n.bytes += n.layer.lay(n.pool, n.arena)
		n.normalize(n.layer.inputNorm)
		n.multiplyAll(n.pieces.qkv)
		n.each(n.pieces.turn)
		n.attend()
		n.seal(n.attended)
		n.multiplyAll(n.pieces.o)
		n.normalize(n.layer.mlpNorm)
		n.multiplyAll(n.pieces.gateUp)
		n.multiplyAll(n.pieces.down)
		n.show(i + 1)
	}
	for t := range n.n {
		tensor.RMSNorm(hidden[t*n.c.HiddenSize:][:n.c.HiddenSize], n.row(t), n.norm, n.c.RMSNormEps)
	}
	n.places = nil
	n.attention.Plan(nil, 0) // which lets go of the texts, too
}

// Observe makes Forward show what runs through the layers.
func (n *network) Observe(see func(layer int, x []float32)) { n.see = see }

func (n *network) show(layer int) {
	if n.see != nil {
		n.see(layer, n.x[:n.n*n.c.HiddenSize])
	}
}

// begin looks up the embeddings and the angles.
func (n *network) begin(tokens []int32) {
	half := n.c.HeadDim / 2
	for t, id := range tokens {
		n.embed.Row(n.row(t), int(id))
		n.rope.Angles(n.cos[t*half:][:half], n.sin[t*half:][:half], n.places[t].Position)
	}
}

func (n *network) row(t int) []float32 { return n.x[t*n.c.HiddenSize:][:n.c.HiddenSize] }

// each runs a piece that is split by tokens: alone when there is but one.
func (n *network) each(piece func(worker int)) {
	if n.n > 1 {
		n.pool.Run(piece)
		return
	}
	piece(0)
}

// mine are the tokens of a worker in a piece that each runs.
func (n *network) mine(worker int) (lo, hi int) {
	if n.n == 1 {
		return 0, 1
	}
	return n.pool.Share(worker, n.n, 1)
}

func (n *network) normalize(weights []float32) {
	n.weights = weights
	n.each(n.pieces.norm)
	n.seal(n.normed)
}

func (n *network) normPiece(worker int) {
	lo, hi := n.mine(worker)
	for t := lo; t < hi; t++ {
		tensor.RMSNorm(n.normed.Row(t), n.row(t), n.weights, n.c.RMSNormEps)
	}
}

func (n *network) seal(in *tensor.Input) {
	n.sealing = in
	n.each(n.pieces.seal)
}

func (n *network) sealPiece(worker int) {
	lo, hi := 0, n.sealing.Pieces()
	if n.n > 1 {
		lo, hi = n.pool.Share(worker, hi, 1)
	}
	n.sealing.Seal(lo, hi, n.scratch[worker])
}

// lay has matrices laid out that have not been used before, and says how many bytes that took.
func (l *layer) lay(p *tensor.Pool, a *tensor.Arena) (bytes int64) {
	for _, m := range [...]linear{l.qkv[0], l.qkv[1], l.qkv[2], l.o, l.gate, l.up, l.down} {
		bytes += m.Lay(p, a)
	}
	return bytes
}

// multiply writes a worker's rows of a product, bias added, to dst [n, rows].
func (n *network) multiply(dst []float32, l linear, in *tensor.Input, lo, hi, worker int) {
	if lo == hi {
		return
	}
	l.Mul(dst, l.Rows, in, lo, hi, n.scratch[worker])
	if l.bias == nil {
		return
	}
	for t := range n.n {
		tensor.Add(dst[t*l.Rows:][lo:hi], l.bias[lo:hi])
	}
}

// finer is how many shares a worker has of products with many vectors, which take long enough for it.
const finer = 4

// multiplyAll runs a piece of products, in shares.
func (n *network) multiplyAll(piece func(share int)) {
	n.shares = n.pool.Active()
	if n.n > 1 && n.shares > 1 {
		n.shares = min(finer*n.shares, len(n.scratch))
	}
	n.pool.RunShares(n.shares, piece)
}

// rows are those of a product with in that are a share's.
func (n *network) rows(share int, l linear, in *tensor.Input) (lo, hi int) {
	return tensor.Share(share, n.shares, l.Rows, l.Unit(in))
}

// addTo adds a worker's part of a product to what runs through the layers.
func (n *network) addTo(l linear, in *tensor.Input, worker int) {
	lo, hi := n.rows(worker, l, in)
	n.multiply(n.out, l, in, lo, hi, worker)
	for t := range n.n {
		tensor.Add(n.row(t)[lo:hi], n.out[t*l.Rows:][lo:hi])
	}
}

func (n *network) qkvPiece(worker int) {
	for i, dst := range [3][]float32{n.q, n.k, n.v} {
		l := n.layer.qkv[i]
		lo, hi := n.rows(worker, l, n.normed)
		n.multiply(dst, l, n.normed, lo, hi, worker)
	}
}

// turnPiece turns queries and keys by their positions, and stores keys and values.
func (n *network) turnPiece(worker int) {
	d, half := n.c.HeadDim, n.c.HeadDim/2
	lo, hi := n.mine(worker)
	for t := lo; t < hi; t++ {
		cos, sin := n.cos[t*half:][:half], n.sin[t*half:][:half]
		for h := range n.c.Heads {
			n.rope.Turn(n.q[(t*n.c.Heads+h)*d:][:d], cos, sin)
		}
		at := n.places[t]
		for h := range n.c.KVHeads {
			k := n.k[(t*n.c.KVHeads+h)*d:][:d]
			n.rope.Turn(k, cos, sin)
			at.KV.Put(n.index, h, at.Position, k, n.v[(t*n.c.KVHeads+h)*d:][:d])
		}
	}
}

// attend writes what heads see to attended.
func (n *network) attend() {
	n.attention.Plan(n.places, n.layer.window)
	n.pool.Run(n.pieces.attend)
	if n.attention.Split() {
		n.pool.RunShares(n.pool.Workers(), n.pieces.merge)
	}
}

func (n *network) attendPiece(worker int) { n.attention.Work(worker, n.index, n.q, n.seen) }

func (n *network) mergePiece(share int) { n.attention.Merge(share, n.seen) }

func (n *network) oPiece(worker int) { n.addTo(n.layer.o, n.attended, worker) }

func (n *network) gateUpPiece(worker int) {
	size := n.c.Intermediate
	lo, hi := tensor.Share(worker, n.shares, size, tensor.Block) // whole blocks, so that they can be sealed at once
	n.multiply(n.gate, n.layer.gate, n.normed, lo, hi, worker)
	n.multiply(n.up, n.layer.up, n.normed, lo, hi, worker)
	for t := range n.n {
		tensor.SiLUMul(n.activated.Row(t)[lo:hi], n.gate[t*size:][lo:hi], n.up[t*size:][lo:hi])
	}
	n.activated.SealColumns(lo, hi, n.scratch[worker])
}

func (n *network) downPiece(worker int) { n.addTo(n.layer.down, n.activated, worker) }

// Logits multiplies rows of hidden with the output matrix.
func (n *network) Logits(logits, hidden []float32) {
	size := n.c.HiddenSize
	n.n = len(hidden) / size
	n.normed.Begin(n.n)
	n.bytes += n.head.Lay(n.pool, n.arena)
	for t := range n.n {
		copy(n.normed.Row(t), hidden[t*size:][:size])
	}
	n.seal(n.normed)
	n.target = logits
	n.multiplyAll(n.pieces.head)
	n.target = nil
}

func (n *network) headPiece(worker int) {
	head := linear{Matrix: n.head}
	lo, hi := n.rows(worker, head, n.normed)
	n.multiply(n.target, head, n.normed, lo, hi, worker)
}
