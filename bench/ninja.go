package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// The graph of a large set of models: per model 4 source files -> fetch -> convert -> 8 quantize -> 8 validate, 24 bench -> report, 43 steps and 47 files.
const (
	models   = 233 // 10,019 steps
	sources  = 4
	variants = 8
	batches  = 3
	perModel = 2 + 2*variants + variants*batches + 1
)

// stepsVar tells the executor's benchmark how many steps its plan has to have.
const stepsVar = "MLXBUILD_BENCH_STEPS"

// ninja: our executor's no-op as its Go benchmark reports it, and ninja's as a process. Ninja parses its file and stats; so do we, but the start of a process
// (some 3 ms) is in ninja's time only.
func (b *bench) ninja() error {
	program, err := exec.LookPath("ninja")
	if err != nil {
		return fmt.Errorf("ninja is not installed: %w", err)
	}
	dir, err := b.scratch("ninja")
	if err != nil {
		return err
	}
	steps, err := writeGraph(dir, models)
	if err != nil {
		return err
	}
	version, err := once(exec.CommandContext(b.ctx, program, "--version"))
	if err != nil {
		return err
	}
	fmt.Printf("  ninja %sbuilding %d steps for the first time ...\n", version, steps)
	run := func(int) *exec.Cmd {
		return exec.CommandContext(b.ctx, program, "-C", dir, "-j", strconv.Itoa(runtime.NumCPU()))
	}
	if _, err := once(run(0)); err != nil {
		return err
	}
	if out, err := once(run(0)); err != nil || !regexp.MustCompile(`no work to do`).Match(out) {
		return fmt.Errorf("ninja finds work after a build: %w\n%s", err, out)
	}
	test := filepath.Join(dir, "executor.test"+exeSuffix)
	build := exec.CommandContext(b.ctx, "go", "test", "-c", "-o", test, "./executor")
	build.Dir = b.root
	if _, err := once(build); err != nil {
		return err
	}
	ours := &side{name: "mlxbuild executor, 5 no-ops and the first build", command: func(int) *exec.Cmd {
		cmd := exec.CommandContext(b.ctx, test, "-test.run", "^$", "-test.bench", "^BenchmarkNoOp$", "-test.benchtime", "5x")
		cmd.Dir = filepath.Join(b.root, "executor")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", stepsVar, steps))
		return cmd
	}}
	peer := &side{name: "ninja, one no-op", command: run}
	if err := takeTurns(b.ctx, b.turns(6), ours, peer); err != nil {
		return err
	}
	noops, err := noopTimes(ours.samples)
	if err != nil {
		return err
	}
	printTable(ours, peer)
	mine, its := slices.Min(noops), slices.Min(peer.walls())
	fmt.Printf("  no-op of %d steps: mlxbuild %s (median %s), ninja %s (median %s)\n", steps, short(mine), short(median(noops)), short(its), short(median(peer.walls())))
	atMost("no-op, of ninja's", float64(mine)/float64(its), 2, ratio)
	return nil
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

// writeGraph writes build.ninja and the source files of n models, and returns the number of steps.
func writeGraph(dir string, n int) (steps int, err error) {
	f, err := os.Create(filepath.Join(dir, "build.ninja"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprint(w, "rule touch\n  command = touch $out\n\n")
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
		writeModel(w, folder)
	}
	return n * perModel, w.Flush()
}

func writeModel(w *bufio.Writer, m string) {
	fmt.Fprintf(w, "build %s/fetch: touch", m)
	for s := range sources {
		fmt.Fprintf(w, " %s/src%d", m, s)
	}
	fmt.Fprintf(w, "\nbuild %s/conv: touch %s/fetch\n", m, m)
	report := ""
	for q := range variants {
		fmt.Fprintf(w, "build %s/q%d: touch %s/conv\n", m, q, m)
		fmt.Fprintf(w, "build %s/v%d: touch %s/q%d %s/conv\n", m, q, m, q, m)
		report += fmt.Sprintf(" %s/v%d", m, q)
		for b := range batches {
			fmt.Fprintf(w, "build %s/b%d.%d: touch %s/q%d %s/v%d\n", m, q, b, m, q, m, q)
			report += fmt.Sprintf(" %s/b%d.%d", m, q, b)
		}
	}
	fmt.Fprintf(w, "build %s/report: touch%s\n", m, report)
}
