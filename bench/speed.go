package main

import (
	"bufio"
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
	"text/tabwriter"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/bandwidth"
	"github.com/mlxbuild/mlxbuild/internal/stat"
)

const speedThreads = 2

// readEach is what each thread reads of memory, which is more than processors have caches.
const readEach = 256 << 20

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
	peer  bool // another program: where it fails it is left out
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
	reads  float64 // the share of the read limit that weights are to be read at, in decode; 0: no goal
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

// race is one model, its engines and what they came to.
type race struct {
	*bench
	of      speedOf
	dir, q4 string
	engines []*engine // ours first, as computes has them
	memory  *bandwidth.Memory
	reading []float64
	start   *side
}

// speedOf: all engines stay loaded and take turns in windows of a second or so, so that a minute in which others use the machine hits all of them, and the best window of each is one
// that nobody disturbed. Between them memory is read by a loop that does nothing else: an engine whose weights do not stay in a cache makes tokens no faster than it can read them.
func (b *bench) speedOf(m speedOf) error {
	dir, err := b.scratch("speed")
	if err != nil {
		return err
	}
	defer removeAll(dir)
	r := &race{bench: b, of: m, dir: dir, q4: filepath.Join(dir, "q4")}
	cache := filepath.Join(dir, "cache")
	if _, err := once(b.tool(cache, "convert", "--hf-path", m.model, "--mlx-path", r.q4, "-q", "--q-bits", "4", "--q-group-size", "64")); err != nil {
		return err
	}
	r.start = &side{name: "mlxbuild generate -n 1", command: func(int) *exec.Cmd {
		return b.tool(cache, "generate", r.q4, "--raw", "-n", "1", "-p", prompt, "--runtime", "builtin", "--compute", string(backend.Fast))
	}}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(speedThreads))
	defer func() {
		for _, e := range r.engines {
			e.close()
		}
	}()
	if err := r.load(); err != nil {
		return err
	}
	if r.memory, err = bandwidth.New(speedThreads, b.readEach); err != nil {
		return err
	}
	defer r.memory.Close()
	for round := range b.turns(m.turns) {
		if err := r.round(round); err != nil {
			return err
		}
	}
	r.print()
	return nil
}

// round has every engine do every piece of work once. A peer that fails is left out from then on.
func (r *race) round(round int) error {
	order := slices.Clone(r.engines)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	for _, work := range speedWork {
		for _, e := range order {
			time.Sleep(breath)
			rate, err := e.do(work)
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			if err != nil && !e.peer {
				return fmt.Errorf("%s, %s: %w", e.name, work, err)
			}
			if err != nil {
				r.leaveOut(e.name, err)
				r.engines = slices.DeleteFunc(r.engines, func(other *engine) bool { return other == e })
				order = slices.DeleteFunc(slices.Clone(order), func(other *engine) bool { return other == e })
				continue
			}
			e.rates[work] = append(e.rates[work], rate)
		}
		rate, err := r.memory.Read()
		if err != nil {
			return err
		}
		r.reading = append(r.reading, rate)
	}
	if r.of.first {
		return r.takeTurns(2, r.start)
	}
	return nil
}

func (r *race) print() {
	fmt.Printf("  %s, ", r.of.name)
	printSpeeds(r.engines)
	limit, weights := slices.Max(r.reading), float64(folderSize(r.q4, "*.safetensors"))
	fmt.Printf("  the read limit: %s in %d threads at %.1f GB/s (median %.1f)\n", size(r.memory.Bytes()), speedThreads, limit/1e9, median(r.reading)/1e9)
	for _, e := range r.engines[:len(computes)] {
		got := weights * e.best(decode)
		fmt.Printf("  %s reads its weights of %s at %.1f GB/s, %.0f %% of that\n", e.name, size(int64(weights)), got/1e9, 100*got/limit)
	}
	fmt.Println()
	judgeSpeeds(r.engines, r.of.ratios)
	fast := r.engines[slices.Index(computes, backend.Fast)]
	if r.of.reads > 0 {
		atLeast("share of the read limit, "+fast.name, weights*fast.best(decode)/limit, r.of.reads, percent)
	}
	if r.of.first {
		atLeast("8 texts : 1 text, "+fast.name, fast.best(batch)/fast.best(decode), 4, times)
		atMost("start to first token, the whole command, best", slices.Min(r.start.walls()).Seconds(), 0.1, seconds)
		fmt.Printf("          (median %s)\n", short(median(r.start.walls())))
	}
	fmt.Printf("\n  %s\n", machine())
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

// load loads ours in each arithmetic, and the peers that are there.
func (r *race) load() error {
	for _, c := range computes {
		e, err := r.ours(r.q4, c)
		if err != nil {
			return err
		}
		r.engines = append(r.engines, e)
	}
	script := filepath.Join(r.dir, "speed.py")
	if err := os.WriteFile(script, []byte(speedScript), 0o666); err != nil {
		return err
	}
	if gguf := r.llamaModel(r.of.model); gguf != "" {
		q4 := filepath.Join(r.dir, "q4_0.gguf")
		if _, err := once(r.command(r.llama, script, "to-q4_0", gguf, q4)); err != nil {
			r.leaveOut(llamaName, err)
		} else {
			r.peer(llamaName, r.command(r.llama, script, "llama", q4))
		}
	}
	if r.of.torch && r.hasPython() {
		for _, name := range []string{torch32, torch16} {
			r.peer(name, r.py(script, "torch-"+strings.TrimPrefix(name, "PyTorch "), r.of.model))
		}
	}
	return r.ctx.Err()
}

// peer starts one that takes part if it can.
func (r *race) peer(name string, cmd *exec.Cmd) {
	e, err := startEngine(name, cmd)
	if err != nil {
		r.leaveOut(name, err)
		return
	}
	r.engines = append(r.engines, e)
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
	return &engine{oursName(c), false, do, m.Close, map[string][]float64{}}, nil
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
			err := errors.Join(errors.New("it has ended"), lines.Err(), stop())
			return "", &failure{err, cmd.Args, []byte(errs.String())}
		}
		return lines.Text(), nil
	}
	said, err := ask("")
	if err != nil {
		return nil, err
	}
	if said != "ready" {
		stop()
		return nil, fmt.Errorf("it said %q for ready", said)
	}
	do := func(work string) (float64, error) {
		said, err := ask(work)
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(said, 64)
	}
	return &engine{name, true, do, stop, map[string][]float64{}}, nil
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
