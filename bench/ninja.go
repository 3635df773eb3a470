package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The graph of a large set of models: per model 4 source files -> fetch -> convert -> 8 quantize -> 8 validate, 24 bench -> report, 43 steps and 47 files.
const (
	sources  = 4
	variants = 8
	batches  = 3
	perModel = 2 + 2*variants + variants*batches + 1
)

// sizes are what is measured: 989, 10,019 and 100,018 steps, each with the part of ninja's time that a build with nothing to do may take.
var sizes = []graph{{23, 1}, {233, 0.5}, {2326, 0.4}}

type graph struct {
	models int
	goal   float64
}

// stepsVar tells the executor's benchmark how many steps its plan has to have.
const stepsVar = "MLXBUILD_BENCH_STEPS"

// ninja: builds with nothing to do, of growing graphs. The whole command stands beside ninja and make: each is started, finds that nothing has changed, and says so.
func (b *bench) ninja() error {
	peer := "alone"
	program, err := exec.LookPath("ninja")
	if err != nil {
		b.leaveOut("ninja", err)
	} else if version, err := once(b.command(program, "--version")); err != nil {
		b.leaveOut("ninja", err)
		program = ""
	} else {
		peer = "beside ninja " + strings.TrimSpace(string(version))
	}
	test := filepath.Join(b.work, "executor.test"+exeSuffix)
	build := b.command("go", "test", "-c", "-o", test, "./executor")
	build.Dir = b.root
	if _, err := once(build); err != nil {
		return err
	}
	for _, s := range b.graphs {
		dir, err := b.scratch("ninja")
		if err != nil {
			return err
		}
		fmt.Printf("  %d steps, %s; building for the first time ...\n", s.models*perModel, peer)
		c := contest{bench: b, graph: s, dir: dir, program: program, test: test}
		if err := c.run(); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

// contest is one size of graph, built by all.
type contest struct {
	*bench
	graph
	dir, program, test string // program is ninja, "" = there is none
	recipes            []string
}

func (c *contest) run() error {
	if err := c.buildOurs(); err != nil {
		return err
	}
	if err := c.buildPeers(); err != nil {
		return err
	}
	ours := &side{name: "mlxbuild build", command: c.build}
	ninja := &side{name: "ninja", command: c.ninja}
	sides := []*side{ours}
	if c.program != "" {
		sides = append(sides, ninja)
	}
	if _, err := exec.LookPath("make"); err == nil && c.program != "" { // ninja has built what make looks at
		sides = append(sides, &side{name: "make", command: c.make})
	}
	rounds := c.turns(max(10, 40-c.models/50))
	if err := c.takeTurns(rounds, append(sides, &side{name: "mlxbuild version", command: func(int) *exec.Cmd { return c.tool(c.cache(), "version") }})...); err != nil {
		return err
	}
	edited := &side{name: "mlxbuild build, recipe touched", prepare: c.touchRecipes, command: c.build}
	if err := c.takeTurns(max(3, rounds/4), edited); err != nil {
		return err
	}
	alone, err := c.executor()
	if err != nil {
		return err
	}
	printTable(append(sides, edited)...)
	fmt.Printf("  without a snapshot, but with the recipe read, the executor plans, looks and decides in %s (median %s)\n", short(slices.Min(alone)), short(median(alone)))
	if len(ninja.samples) > 0 {
		fmt.Printf("  which is %.2f of ninja's\n", float64(slices.Min(alone))/float64(slices.Min(ninja.walls())))
		atMost(fmt.Sprintf("%d steps, of ninja's", c.models*perModel), wallRatio(ours, ninja), c.goal, ratio)
	}
	return c.readNothing(c.build(0), c.dir)
}

func (c *contest) cache() string { return filepath.Join(c.dir, "cache") }

func (c *contest) build(int) *exec.Cmd {
	return c.tool(c.cache(), append([]string{"-C", c.dir, "build", "-j", strconv.Itoa(2 * runtime.NumCPU())}, c.recipes...)...)
}

func (c *contest) ninja(int) *exec.Cmd {
	return c.command(c.program, "-C", c.dir, "-j", strconv.Itoa(runtime.NumCPU()))
}

func (c *contest) make(int) *exec.Cmd {
	return c.command("make", "-C", c.dir, "-j", strconv.Itoa(runtime.NumCPU()))
}

// buildOurs until there is nothing to do, and that is known.
func (c *contest) buildOurs() (err error) {
	if c.recipes, err = c.writeRecipes(c.dir, c.models); err != nil {
		return err
	}
	for range 2 { // the second finds nothing to do, and leaves a snapshot
		if _, err := once(c.build(0)); err != nil {
			return err
		}
	}
	out, err := c.build(0).CombinedOutput()
	if want := fmt.Sprintf("nothing to do: %d steps are up to date\n", c.models*(perModel-1)); err != nil || string(out) != want { // a model itself is not counted
		return fmt.Errorf("there is still something to do after a build: %w\n%s", err, tail(out, 1000))
	}
	return nil
}

// buildPeers has ninja build the graph. What is then on the disk is right for make, too.
func (c *contest) buildPeers() error {
	if _, err := writeGraph(c.dir, c.models); err != nil {
		return err
	}
	if c.program == "" {
		return nil
	}
	if _, err := once(c.ninja(0)); err != nil {
		return err
	}
	if out, err := once(c.ninja(0)); err != nil || !strings.Contains(string(out), "no work to do") {
		return fmt.Errorf("ninja finds work after a build: %w\n%s", err, out)
	}
	if _, err := exec.LookPath("make"); err != nil {
		return nil
	}
	if out, err := once(c.make(0)); err != nil || !strings.Contains(string(out), "Nothing to be done") {
		return fmt.Errorf("make finds work after a build: %w\n%s", err, tail(out, 1000))
	}
	return nil
}

// touchRecipes as an editor does that saves without a change.
func (c *contest) touchRecipes(int) error {
	for _, name := range c.recipes {
		if err := os.Chtimes(filepath.Join(c.dir, name), time.Time{}, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// executor times the executor's own benchmark of a graph of this size.
func (c *contest) executor() ([]time.Duration, error) {
	var samples []sample
	for range 3 {
		cmd := c.command(c.test, "-test.run", "^$", "-test.bench", "^BenchmarkNoOp$", "-test.benchtime", "5x")
		cmd.Dir = filepath.Join(c.root, "executor")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", stepsVar, c.models*perModel))
		s, err := measure(cmd)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
	return noopTimes(samples)
}

var noopLine = regexp.MustCompile(`(?m)^BenchmarkNoOp\S*\s+\d+\s+([\d.]+) ns/op`)

// noopTimes reads the time of one no-op from each run of the Go benchmark.
func noopTimes(samples []sample) (times []time.Duration, err error) {
	for _, s := range samples {
		m := noopLine.FindSubmatch(s.out)
		if m == nil {
			return nil, fmt.Errorf("the executor has no BenchmarkNoOp, or it said nothing:\n%s", tail(s.out, 500))
		}
		ns, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return nil, err
		}
		times = append(times, time.Duration(ns))
	}
	return times, nil
}

// writeGraph writes build.ninja, a Makefile that says the same, and the source files of n models, and returns the number of steps.
func writeGraph(dir string, n int) (steps int, err error) {
	var ninja, make strings.Builder
	ninja.WriteString("rule touch\n  command = touch $out\n\n")
	make.WriteString("MAKEFLAGS += -rR\n.SUFFIXES:\n")
	for m := range n {
		folder := fmt.Sprintf("m%d", m)
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
			return 0, err
		}
		for s := range sources {
			if err := os.WriteFile(filepath.Join(dir, folder, fmt.Sprintf("src%d", s)), []byte("x\n"), 0o666); err != nil {
				return 0, err
			}
		}
		fmt.Fprintf(&make, "all: %s/report\n", folder)
		for _, e := range edges(folder) {
			fmt.Fprintf(&ninja, "build %s: touch %s\n", e.out, e.ins)
			fmt.Fprintf(&make, "%s: %s\n\ttouch $@\n", e.out, e.ins)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "build.ninja"), []byte(ninja.String()), 0o666); err != nil {
		return 0, err
	}
	return n * perModel, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(make.String()), 0o666)
}

// edge is one step: a file, and those that it is made of.
type edge struct{ out, ins string }

func edges(m string) (all []edge) {
	add := func(out string, ins ...string) {
		all = append(all, edge{m + "/" + out, m + "/" + strings.Join(ins, " "+m+"/")})
	}
	var from, report []string
	for s := range sources {
		from = append(from, fmt.Sprintf("src%d", s))
	}
	add("fetch", from...)
	add("conv", "fetch")
	for q := range variants {
		quantized, validated := fmt.Sprintf("q%d", q), fmt.Sprintf("v%d", q)
		add(quantized, "conv")
		add(validated, quantized, "conv")
		report = append(report, validated)
		for b := range batches {
			timed := fmt.Sprintf("b%d.%d", q, b)
			add(timed, quantized, validated)
			report = append(report, timed)
		}
	}
	add("report", report...)
	return all
}
