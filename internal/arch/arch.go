// Package arch says what mlx-lm makes of a model's config.json: which parameters there are, in which order, which tensors of a checkpoint are dropped, where a config has to be repaired for
// mlx-lm to read it rightly, and what the model computes. One folder below it is one architecture, named as in mlx-lm.
//
// An architecture reads a config and headers; it knows no files, no steps and no runtimes. It refuses configs that contradict themselves or name sizes that cannot be, with an error that
// names the key.
package arch

import (
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// Param is one parameter of the MLX model, unquantized.
type Param struct {
	Name        string  // "model.layers.3.mlp.down_proj.weight"
	Shape       []int64 // as stored: [out, in] for a Linear
	Module      string  // Name without its last part
	Layer       int     // -1 outside layers
	Quantizable bool    // the weight of a Linear or Embedding: what mlx's to_quantized takes
}

// Repair is a key that config.json needs so that mlx-lm reads the model rightly.
type Repair struct {
	Key   string
	Value any // as jsonx holds values
	Why   string
}

// Model is one config, understood.
type Model interface {
	// Layers is the number of transformer blocks, which override rules count.
	Layers() int
	// Sizes are what callers of a running model need to know.
	Sizes() Sizes
	// Params lists the parameters in mlx-lm's order, that of tree_flatten(model.parameters()).
	Params() []Param
	// Keep reports whether a tensor of the checkpoint is a parameter's; false is what mlx-lm's sanitize drops.
	Keep(tensor string) bool
	// Network is the model made to run on the CPU, for at most block tokens at a time, in an arithmetic. Weights has all of Params, in these shapes.
	Network(w Weights, pool *tensor.Pool, block int, a tensor.Arithmetic) Network
	// Precise is the model made to run in float64.
	Precise(w Weights, pool *tensor.Pool) Precise
}

// Sizes of a model.
type Sizes struct {
	Vocabulary int
	Hidden     int
	Positions  int    // 0: config.json does not say
	Head       string // the module that logits are made with: lm_head, or the embedding
}

// Weights are a model's parameters, by their names.
type Weights interface {
	Matrix(module string) *tensor.Matrix // the weight of a Linear or Embedding
	Vector(name string) []float32        // any other parameter
	Arena() *tensor.Arena                // where matrices are laid out
}

// Place says where a token stands: in which text, and at which position of it.
type Place = tensor.Place

// Network computes. It is not safe for concurrent use, and allocates nothing after matrices have been used once, but for what workers keep of a text that is longer than any before.
//
// What comes out for a token depends on the tokens before it in its text, and on nothing else: not on what is computed with it, not on the number of workers.
type Network interface {
	KVShape() tensor.KVShape
	// Forward reads tokens, at most block of them, and writes what comes out of the last norm to hidden, [len(tokens), hidden size]. Tokens of one text stand in the order of their
	// positions; the KV has what was before them, and gets theirs.
	Forward(hidden []float32, tokens []int32, places []Place)
	// Observe makes Forward show what runs through the model, [len(tokens), hidden size]: 0 is what enters the first block, i+1 what leaves block i. What is shown must not be kept. nil ends it.
	Observe(see func(layer int, x []float32))
	// Logits multiplies at most block rows of hidden with the output matrix, [rows, vocabulary].
	Logits(logits, hidden []float32)
	// Bytes of all buffers.
	Bytes() int64
}

// Precise computes in float64, plainly: what a Network is measured against. Not safe for concurrent use.
type Precise interface {
	// NewText begins a text.
	NewText() Text
	// Read computes tokens that follow what a text holds, and returns what comes out of the last norm, [len(tokens)][hidden size]. see is shown what runs through the layers, as by Network.Observe.
	Read(t Text, tokens []int32, see func(layer int, x [][]float64)) [][]float64
	// Logits multiplies final hidden states with the output matrix, [rows][vocabulary].
	Logits(hidden [][]float64) [][]float64
}

// Text holds the keys and values of what was read.
type Text interface{ Bytes() int64 }

// Arch is one architecture.
type Arch struct {
	Name       string
	ModelTypes []string          // the model_type values it stands for
	Code       string            // for keys: raised when what it makes of a config changes
	Checked    map[string]string // by model_type: what it was checked against
	// Repairs judges a config by its form, whatever the values: has reports whether the checkpoint has a tensor.
	Repairs func(config *jsonx.Object, has func(tensor string) bool) []Repair
	// Parse reads a config as mlx-lm does. Its errors name the key.
	Parse func(config *jsonx.Object) (Model, error)
}

// ConfigError is a config.json that cannot be.
type ConfigError struct{ Key, What string }

func (e *ConfigError) Error() string { return "config.json: " + e.Key + " " + e.What }
