package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/stat"
)

const speedThreads = 2

// breath is what the threads of an engine that had its turn get to go to sleep: all of them spin for a while.
const breath = 50 * time.Millisecond

// What every engine does once a round: 64 tokens after a prompt of 8, a prompt of 512, and the first for eight texts at once. The ids are the same for all; what
// they mean does not matter to the clock.
const (
	decode  = "decode"
	prefill = "prefill"
	batch   = "batch"
)

var speedWork = []string{decode, prefill, batch}

const batchTexts = 8

//go:embed speed.py
var speedScript string

// An engine has a model loaded, and says how many tokens a second a piece of work went at.
type engine struct {
	name  string
	do    func(work string) (float64, error)
	close func() error
	rates map[string][]float64
}

func (e *engine) best(work string) float64 { return slices.Max(e.rates[work]) }

// speedOf says what is measured of a model.
type speedOf struct {
	name   string
	model  string // source
	turns  int
	torch  bool    // PyTorch takes part
	first  bool    // so does the whole command, up to the first token
	reads  float64 // the share of plain reading that weights are to be read at, in decode; 0: no goal
	ratios []speedGoal
}

// speedGoal is a ratio to be reached.
type speedGoal struct {
	work, ours, peer string
	least            float64
}

// speed measures a small model, whose weights come out of a large cache in part, and one with the shapes of Llama-3.2-1B, whose weights are read from memory for every token.
func (b *bench) speed() error {
	if err := b.needModel(); err != nil {
		return err
	}
	fast, int8s, float := oursName(backend.Fast), oursName(backend.Int8), oursName(backend.Float32)
	small := speedOf{name: "SmolLM2-135M", model: b.model, turns: 6, torch: true, first: true, ratios: []speedGoal{
		{decode, fast, llamaName, 1.1}, {decode, int8s, llamaName, 1.3}, {decode, fast, torch32, 12},
		{prefill, fast, llamaName, 1.4}, {prefill, int8s, llamaName, 2}, {prefill, float, torch32, 1},
		{batch, fast, torch32, 5}, {batch, fast, torch16, 5},
	}}
	if err := b.speedOf(small); err != nil {
		return err
	}
	shape, err := b.shape()
	if err != nil {
		return err
	}
	fmt.Println()
	return b.speedOf(speedOf{name: "the shapes of Llama-3.2-1B", model: shape, turns: 6, reads: 0.6, ratios: []speedGoal{
		{decode, fast, llamaName, 1}, {decode, int8s, llamaName, 1.1}, {prefill, fast, llamaName, 1.2}, {prefill, int8s, llamaName, 2},
	}})
}

// speedOf: all engines stay loaded and take turns in windows of a second or so, so that a minute in which others use the machine hits all of them, and the best window of each is one
// that nobody disturbed. Between them memory is read plainly: an engine whose weights do not stay in a cache makes tokens no faster than it can read them.
func (b *bench) speedOf(m speedOf) error {
	dir, err := b.scratch("speed")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	cache, q4 := filepath.Join(dir, "cache"), filepath.Join(dir, "q4")
	if _, err := once(b.tool(cache, "convert", "--hf-path", m.model, "--mlx-path", q4, "-q", "--q-bits", "4", "--q-group-size", "64")); err != nil {
		return err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(speedThreads))
	engines, err := b.engines(dir, q4, m)
	defer func() {
		for _, e := range engines {
			e.close()
		}
	}()
	if err != nil {
		return err
	}
	first := &side{name: "mlxbuild generate -n 1", command: func(int) *exec.Cmd {
		return b.tool(cache, "generate", q4, "--raw", "-n", "1", "-p", prompt, "--runtime", "builtin", "--compute", string(backend.Fast))
	}}
	memory, err := newMemory()
	if err != nil {
		return err
	}
	var reading []float64
	for round := range b.turns(m.turns) {
		order := slices.Clone(engines)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, work := range speedWork {
			for _, e := range order {
				time.Sleep(breath)
				rate, err := e.do(work)
				if b.ctx.Err() != nil {
					return b.ctx.Err()
				}
				if err != nil {
					return fmt.Errorf("%s, %s: %w", e.name, work, err)
				}
				e.rates[work] = append(e.rates[work], rate)
			}
			reading = append(reading, memory.read())
		}
		if m.first {
			if err := takeTurns(b.ctx, 2, first); err != nil {
				return err
			}
		}
	}
	fmt.Printf("  %s, ", m.name)
	printSpeeds(engines)
	weights := float64(folderSize(q4, "*.safetensors"))
	fmt.Printf("  plain reading of %s in %d threads: %.1f GB/s (median %.1f)\n", size(memory.bytes()), speedThreads, slices.Max(reading)/1e9, median(reading)/1e9)
	for _, e := range engines[:len(computes)] {
		got := weights * e.best(decode)
		fmt.Printf("  %s reads its weights of %s at %.1f GB/s, %.0f %% of that\n", e.name, size(int64(weights)), got/1e9, 100*got/slices.Max(reading))
	}
	fmt.Println()
	judgeSpeeds(engines, m.ratios)
	fast := engines[slices.Index(computes, backend.Fast)]
	if m.reads > 0 {
		atLeast("share of plain reading, "+fast.name, weights*fast.best(decode)/slices.Max(reading), m.reads, percent)
	}
	if m.first {
		atLeast("8 texts : 1 text, "+fast.name, fast.best(batch)/fast.best(decode), 4, times)
		atMost("start to first token, the whole command, best", slices.Min(first.walls()).Seconds(), 0.1, seconds)
		fmt.Printf("          (median %s)\n", short(median(first.walls())))
	}
	fmt.Printf("\n  %s\n", machine())
	return nil
}

// computes are ours, in the order of the table.
var computes = []backend.Compute{backend.Float32, backend.Fast, backend.Int8}

// Names of engines, as the table has them.
const (
	llamaName = "llama.cpp Q4_0"
	torch32   = "PyTorch float32"
	torch16   = "PyTorch bfloat16"
)

func oursName(c backend.Compute) string { return "mlxbuild " + string(c) }

// engines loads ours in each arithmetic, and the peers that are there. What it has loaded is returned with an error too.
func (b *bench) engines(dir, q4 string, m speedOf) (all []*engine, err error) {
	for _, c := range computes {
		e, err := b.ours(q4, c)
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	script := filepath.Join(dir, "speed.py")
	if err := os.WriteFile(script, []byte(speedScript), 0o666); err != nil {
		return all, err
	}
	if gguf := b.llamaModel(m.model); gguf != "" {
		q4 := filepath.Join(dir, "q4_0.gguf")
		if _, err := once(exec.CommandContext(b.ctx, b.llama, script, "to-q4_0", gguf, q4)); err != nil {
			return all, err
		}
		e, err := startEngine(llamaName, exec.CommandContext(b.ctx, b.llama, script, "llama", q4))
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	if m.torch && b.hasPython() {
		for _, name := range []string{torch32, torch16} {
			e, err := startEngine(name, b.py(script, "torch-"+strings.TrimPrefix(name, "PyTorch "), m.model))
			if err != nil {
				return all, err
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// llamaModel is a model's GGUF for llama.cpp, or "" when it or its Python is missing, which is said.
func (b *bench) llamaModel(model string) string {
	if b.llama == "" {
		fmt.Println("  without llama.cpp: MLXBUILD_BENCH_LLAMA names no Python with llama-cpp-python")
		return ""
	}
	gguf := model + ".gguf"
	if _, err := os.Stat(gguf); err != nil {
		fmt.Printf("  without llama.cpp: %s is missing (scripts/smollm2.sh DIR --keep-gguf FILE, or llama_1b_shape.py DIR --gguf FILE, makes it)\n", gguf)
		return ""
	}
	return gguf
}

// ours runs in this process.
func (b *bench) ours(dir string, c backend.Compute) (*engine, error) {
	m, err := builtin.New().Load(b.ctx, dir, c)
	if err != nil {
		return nil, err
	}
	ids := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(100 + i)
		}
		return out
	}
	generate := func(texts int) (float64, error) {
		r, err := m.Generate(b.ctx, slices.Repeat([][]int32{ids(8)}, texts), backend.GenerateOptions{MaxTokens: newTokens, IgnoreEOS: true}, nil)
		if err != nil {
			return 0, err
		}
		at := r[texts-1].At
		return float64(texts*(newTokens-1)) / (at[newTokens-1] - at[0]).Seconds(), nil
	}
	do := func(work string) (float64, error) {
		switch work {
		case decode:
			return generate(1)
		case batch:
			return generate(batchTexts)
		}
		prompt := ids(512)
		start := time.Now()
		_, err := m.Logits(b.ctx, prompt, []int{len(prompt) - 1})
		return float64(len(prompt)) / time.Since(start).Seconds(), err
	}
	return &engine{oursName(c), do, m.Close, map[string][]float64{}}, nil
}

// startEngine starts a peer, and returns when it has its model.
func startEngine(name string, cmd *exec.Cmd) (*engine, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	stop := func() error {
		in.Close()
		return cmd.Wait()
	}
	ask := func(work string) (string, error) {
		if work != "" {
			if _, err := io.WriteString(in, work+"\n"); err != nil {
				return "", errors.Join(err, stop())
			}
		}
		if !lines.Scan() {
			return "", fmt.Errorf("%w\n%s", errors.Join(errors.New("it has ended"), lines.Err(), stop()), tail([]byte(errs.String()), 2000))
		}
		return lines.Text(), nil
	}
	said, err := ask("")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if said != "ready" {
		return nil, errors.Join(fmt.Errorf("%s said %q for ready", name, said), stop())
	}
	do := func(work string) (float64, error) {
		said, err := ask(work)
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(said, 64)
	}
	return &engine{name, do, stop, map[string][]float64{}}, nil
}

// memory is more than a processor's caches hold, a part for each thread, in large pages where there are any.
type memory [speedThreads][]byte

func newMemory() (*memory, error) {
	var m memory
	for i := range m {
		part, err := largePages(256 << 20)
		if err != nil {
			return nil, err
		}
		for j := range part {
			part[j] = 1
		}
		m[i] = part
	}
	return &m, nil
}

func (m *memory) bytes() int64 { return int64(len(m) * len(m[0])) }

// read returns the bytes a second of the best of three passes. All of memory was written, because pages that were not are all the same one.
func (m *memory) read() (rate float64) {
	for range 3 {
		start := time.Now()
		var found [speedThreads]bool
		var all sync.WaitGroup
		for i, part := range m {
			all.Go(func() { found[i] = readWhole(part) })
		}
		all.Wait()
		rate = max(rate, float64(m.bytes())/time.Since(start).Seconds())
		if slices.Contains(found[:], true) {
			panic("there is what was never written")
		}
	}
	return rate
}

// absent is a byte that memory has nowhere.
const absent = 0xEE

// readWhole looks for what is not there, with the vector instructions of bytes.IndexByte, in eight places a page at a time: of what Go can do that is the fastest (25 GB/s in two threads where one place a thread gives
// 24, and adding up words 20).
func readWhole(b []byte) (found bool) {
	const places, step = 8, 1024
	part := len(b) / places
	for at := 0; at < part; at += step {
		for p := range places {
			found = found || bytes.IndexByte(b[p*part+at:][:step], absent) >= 0
		}
	}
	return found
}

func printSpeeds(engines []*engine) {
	fmt.Printf("tokens a second, %d threads: best window (median) of %d\n\n", speedThreads, len(engines[0].rates[decode]))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tdecode\tprefill 512\tdecode, 8 texts\t")
	for _, e := range engines {
		fmt.Fprintf(w, "  %s", e.name)
		for _, work := range speedWork {
			fmt.Fprintf(w, "\t%.1f (%.1f)", e.best(work), median(e.rates[work]))
		}
		fmt.Fprintln(w, "\t")
	}
	w.Flush()
	fmt.Println()
}

// judgeSpeeds prints the goals whose peers were there: ratios of the best windows, and what all turns say, pair by pair.
func judgeSpeeds(engines []*engine, goals []speedGoal) {
	by := map[string]*engine{}
	for _, e := range engines {
		by[e.name] = e
	}
	for _, g := range goals {
		ours, peer := by[g.ours], by[g.peer]
		if peer == nil {
			continue
		}
		pairs := stat.Paired(ours.rates[g.work], peer.rates[g.work])
		atLeast(fmt.Sprintf("%s, %s : %s (turns %.2f x, %.2f to %.2f)", g.work, g.ours, g.peer, pairs.Value, pairs.Low, pairs.High), ours.best(g.work)/peer.best(g.work), g.least, times)
	}
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

func times(v float64) string { return fmt.Sprintf("%.2f x", v) }
