package validate

import (
	"github.com/mlxbuild/mlxbuild/internal/metric"
)

// Report is the record of a validate step: what was compared, how, and every figure. It is one JSON document, so that thresholds can be judged again without running anything.
type Report struct {
	Format    int       `json:"format"` // 1
	Kind      string    `json:"kind"`   // parity, fidelity
	Target    Side      `json:"target"`
	Reference Side      `json:"reference"`
	Class     Class     `json:"class"` // of the target's weights
	Tokens    TokenInfo `json:"tokens"`

	Metrics map[string]metric.Value `json:"metrics"`
	// Perplexity of both on the same tokens; 0 where no token has a successor.
	Perplexity          metric.Number `json:"perplexity,omitempty"`
	ReferencePerplexity metric.Number `json:"reference_perplexity,omitempty"`

	Noise   Noise          `json:"noise"`
	Prompts []PromptReport `json:"prompts,omitempty"`
	Layers  []LayerReport  `json:"layers,omitempty"`
	// Tensors compares the weights of two folders; nil when both sides read one.
	Tensors *Tensors `json:"tensors,omitempty"`
	// Settings are keys of config.json that say something else than the reference's.
	Settings []string `json:"settings,omitempty"`
	// Broken are reasons why the target fails whatever the thresholds are: NaN, or a quantized target that differs in nothing.
	Broken []string `json:"broken,omitempty"`
}

// Side is one of the two that are compared.
type Side struct {
	Name      string `json:"name"`    // of the target or folder
	Weights   string `json:"weights"` // target, source: what was run under this name
	Runtime   string `json:"runtime"`
	RuntimeID string `json:"runtime_id"`
	Compute   string `json:"compute"`
}

// Class of a target's weights: what its defaults go by.
type Class struct {
	Mode string `json:"mode,omitempty"` // of the narrowest matrix; "" when none is quantized
	Bits int    `json:"bits,omitempty"`
	Type string `json:"type"` // of what is not quantized: BF16, F16, F32
}

// TokenInfo says what was read.
type TokenInfo struct {
	Digest    string `json:"digest"` // SHA-256 of the frozen ids
	Sequences int    `json:"sequences"`
	Positions int    `json:"positions"` // judged
	Context   int    `json:"context,omitempty"`
}

// Noise is what the same side differs by when it computes the same tokens in another shape: in a longer text, or in pieces.
type Noise struct {
	Logit metric.Number `json:"logit_error_abs"`
	KLD   metric.Number `json:"kld_mean"`
	// Floor is 2^-20 of the largest logit: what two float32 implementations differ by at least, even where each repeats itself exactly.
	Floor metric.Number `json:"floor"`
}

// PromptReport is what came of one prompt.
type PromptReport struct {
	Prompt        string        `json:"prompt"`
	Tokens        int           `json:"tokens"`
	LogitErrorRel metric.Number `json:"logit_error_rel"`
	LogitErrorAbs metric.Number `json:"logit_error_abs"`
	KLD           metric.Number `json:"kld_mean"`
	Greedy        int           `json:"greedy_tokens"` // of the reference's text
	Mismatches    []Mismatch    `json:"mismatches,omitempty"`
	ReferenceText string        `json:"reference_text"`
	Text          string        `json:"text"` // what the target writes by itself
	SameText      bool          `json:"same_text"`
	PartsAt       int           `json:"parts_at"` // the first token that differs, when both write by themselves
}

// Mismatch is a token of the reference's greedy text that the target would not have chosen after the same tokens.
type Mismatch struct {
	Position  int           `json:"position"` // in the text, from 0
	Reference int32         `json:"reference"`
	Token     int32         `json:"token"`
	Gap       metric.Number `json:"gap"` // by how much the reference preferred its own, in logits
}

// LayerReport compares what runs through the model. Layer 0 is what enters the first block, i+1 what leaves block i.
type LayerReport struct {
	Layer int           `json:"layer"`
	Error metric.Number `json:"error"` // largest over tokens of |difference| / |reference|, Euclidean
}
