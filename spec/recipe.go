// Package spec loads recipes. A loaded Recipe is valid, complete and positioned: names resolve, defaults are filled in, extends and vars are gone, and what a person wrote can be found
// again by file, line and column. All problems of a recipe are reported at once.
//
// It is the only package that knows YAML and JSON Schema. It expands no matrix and opens no model.
package spec

import (
	"regexp"
	"strings"
)

// Recipe is one recipe file with its includes.
type Recipe struct {
	File          string     // as it was named
	Dir           string     // the folder that build/ goes into
	Digest        [32]byte   // of every byte that was read, and the schema's version
	Sums          [][32]byte // SHA-256 of each of Files
	Files         []string   // the recipe and what it includes
	PromptFiles   []string   // that were read, too
	Models        []Model
	Quantizations []Quantization
	Convert       Convert
	Prompts       []PromptSet
	Corpora       []Corpus
	Generate      []Generate
	Validations   []Validation
	Benchmarks    []Benchmark
	Report        []string // html, md, jsonl, csv, junit

	// Of a recipe at another revision, whose targets others are compared with: where its outputs go, and the revision. Nothing of it is made unless it is needed.
	Build    string
	Revision string
}

// Model is a named source of weights.
type Model struct {
	Name     string
	Pos      Pos
	Source   Source
	Revision string // hf: only
	TextOnly bool
	Pin      *Pin // of hf:, from the lock; nil when nothing is locked yet. Set by who reads the lock, before planning
}

// Asked is how a lock names a source of the Hub: the source, and behind an @ the revision when the recipe has one.
func (m Model) Asked() string {
	if m.Revision == "" {
		return m.Source.Kind + ":" + m.Source.Ref
	}
	return m.Source.Kind + ":" + m.Source.Ref + "@" + m.Revision
}

// Asked is how a lock names a data set.
func (c Corpus) Asked() string { return "hf:" + c.Source.Ref }

// Pin is what a source on the Hub comes to: one commit and what is in it, so that all of it is known by digest before anything is fetched.
type Pin struct {
	Commit    string // 40 hexadecimal digits
	ModelType string // of config.json
	Files     []PinnedFile
}

// PinnedFile is one file of a Pin.
type PinnedFile struct {
	Path   string // slash-separated, a plain relative name
	Size   int64  // bytes
	SHA256 [32]byte
}

// Bytes of all files.
func (p *Pin) Bytes() (n int64) {
	for _, f := range p.Files {
		n += f.Size
	}
	return n
}

// Source says where a model is.
type Source struct {
	Kind string // path, hf, gguf, bin
	Ref  string // what stands behind the colon
	Path string // Ref joined to the folder of the file that says it; for path, gguf and bin
	Pos  Pos
}

// Quantization is a named scheme, its parents merged into it.
type Quantization struct {
	Name       string
	Pos        Pos
	Quantize   bool
	Dequantize bool
	Preset     string // mixed_4_6 and the like, "" = none
	Mode       string // affine, mxfp4, mxfp8, nvfp4
	Bits       *int   // nil = the mode's default
	GroupSize  *int
	Overrides  []Rule         // own first, then the parents'
	Where      map[string]Pos // key -> the value that decided, perhaps a parent's
}

// Rule is an override for some layers. The first that matches decides.
type Rule struct {
	Pos       Pos
	Text      string // as written, on one line
	In        string // the scheme it was written in
	Match     []string
	Layers    []LayerRange
	Quantize  *bool
	Mode      string
	Bits      *int
	GroupSize *int
	Optional  bool
}

// LayerRange is `3`, `0..1`, `-2..` or `4..-3/3`: both ends inclusive, negative numbers count from the last layer, an open end is the model's.
type LayerRange struct {
	From, To *int
	Step     int // at least 1
}

// Contains reports whether a layer of a model with so many layers is in the range.
func (l LayerRange) Contains(layer, layers int) bool {
	from, to := 0, layers-1
	if l.From != nil {
		from = fromEnd(*l.From, layers)
	}
	if l.To != nil {
		to = fromEnd(*l.To, layers)
	}
	return layer >= from && layer <= to && (layer-from)%max(l.Step, 1) == 0
}

func fromEnd(n, layers int) int {
	if n < 0 {
		return n + layers
	}
	return n
}

// Matches reports whether a rule is about a module. A bare name matches one whole component of the path, or the whole path; `re:` is a full regular expression. layer is -1 outside layers,
// and then no `layers:` matches.
func (r Rule) Matches(module string, layer, layers int) bool {
	if len(r.Match) > 0 && !r.matchesName(module) {
		return false
	}
	if len(r.Layers) == 0 {
		return true
	}
	for _, l := range r.Layers {
		if layer >= 0 && l.Contains(layer, layers) {
			return true
		}
	}
	return false
}

func (r Rule) matchesName(module string) bool {
	for _, m := range r.Match {
		if expr, ok := strings.CutPrefix(m, "re:"); ok {
			if re, err := regexp.Compile(`^(?:` + expr + `)$`); err == nil && re.MatchString(module) {
				return true
			}
			continue
		}
		if m == module || strings.Contains("."+module+".", "."+m+".") {
			return true
		}
	}
	return false
}

// Normalised is what enters a key: every default filled in, no names, no positions. A group_size that a preset leaves open stays null, as in mlx-lm.
func (q Quantization) Normalised() map[string]any {
	if q.Dequantize {
		return map[string]any{"dequantize": true}
	}
	overrides := []any{}
	for _, r := range q.Overrides {
		overrides = append(overrides, r.normalised())
	}
	m := map[string]any{"quantize": q.Quantize, "overrides": overrides}
	if !q.Quantize {
		return m
	}
	bits, group := modeDefaults(q.Mode)
	m["mode"], m["bits"], m["group_size"] = q.Mode, orDefault(q.Bits, bits), orDefault(q.GroupSize, group)
	if q.Preset != "" {
		m["preset"] = q.Preset
		if q.GroupSize == nil {
			m["group_size"] = nil
		}
	}
	return m
}

func orDefault(v *int, def int) any {
	if v != nil {
		return *v
	}
	return def
}

func (r Rule) normalised() map[string]any {
	m := map[string]any{}
	if len(r.Match) > 0 {
		m["match"] = append([]string{}, r.Match...)
	}
	var layers []any
	for _, l := range r.Layers {
		layers = append(layers, l.String())
	}
	if layers != nil {
		m["layers"] = layers
	}
	if r.Quantize != nil {
		m["quantize"] = *r.Quantize
	}
	if r.Mode != "" {
		m["mode"] = r.Mode
	}
	if r.Bits != nil {
		m["bits"] = *r.Bits
	}
	if r.GroupSize != nil {
		m["group_size"] = *r.GroupSize
	}
	return m
}

// modes are MLX's quantization modes with their default bits and group size.
var modes = []struct {
	Name       string
	Bits       []int
	GroupSizes []int
	bits, size int
}{
	{"affine", []int{1, 2, 3, 4, 5, 6, 8}, []int{32, 64, 128}, 4, 64},
	{"mxfp4", []int{4}, []int{32}, 4, 32},
	{"mxfp8", []int{8}, []int{32}, 8, 32},
	{"nvfp4", []int{4}, []int{16}, 4, 16},
}

func modeDefaults(mode string) (bits, groupSize int) {
	for _, m := range modes {
		if m.Name == mode {
			return m.bits, m.size
		}
	}
	return 0, 0
}

// Convert is how all targets are converted, and which there are.
type Convert struct {
	DType     string // auto, float16, bfloat16, float32
	Rounding  string
	Runtime   string
	ShardSize int64 // bytes
	Repair    bool
	Matrix    Matrix
	Where     map[string]Pos
}

// Matrix has the axes of the targets.
type Matrix struct {
	Pos           Pos
	Models        []string
	Quantizations []string
	DTypes        []string // nil = no such axis
	Exclude       []Filter
	Include       []Row
}

// Cells is the size of the product, before exclude.
func (m Matrix) Cells() int {
	return len(m.Models) * len(m.Quantizations) * max(len(m.DTypes), 1)
}

// Filter takes cells out: those that all its axes match. An empty axis matches anything.
type Filter struct {
	Pos                           Pos
	Models, Quantizations, DTypes []string
}

// Row is one more target.
type Row struct {
	Pos                              Pos
	Model, Quantization, DType, Name string
}

// Message of a chat.
type Message struct{ Role, Content string }

// Prompt is a text, or a chat.
type Prompt struct {
	Text     string
	Messages []Message
	Pos      Pos
}

// PromptSet is a named list of prompts.
type PromptSet struct {
	Name    string
	Pos     Pos
	Chat    bool
	System  string
	Prompts []Prompt
}

// Generate asks for text from targets.
type Generate struct {
	Name        string
	Pos         Pos
	Targets     []string // selectors
	Prompts     PromptSet
	Runtime     string
	MaxTokens   int
	Temperature float64
	TopP, MinP  float64
	Seed        uint64
	Where       map[string]Pos
}

// Corpus is a named text to measure on.
type Corpus struct {
	Name    string
	Pos     Pos
	Path    string // of the file; of one elsewhere its name
	Source  Source // path, hf (a data set, whose file is File) or https
	File    string
	SHA256  [32]byte // of https:
	Pin     *Pin     // of hf:, as of a Model
	Context int      // tokens of a chunk
	Chunks  int      // at most so many
	Score   string   // second-half, all
	Chat    bool
}

// The kinds of a Validation.
const (
	Parity   = "parity"   // same weights, another implementation
	Fidelity = "fidelity" // other weights, the same implementation
)

// Validation compares targets with a reference.
type Validation struct {
	Name      string
	Pos       Pos
	Kind      string
	Targets   []string // selectors
	Runtime   string   // auto, builtin, mlx, torch
	Compute   string
	Reference Reference
	Prompts   PromptSet // when Corpus is nil
	Corpus    *Corpus
	MaxTokens int
	Expect    []Expectation
	Where     map[string]Pos

	// Folder names a model whose folder is validated as it is, instead of targets; in recipes made in memory only.
	Folder string
}

// Reference is what a validation compares with; what is empty is chosen by its kind.
type Reference struct {
	Pos                                    Pos
	Runtime, Compute, Quantization, Target string
	Folder                                 string // a model, with Validation.Folder; "" is the folder itself
}

// Expectation has bounds for some targets.
type Expectation struct {
	Pos    Pos
	For    map[string][]string // label -> values, globs for target; all must hold
	Bounds []Bound
}

// Bound of one metric. Whether it is an upper or a lower one is the metric's.
type Bound struct {
	Metric string
	Pos    Pos
	Warn   *float64
	Limit  *float64 // max or min
	Margin float64  // token_mismatches: times the noise floor
}
