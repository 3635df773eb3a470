package benchmark

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/machine"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/spec"
)

// rig of a side.
func (m *measuring) rig(i int, s side) (rig, error) {
	dir := m.env.Inputs[i].Dir
	if s.command != nil {
		return &commandRig{kind: m.kind, command: s.command, cell: m.cell.cell, dir: dir, recipeDir: m.recipeDir}, nil
	}
	if s.missing != nil {
		return nil, s.missing
	}
	r := &modelRig{runtime: m.kind.Alone(s.runtime, m.cell.cell.Threads), compute: backend.Compute(s.compute), dir: dir, cell: m.cell.cell}
	if m.entry.Prompts != nil {
		var err error
		if r.texts, err = encode(m.env.Inputs[0].Dir, m.entry.Prompts); err != nil {
			r.runtime.Close()
			return nil, err
		}
	}
	return r, nil
}

// encode real prompts once, with the tokenizer of the first side: both get the same ids.
func encode(dir string, prompts []spec.Prompt) (out [][]int32, err error) {
	enc, err := prompt.Load(dir)
	if err != nil {
		return nil, err
	}
	for _, p := range prompts {
		doc, err := enc.Render(p, prompt.Options{Now: prompt.SomeDay})
		if err != nil {
			return nil, err
		}
		ids, err := enc.Encode(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, ids)
	}
	return out, nil
}

// modelRig is a model in a process of its own.
type modelRig struct {
	runtime Alone
	compute backend.Compute
	dir     string
	cell    Cell
	texts   [][]int32 // real prompts; nil: random ids
	model   backend.Model
	made    int // tokens so far
}

func (r *modelRig) open(ctx context.Context) (time.Duration, error) {
	if err := r.runtime.Start(ctx); err != nil {
		return 0, err
	}
	started := time.Now()
	m, err := r.runtime.Load(ctx, r.dir, r.compute)
	if err != nil {
		return 0, err
	}
	r.model = m
	return time.Since(started), nil
}

// call makes tokens once: greedy, past every end of text, so that each runtime makes as many.
func (r *modelRig) call(ctx context.Context, run, call int) (map[string]float64, error) {
	results, err := r.model.Generate(ctx, r.prompts(run, call), backend.GenerateOptions{MaxTokens: r.cell.Generated, IgnoreEOS: true}, nil)
	if err != nil {
		return nil, err
	}
	r.made += r.cell.Batch * r.cell.Generated
	return figures(results, r.cell.Generated)
}

// prompts of a call. Random ids are drawn with PCG from the numbers of the run, the call and the text: no two runs have the same, so that nothing is found in a cache of prompts, and every runtime has the same.
func (r *modelRig) prompts(run, call int) (out [][]int32) {
	for i := range r.cell.Batch {
		if r.texts != nil {
			k := ((run+call)*r.cell.Batch + i) % len(r.texts)
			out = append(out, r.texts[(k+len(r.texts))%len(r.texts)])
			continue
		}
		rng := rand.New(rand.NewPCG(uint64(int64(run)), uint64(call)<<32|uint64(i)))
		ids := make([]int32, r.cell.Prompt)
		for k := range ids {
			ids[k] = int32(rng.IntN(r.model.Info().VocabSize))
		}
		out = append(out, ids)
	}
	return out
}

func (r *modelRig) sizes() map[string]float64 {
	if r.model == nil {
		return nil
	}
	out, most := map[string]float64{WeightsBytes: float64(r.model.Info().WeightsBytes)}, 0.0
	for phase, name := range map[string]string{backend.PhaseLoad: PeakLoad, backend.PhasePrefill: PeakPrefill, backend.PhaseDecode: PeakDecode} {
		if v := float64(r.model.Memory(phase)); v > 0 {
			out[name] = v
			most = max(most, v)
		}
	}
	if most > 0 {
		out[PeakMemory] = most
	}
	return out
}

func (r *modelRig) tokens() int { return r.made }

func (r *modelRig) cpu() time.Duration {
	pid := r.runtime.PID()
	if pid == 0 {
		return -1
	}
	return machine.CPUTime(pid)
}

func (r *modelRig) close() {
	if r.model != nil {
		r.model.Close()
	}
	r.runtime.Close()
}

// commandRig is a program of the user's, started for each run.
type commandRig struct {
	kind    Kind
	command *spec.Command
	cell    Cell
	dir     string

	recipeDir string // where the program runs
}

func (r *commandRig) open(ctx context.Context) (time.Duration, error) {
	if r.kind.Run == nil {
		return 0, &cellError{"not_allowed", "a recipe's own programs are not run unless that is allowed", "look at commands: in the recipe, and add --allow-commands"}
	}
	return 0, nil
}

func (r *commandRig) call(ctx context.Context, _, _ int) (map[string]float64, error) {
	output, err := r.kind.Run(ctx, r.recipeDir, r.argv())
	if err != nil {
		return nil, &cellError{"command", err.Error(), "try the program by hand"}
	}
	out := map[string]float64{}
	for _, reading := range r.command.Read {
		found := regexp.MustCompile(reading.Expr).FindAllStringSubmatch(output, -1)
		if found == nil {
			return nil, &cellError{"output", fmt.Sprintf("%s: nothing in the output matches %s; it ends: %s", reading.Metric, reading.Expr, end(output, 200)), "try the program by hand, and mend read:"}
		}
		text := found[len(found)-1][1]
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v > 0) || math.IsInf(v, 0) {
			return nil, &cellError{"output", fmt.Sprintf("%s: %q is not a positive number", reading.Metric, text), "the first group of the expression has to hold the number"}
		}
		out[reading.Metric] = v
	}
	if _, ok := out[r.cell.Main()]; !ok {
		return nil, &cellError{"output", "read: does not say " + r.cell.Main() + ", which such a cell is ranked by", "add an expression for it"}
	}
	return out, nil
}

func (r *commandRig) argv() []string {
	threads := r.cell.Threads
	if threads == 0 {
		threads = r.kind.Machine().Cores
	}
	fill := strings.NewReplacer("{model}", r.dir, "{prompt}", strconv.Itoa(r.cell.Prompt), "{generated}", strconv.Itoa(r.cell.Generated), "{batch}", strconv.Itoa(r.cell.Batch), "{threads}", strconv.Itoa(threads))
	var out []string
	for _, arg := range r.command.Run {
		out = append(out, fill.Replace(arg))
	}
	return out
}

func (r *commandRig) sizes() map[string]float64 { return nil }
func (r *commandRig) tokens() int               { return 0 }
func (r *commandRig) cpu() time.Duration        { return -1 }
func (r *commandRig) close()                    {}

func end(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) > n {
		return "..." + strings.ToValidUTF8(s[len(s)-n:], "")
	}
	return s
}

// version of a user's program, as it prints it: part of the key.
func (k Kind) version(dir string, c *spec.Command) string {
	if c.Version == nil {
		return "unknown"
	}
	if k.Run == nil {
		return "not asked"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	output, err := k.Run(ctx, dir, c.Version)
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(end(output, 200)), " ")
}
