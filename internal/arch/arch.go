// Package arch says what mlx-lm makes of a model's config.json: which parameters there are, in which order, which tensors of a checkpoint are dropped, and where a config has to be
// repaired for mlx-lm to read it rightly. One folder below it is one architecture, named as in mlx-lm.
package arch

import "github.com/mlxbuild/mlxbuild/internal/jsonx"

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
	// Params lists the parameters in mlx-lm's order, that of tree_flatten(model.parameters()).
	Params() []Param
	// Keep reports whether a tensor of the checkpoint is a parameter's; false is what mlx-lm's sanitize drops.
	Keep(tensor string) bool
}

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
