package benchmark

import (
	"fmt"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/stat"
)

// Format of a Report.
const Format = 1

// Report is the record of a cell: what was run where, every sample, and the figures made of them. It is one JSON document, so that gates are judged again without running anything.
type Report struct {
	Format int  `json:"format"` // 1
	Cell   Cell `json:"cell"`
	Side   Side `json:"side"`
	// Baseline was measured in turn with the cell; nil without one.
	Baseline *Side `json:"baseline,omitempty"`
	// NoBaseline says why a cell with a gate has none.
	NoBaseline string            `json:"no_baseline,omitempty"`
	Ratios     map[string]Figure `json:"ratios,omitempty"` // side / baseline, of metrics that both have

	Machine machine.Fingerprint `json:"machine"`
	Before  machine.State       `json:"before"`
	After   machine.State       `json:"after"`
	Load    machine.Load        `json:"load"` // while runs were measured
	Quick   bool                `json:"quick,omitempty"`
	Flags   []string            `json:"flags,omitempty"` // drift, unstable, other load, ...: what to think of before believing

	Tokens    string    `json:"tokens"` // "random" ids, or "prompts"
	Processes int       `json:"processes"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Error     string    `json:"error,omitempty"`
	Class     string    `json:"class,omitempty"` // of the error: oom, unsupported, missing, timeout, conditions, died, ...
	Hint      string    `json:"hint,omitempty"`
}

// Cell is a place in the matrix.
type Cell struct {
	Target    string `json:"target"`
	Runtime   string `json:"runtime"`
	Compute   string `json:"compute"`
	Batch     int    `json:"batch"`
	Prompt    int    `json:"prompt"`    // tokens read, of each text; 0 for real prompts
	Generated int    `json:"generated"` // tokens made, of each text
	Threads   int    `json:"threads"`   // 0 = all
}

// Label is the cell without its target: "builtin float32 b1 512+128".
func (c Cell) Label() string {
	text := fmt.Sprintf("%s %s b%d %s", c.Runtime, c.Compute, c.Batch, c.Shape())
	if c.Threads > 0 {
		text += fmt.Sprintf(" t%d", c.Threads)
	}
	return text
}

// Shape is "512+128".
func (c Cell) Shape() string {
	if c.Prompt == 0 {
		return fmt.Sprintf("prompts+%d", c.Generated)
	}
	return fmt.Sprintf("%d+%d", c.Prompt, c.Generated)
}

// Side is what was measured.
type Side struct {
	Name      string `json:"name"` // of the target or folder; of a baseline with its revision
	Runtime   string `json:"runtime"`
	RuntimeID string `json:"runtime_id"`
	Compute   string `json:"compute"`
	Digest    string `json:"digest"` // of the folder's content

	Metrics map[string]Figure    `json:"metrics"`
	Samples map[string][]float64 `json:"samples"` // raw, in the order they were taken
	Warmup  []float64            `json:"warmup"`  // seconds of the runs before
}

// Figure is the median of samples with its 95 % interval, or a ratio with its own.
type Figure struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	N     int     `json:"n"`
	Level float64 `json:"level,omitempty"` // of the interval: 0.95, or what so few samples can reach
}

// Interval gives a figure back to package stat.
func (f Figure) Interval() stat.Interval {
	return stat.Interval{Value: f.Value, Low: f.Low, High: f.High, N: f.N, Level: f.Level}
}

func figureOf(i stat.Interval) Figure {
	return Figure{Value: i.Value, Low: i.Low, High: i.High, N: i.N, Level: i.Level}
}

// OK reports whether the cell has figures that count.
func (r *Report) OK() bool { return r.Error == "" }
