// Package page writes one HTML file that shows what was built, how good it is and how fast: everything is inside it, and it fetches nothing.
package page

import "time"

// Page is what is shown, ready: figures have their text, verdicts are given, nothing is decided here. Every text may hold anything at all (prompts, names, errors) and is escaped.
type Page struct {
	Title    string // what was built: "recipes/smollm2.yaml"
	Program  string // "mlxbuild v1.2.0"
	Made     time.Time
	Headline []string // sentences, the most important first; may be empty
	Targets  []Target
	Cells    []Cell
	Series   []Series
	Prompts  []Prompt
	Maps     []Map
	Facts    []Fact // the environment
	Terms    []Term // how each number was got
	Recipes  []Recipe
}

// Verdicts: ok, warned, undecided, failed (of validations); ok, slower, noisy, error (of benchmarks); "" when nothing was judged.

// Target is a model that was built.
type Target struct {
	ID            string // smollm2/q4
	Bytes         int64  // of the folder
	Size          string // the same for people: "73.9 MB"
	BitsPerWeight float64
	Verdict       string  // the worst of its validations
	Reference     bool    // it is what the others are compared with, so its loss is 0 by definition
	Loss          *Figure // kld_mean against the reference, in nats; nil when it was not measured
	Speed         *Figure // decode_tok_s of its fastest cell of batch 1; nil when it was not measured
	SpeedOf       string  // that cell: "builtin float32, 128+64"
	Checks        []Check
}

// Figure is a number with its 95 % interval; without one, Low and High equal Value.
type Figure struct {
	Value, Low, High float64
	N                int    // samples or positions
	Text             string // "31.2 tok/s"
	Interval         string // "[31.0, 31.4]", "" without one
}

// Check is one expectation of a validation or gate.
type Check struct {
	Name    string // of the validation or benchmark
	Metric  string
	Value   string
	Bound   string
	Verdict string
	Rule    string // the recipe line: "recipes/smollm2.yaml:41:9"
	Note    string
}

// Cell is one row of a benchmark matrix.
type Cell struct {
	Benchmark, Target, Runtime, Compute string
	Batch                               int
	Shape                               string // "512+128": tokens read + tokens generated
	Threads                             string // "all" or a number
	Verdict                             string
	Error                               string // why there are no figures: out of memory, over its time
	Unranked                            string // why the cell is struck out: "validation cost failed"; "" otherwise
	Best                                bool   // fastest of its batch and shape among those that are ranked
	Metrics                             []Metric
	Against                             []Change // the gate
	Flags                               []string // "drift", "unstable", "quick", "other load"
	Key                                 string   // hex
	When                                time.Time
}

// Metric of a cell, its raw samples included.
type Metric struct {
	Name    string // decode_tok_s
	Higher  bool   // more is better
	Figure  Figure
	Samples []float64
}

// Change is a metric against the baseline, as a ratio.
type Change struct {
	Metric   string
	Baseline string // "git:main 1a2b3c4d"
	Ratio    string // "1.02x [1.01, 1.03]"
	Bound    string // "at most 3% slower"
	Verdict  string
	Note     string
}

// Series is one metric of one cell over time.
type Series struct {
	Cell   string // "chat smollm2/q4 builtin float32 b1 512+128"
	Metric string
	Unit   string
	Higher bool
	Points []Point
}

// Point of a series.
type Point struct {
	When             time.Time
	Commit           string // short, "" when unknown
	Value, Low, High float64
}

// Prompt and what each target wrote after it.
type Prompt struct {
	Set    string // the recipe entry
	Prompt string
	Texts  []Text
}

// Text of a target.
type Text struct {
	Target  string
	Text    string
	Same    bool // as the first text of the prompt
	PartsAt int  // bytes of Text that are the same as in the first text
}

// Map shows how the matrices of a target are quantized: rows are layers, columns are modules.
type Map struct {
	Target  string
	Columns []string // "self_attn.q_proj", ...; those outside layers last
	Rows    []MapRow
}

// MapRow is a layer, or "" for what is outside layers.
type MapRow struct {
	Name  string // "0", "1", ..., "other"
	Cells []MapCell
}

// MapCell is a matrix; Bits 0 and Kind "" where there is none.
type MapCell struct {
	Kind  string  // "affine 4 bits, group 64", "bfloat16"
	Bits  float64 // for each weight, scales included: 4.5, 16
	Error float64 // |difference| / |source|, Euclidean; negative when unknown
}

// Fact of the environment.
type Fact struct{ Name, Value string }

// Term explains a metric.
type Term struct{ Name, Meaning string }

// Recipe is shown as it is.
type Recipe struct{ Name, Text string }
