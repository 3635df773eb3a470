package spec

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// Benchmark is a matrix of cells to be timed.
type Benchmark struct {
	Name     string
	Pos      Pos
	Matrix   BenchMatrix
	Warmup   Warmup
	Runs     Runs
	Cooldown Cooldown
	Require  Require
	Timeout  time.Duration // of a cell
	Gate     *Gate         // nil: none
	Commands []Command
	Where    map[string]Pos

	// In recipes made in memory only:
	Folders bool     // targets of the matrix are models, run from their folders as they are
	Prompts []Prompt // real texts instead of random tokens; then a shape's prompt length is theirs
	Versus  *Rival   // measured in turn with every cell
}

// Rival is the other side of cells that compare two runtimes.
type Rival struct{ Target, Runtime, Compute string }

// BenchMatrix has the axes of the cells.
type BenchMatrix struct {
	Pos      Pos
	Targets  []string // selectors
	Runtimes []string // auto, builtin, mlx, torch, command:NAME
	Computes []string // default, float32, ...
	Batches  []int
	Shapes   []Shape
	Threads  []int // 0 = all
	Exclude  []BenchFilter
	Include  []BenchRow
}

// Shape is how many tokens a text has and how many are generated.
type Shape struct{ Prompt, Generated int }

func (s Shape) String() string { return fmt.Sprintf("%d+%d", s.Prompt, s.Generated) }

// BenchFilter takes cells out: those that all its axes match. An empty axis matches anything.
type BenchFilter struct {
	Pos      Pos
	Targets  []string // selectors
	Runtimes []string
	Computes []string
	Batches  []int
	Shapes   []Shape
	Threads  []int
}

// BenchRow is one more cell.
type BenchRow struct {
	Pos                      Pos
	Target, Runtime, Compute string
	Batch, Threads           int
	Shape                    Shape
}

// Warmup says when measuring may begin.
type Warmup struct {
	Runs    int
	Until   float64 // two in a row differ by no more than this share; 0 = not asked for
	Timeout time.Duration
}

// Runs says how often a cell is run.
type Runs struct {
	Min, Max  int
	Until     float64 // half width of the 95 % intervals, as a share; 0 = not asked for
	Processes int
}

// Cooldown is the rest before each run.
type Cooldown struct {
	Min     time.Duration
	Nominal bool // until heat throttles nothing
	Timeout time.Duration
}

// Require says what the machine must be like.
type Require struct{ Power, LowPower, Memory bool }

// Gate says when a cell is a failure.
type Gate struct {
	Pos       Pos
	Against   string // accepted, or git:REVISION
	SlowerBy  []Tolerance
	LargerBy  []Tolerance
	NoisyFail bool
}

// Tolerance of one metric, as a share.
type Tolerance struct {
	Metric string
	Share  float64
	Pos    Pos
}

// Command is a program of the user's that is timed, or tells its own figures.
type Command struct {
	Name    string
	Pos     Pos
	Run     []string
	Version []string
	Read    []Reading
}

// Reading finds a metric in the output of a program: the first group of the last match.
type Reading struct {
	Metric string
	Expr   string
}

// Runs that a cell has by default: six are the fewest whose range holds the median with 95 % confidence, twelve find a slowdown of 5 % beyond a tolerance of 3 %.
const (
	defaultRuns = 6
	gateRuns    = 12
	// Runs of one process share what its start made of them, so a comparison needs several starts: with two, starts that vary by 2 % make 1.5 % of equal sides "slower", with four 0.1 %.
	gateProcesses = 4
	maxRuns       = 20
)

func (l *loader) benchmark(r *Recipe, section *node) {
	for _, f := range section.fieldsOf() {
		n := f.value
		b := Benchmark{Name: f.key, Pos: f.pos, Timeout: 10 * time.Minute, Where: map[string]Pos{}}
		for _, sub := range n.fieldsOf() {
			b.Where[sub.key] = sub.value.pos
		}
		l.duration(n.get("timeout"), &b.Timeout)
		b.Commands = l.commands(n.get("commands"))
		b.Matrix = l.benchMatrix(b, n.get("matrix"))
		b.Gate = l.gate(n.get("gate"))
		b.Runs = l.runs(n.get("runs"), b.Gate != nil)
		b.Warmup = Warmup{Runs: 1, Timeout: 2 * time.Minute}
		if w := n.get("warmup"); w != nil {
			w.get("runs").intInto(&b.Warmup.Runs)
			b.Warmup.Until = l.shareOr(w.get("until_stable"), 0)
			l.duration(w.get("timeout"), &b.Warmup.Timeout)
		}
		b.Cooldown = Cooldown{Timeout: 5 * time.Minute}
		if c := n.get("cooldown"); c != nil {
			l.duration(c.get("min"), &b.Cooldown.Min)
			l.duration(c.get("timeout"), &b.Cooldown.Timeout)
			b.Cooldown.Nominal = c.get("until") != nil
		}
		req := n.get("require")
		b.Require = Require{Power: req.get("power") != nil, LowPower: req.get("low_power_mode") != nil, Memory: req.get("memory_pressure") != nil}
		r.Benchmarks = append(r.Benchmarks, b)
	}
}

func (l *loader) runs(n *node, gate bool) Runs {
	runs := Runs{Min: defaultRuns, Max: maxRuns, Until: 0.02, Processes: 2}
	if gate {
		runs.Min, runs.Processes = gateRuns, gateProcesses
	}
	if n == nil {
		return runs
	}
	n.get("min").intInto(&runs.Min)
	n.get("max").intInto(&runs.Max)
	n.get("processes").intInto(&runs.Processes)
	runs.Until = l.shareOr(n.get("until_ci"), runs.Until)
	switch {
	case n.get("max") == nil:
		runs.Max = max(runs.Max, runs.Min)
	case n.get("min") == nil && !gate:
		runs.Min = min(runs.Min, runs.Max)
	case runs.Min > runs.Max:
		l.fail(n.get("max").pos, "", "at least %d runs and at most %d cannot both be", runs.Min, runs.Max)
	}
	if gate && runs.Min < defaultRuns {
		l.fail(n.pos, "with fewer than 6 pairs no interval reaches 95 %", "a gate needs at least 6 runs, better 12; this has %d", runs.Min)
	}
	return runs
}

func (l *loader) benchMatrix(b Benchmark, n *node) BenchMatrix {
	m := BenchMatrix{Runtimes: []string{"auto"}, Computes: []string{"default"}, Batches: []int{1}, Shapes: []Shape{{512, 128}}, Threads: []int{0}}
	if n == nil {
		return m
	}
	m.Pos, m.Targets = n.pos, n.get("target").texts()
	if v := n.get("runtime"); v != nil {
		m.Runtimes = l.benchRuntimes(b, v)
	}
	if v := n.get("compute"); v != nil {
		m.Computes = v.texts()
	}
	if v := n.get("batch"); v != nil {
		m.Batches = v.ints()
	}
	if v := n.get("shape"); v != nil {
		m.Shapes = l.shapes(v)
	}
	if v := n.get("threads"); v != nil {
		m.Threads = v.ints()
	}
	cells := float64(len(m.Runtimes)) * float64(len(m.Computes)) * float64(len(m.Batches)) * float64(len(m.Shapes)) * float64(len(m.Threads)) * float64(len(m.Targets))
	if cells > maxCells {
		l.fail(n.pos, "split the benchmark", "the matrix has %.0f cells for each target; %d are allowed", cells, maxCells)
		return BenchMatrix{}
	}
	for _, item := range n.get("exclude").itemsOf() {
		m.Exclude = append(m.Exclude, l.benchFilter(m, item))
	}
	for _, item := range n.get("include").itemsOf() {
		m.Include = append(m.Include, l.benchRow(b, item))
	}
	return m
}

func (l *loader) benchRuntimes(b Benchmark, n *node) []string {
	names := n.texts()
	for i, name := range names {
		command, ok := strings.CutPrefix(name, "command:")
		if ok && !slices.ContainsFunc(b.Commands, func(c Command) bool { return c.Name == command }) {
			l.fail(n.place(i), "define it: commands: {"+command+": {run: [...], read: {decode_tok_s: ...}}}", "benchmark.%s has no command %s", b.Name, command)
		}
	}
	return names
}

// benchFilter reads a filter. A value that the axis does not have is a typing mistake.
func (l *loader) benchFilter(m BenchMatrix, n *node) BenchFilter {
	f := BenchFilter{Pos: n.pos, Targets: n.get("target").texts(), Runtimes: n.get("runtime").texts(), Computes: n.get("compute").texts(), Batches: n.get("batch").ints(), Threads: n.get("threads").ints()}
	if v := n.get("shape"); v != nil {
		f.Shapes = l.shapes(v)
	}
	strange(l, n.get("runtime"), "runtime", f.Runtimes, m.Runtimes)
	strange(l, n.get("compute"), "compute", f.Computes, m.Computes)
	strange(l, n.get("batch"), "batch", f.Batches, m.Batches)
	strange(l, n.get("shape"), "shape", f.Shapes, m.Shapes)
	strange(l, n.get("threads"), "threads", f.Threads, m.Threads)
	return f
}

func strange[T comparable](l *loader, n *node, axis string, values, known []T) {
	for i, v := range values {
		if !slices.Contains(known, v) {
			l.fail(n.place(i), "the axis has "+strings.Trim(fmt.Sprint(known), "[]"), "%s %v is not in the matrix", axis, v)
		}
	}
}

func (l *loader) benchRow(b Benchmark, n *node) BenchRow {
	row := BenchRow{Pos: n.pos, Target: n.get("target").textOr(""), Runtime: n.get("runtime").textOr("auto"), Compute: n.get("compute").textOr("default"), Batch: 1, Shape: Shape{512, 128}}
	n.get("batch").intInto(&row.Batch)
	n.get("threads").intInto(&row.Threads)
	if v := n.get("shape"); v != nil {
		for _, s := range l.shapes(v) {
			row.Shape = s
		}
	}
	if v := n.get("runtime"); v != nil {
		l.benchRuntimes(b, v)
	}
	return row
}

func (l *loader) shapes(n *node) (out []Shape) {
	for i, text := range n.texts() {
		p, g, _ := strings.Cut(text, "+")
		prompt, err1 := strconv.Atoi(p)
		generated, err2 := strconv.Atoi(g)
		if err1 != nil || err2 != nil {
			l.fail(n.place(i), "write 512+128: tokens of the prompt + tokens that are generated", "%q is not a shape", text)
			continue
		}
		out = append(out, Shape{prompt, generated})
	}
	return out
}

func (l *loader) gate(n *node) *Gate {
	if n == nil {
		return nil
	}
	g := &Gate{Pos: n.pos, Against: n.get("against").textOr(""), NoisyFail: n.get("when_noisy").textOr("") == "fail"}
	g.SlowerBy = l.tolerances(n.get("slower_by"), Tolerance{Metric: "decode_tok_s", Share: 0.03, Pos: n.pos})
	g.LargerBy = l.tolerances(n.get("larger_by"), Tolerance{Metric: "weights_bytes", Share: 0, Pos: n.pos})
	return g
}

func (l *loader) tolerances(n *node, def Tolerance) (out []Tolerance) {
	if n == nil {
		return []Tolerance{def}
	}
	for _, f := range n.fieldsOf() {
		out = append(out, Tolerance{Metric: f.key, Share: l.shareOr(f.value, 0), Pos: f.pos})
	}
	return out
}

// placeholders of a command's arguments.
var placeholder = lazyregexp.New(`\{[^{}]*\}`)

func (l *loader) commands(section *node) (out []Command) {
	for _, f := range section.fieldsOf() {
		c := Command{Name: f.key, Pos: f.pos, Run: f.value.get("run").texts(), Version: f.value.get("version").texts()}
		for i, arg := range c.Run {
			for _, p := range placeholder().FindAllString(arg, -1) {
				if known := []string{"{model}", "{prompt}", "{generated}", "{batch}", "{threads}"}; !slices.Contains(known, p) {
					l.fail(f.value.get("run").place(i), "known are "+strings.Join(known, ", "), "%s stands for nothing", p)
				}
			}
		}
		for _, m := range f.value.get("read").fieldsOf() {
			expr, _ := m.value.text()
			if re, err := regexp.Compile(expr); err != nil || re.NumSubexp() < 1 {
				l.fail(m.value.pos, `write one with a group around the number: tg128 +([0-9.]+)`, "%q is not a regular expression with a group", expr)
				continue
			}
			c.Read = append(c.Read, Reading{m.key, expr})
		}
		out = append(out, c)
	}
	return out
}

// report reads which reports are wanted.
func (l *loader) report(r *Recipe, n *node) {
	for i, name := range n.texts() {
		if slices.Contains(r.Report, name) {
			l.fail(n.place(i), "", "report %s is there twice", name)
			continue
		}
		r.Report = append(r.Report, name)
	}
}

// place of the i-th of a list, or of the scalar itself.
func (n *node) place(i int) Pos {
	if n.kind == list && i < len(n.items) {
		return n.items[i].pos
	}
	return n.pos
}

// ints reads a whole number, or a list of them; the word all is 0.
func (n *node) ints() (out []int) {
	if n == nil {
		return nil
	}
	items := n.items
	if n.kind == scalar {
		items = []*node{n}
	}
	for _, item := range items {
		if v := item.intPtr(); v != nil {
			out = append(out, *v)
		} else if text, ok := item.text(); ok && text == "all" {
			out = append(out, 0)
		}
	}
	return out
}

func (n *node) intInto(v *int) {
	if p := n.intPtr(); p != nil {
		*v = *p
	}
}

// maxDuration of anything a recipe waits for.
const maxDuration = 30 * 24 * time.Hour

func (l *loader) duration(n *node, into *time.Duration) {
	text, ok := n.text()
	if !ok {
		return
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxDuration {
		l.fail(n.pos, "write 5s, 2m or 1h30m", "%q is not a duration", text)
		return
	}
	*into = d
}

// shareOr reads 3% or 0.03.
func (l *loader) shareOr(n *node, def float64) float64 {
	v := l.figure(n)
	if v == nil {
		return def
	}
	if math.IsNaN(*v) || *v < 0 || *v > 10 {
		l.fail(n.pos, "write 3%", "%s is not a share", n.raw)
		return def
	}
	return *v
}
