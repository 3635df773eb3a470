// Command bench measures mlxbuild beside its peers: both run in turns on the same machine in the same minutes, and what is printed is a ratio.
//
//	go run ./bench                     everything
//	go run ./bench convert noop        only these
//
// It promises nothing about other machines, and it is no test: a goal that is missed is printed as missed. The peers are the real mlx-lm and PyTorch (the
// Python that MLXBUILD_ORACLE_PYTHON names, made by scripts/oracle_env.sh) and ninja; the model is made by scripts/smollm2.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// A benchmark prints its own table.
type benchmark struct {
	name, what string
	run        func(*bench) error
}

// all benchmarks, in the order they run when none is named.
var all = []benchmark{
	{"convert", "convert and quantize a small and a large model with an empty cache, beside mlx_lm.convert", (*bench).convert},
	{"variants", "eight quantizations of one model with an empty cache, beside one", (*bench).variants},
	{"noop", "build a recipe with nothing to do", (*bench).noop},
	{"override", "rebuild after one override of one layer changed, beside copying the result", (*bench).override},
	{"generate", "write text with the built-in runtime, beside mlx-lm and PyTorch", (*bench).generate},
	{"speed", "decode, prefill and eight texts at once with the built-in runtime, beside llama.cpp and PyTorch", (*bench).speed},
	{"agree", "mlxbuild's figures of PyTorch and mlx-lm, beside those of plain scripts of theirs", (*bench).agree},
	{"tokenize", "encode text, beside Hugging Face tokenizers", (*bench).tokenize},
	{"quantize", "quantize a matrix in memory, beside mx.quantize on its CPU", (*bench).quantize},
	{"ninja", "1,000, 10,000 and 100,000 steps with nothing to do, beside ninja and make", (*bench).ninja},
}

// bench is what every benchmark works with.
type bench struct {
	ctx      context.Context
	root     string   // the checkout
	work     string   // scratch, on the disk that is measured
	mlxbuild string   // the binary under test
	python   string   // with mlx-lm and torch, or ""
	llama    string   // a Python with llama-cpp-python, or ""
	model    string   // SmolLM2-135M-Instruct as a Hugging Face folder
	large    string   // a model of 2.5 GB, or "" for the one of scripts/llama_1b_shape.py
	rounds   int      // 0 = as the benchmark likes
	graphs   []graph  // of ninja
	rows     int      // of the matrix of quantize
	readEach int      // what each thread reads of memory, in bytes
	without  []string // peers that were to take part and could not
}

func main() {
	copyIfAsked()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends this program at once
	b := &bench{ctx: ctx, graphs: sizes, rows: matrixRows, readEach: readEach}
	flag.StringVar(&b.python, "python", os.Getenv("MLXBUILD_ORACLE_PYTHON"), "Python with mlx-lm and torch")
	flag.StringVar(&b.llama, "llama", os.Getenv("MLXBUILD_BENCH_LLAMA"), "Python with llama-cpp-python")
	flag.StringVar(&b.model, "model", "", "folder of SmolLM2-135M-Instruct (default models/ in the checkout)")
	flag.StringVar(&b.large, "large", "", "folder of a model of 2.5 GB (default models/llama-1b-shape in the checkout, made when it is missing)")
	flag.IntVar(&b.rounds, "rounds", 0, "turns of each side (default: as the benchmark likes)")
	work := flag.String("work", "", "scratch folder, on the disk to be measured (default: a temporary one)")
	flag.Usage = usage
	flag.Parse()
	exitOn(b.main(*work, flag.Args()))
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: go run ./bench [flags] [benchmark...]\n\n")
	for _, m := range all {
		fmt.Fprintf(os.Stderr, "  %-9s %s\n", m.name, m.what)
	}
	fmt.Fprintln(os.Stderr)
	flag.PrintDefaults()
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) main(work string, names []string) error {
	if b.rounds < 0 {
		return fmt.Errorf("-rounds %d: there are no turns less than none", b.rounds)
	}
	picked, err := pick(names)
	if err != nil {
		return err
	}
	if err := b.prepare(work); err != nil {
		return err
	}
	defer removeAll(b.work)
	fmt.Println(machine())
	var failed []string
	for _, m := range picked {
		fmt.Printf("\n%s: %s\n\n", m.name, m.what)
		err := m.run(b)
		if b.ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			fmt.Printf("  could not be measured: %v\n", err)
			failed = append(failed, m.name)
		}
	}
	if failed != nil {
		return fmt.Errorf("not measured: %s", strings.Join(failed, ", "))
	}
	return nil
}

func pick(names []string) ([]benchmark, error) {
	if len(names) == 0 {
		return all, nil
	}
	var picked []benchmark
	for _, name := range names {
		before := len(picked)
		for _, m := range all {
			if m.name == name {
				picked = append(picked, m)
			}
		}
		if len(picked) == before {
			return nil, fmt.Errorf("there is no benchmark %q (go run ./bench -help lists them)", name)
		}
	}
	return picked, nil
}

// prepare finds the checkout and the model, makes the scratch folder and builds mlxbuild.
func (b *bench) prepare(work string) error {
	mod, err := b.command("go", "env", "GOMOD").Output()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(mod)), "go.mod") {
		return errors.New("run it inside the checkout: go run ./bench")
	}
	b.root = filepath.Dir(strings.TrimSpace(string(mod)))
	if b.model == "" {
		b.model = filepath.Join(b.root, "models", "SmolLM2-135M-Instruct")
	}
	if b.model, err = filepath.Abs(b.model); err != nil {
		return err
	}
	if work != "" {
		if work, err = filepath.Abs(work); err != nil {
			return err
		}
		if err := os.MkdirAll(work, 0o777); err != nil {
			return err
		}
	}
	if b.work, err = os.MkdirTemp(work, "mlxbuild-bench-"); err != nil {
		return err
	}
	b.mlxbuild = filepath.Join(b.work, "mlxbuild"+exeSuffix)
	build := b.command("go", "build", "-o", b.mlxbuild, "./cmd/mlxbuild")
	build.Dir, build.Stderr, build.Env = b.root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0") // one static binary, as it is released
	if err := build.Run(); err != nil {
		removeAll(b.work)
		if b.ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return fmt.Errorf("go build ./cmd/mlxbuild: %w", err)
	}
	return nil
}

// needModel says what to do when the model is missing.
func (b *bench) needModel() error {
	if _, err := os.Stat(filepath.Join(b.model, "config.json")); err != nil {
		return fmt.Errorf("%s is missing (scripts/smollm2.sh makes it; -model names another folder)", b.model)
	}
	return nil
}

// hasPython: without it the peers in Python are left out, and the table says so.
func (b *bench) hasPython() bool {
	if b.python == "" {
		fmt.Println("  without mlx-lm and PyTorch: MLXBUILD_ORACLE_PYTHON names no Python (scripts/oracle_env.sh makes one)")
	}
	return b.python != ""
}

func (b *bench) turns(usual int) int {
	if b.rounds > 0 {
		return b.rounds
	}
	return usual
}

// scratch returns an empty folder of that name.
func (b *bench) scratch(name string) (string, error) {
	dir := filepath.Join(b.work, name)
	removeAll(dir)
	return dir, os.MkdirAll(dir, 0o777)
}

// removeAll removes read-only folders too.
func removeAll(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o777)
		}
		return nil
	})
	os.RemoveAll(dir)
}
