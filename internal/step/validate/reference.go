package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Files that a reference step writes.
const (
	referenceFile = "reference.json"
	valuesFile    = "values.f32" // logits [judged positions, vocabulary] for prompts, final hidden states [judged positions, hidden] for a corpus
	layersFile    = "layers.f32" // [layers + 1, layer tokens, hidden]
)

// What is kept of the reference.
const (
	formLogits = "logits"
	formHidden = "hidden" // exact, and a hundredth of the size: logits are computed again with the model's own output matrix
)

// layerTokens is how many tokens of the first text are followed through the layers.
const layerTokens = 16

// ranked is how many of the likeliest tokens are kept for each token of a greedy text.
const ranked = 32

// Reference is what a reference step found out.
type Reference struct {
	Format      int      `json:"format"` // 1
	Form        string   `json:"form"`
	Weights     string   `json:"weights"` // target, source
	Vocabulary  int      `json:"vocabulary"`
	Hidden      int      `json:"hidden"`
	Head        string   `json:"head,omitempty"` // digest of the output matrix
	Noise       Noise    `json:"noise"`
	Greedy      []Greedy `json:"greedy,omitempty"` // by prompt
	Layers      int      `json:"layers"`           // rows of layersFile
	LayerTokens int      `json:"layer_tokens"`
}

// Greedy is the text that the reference writes, and what else it would have considered.
type Greedy struct {
	Tokens []int32       `json:"tokens"`
	Ranks  [][]Candidate `json:"ranks"` // by token: the likeliest, best first
}

// Candidate is a token with its logit.
type Candidate struct {
	Token int32         `json:"t"`
	Logit metric.Number `json:"l"`
}

// reference runs the reference on the frozen tokens.
type reference struct {
	openHead func(dir string, compute backend.Compute) (Head, error)
	entry    spec.Validation
	side     side
}

func (r *reference) form() string {
	if r.entry.Corpus != nil && r.entry.Kind == spec.Fidelity {
		return formHidden
	}
	return formLogits
}

// Key has what runs and in which arithmetic; which texts, and which weights, are inputs.
func (r *reference) Key(k *cache.KeyWriter) {
	k.Code(referenceCode)
	r.side.key(k)
	k.Param("form", r.form())
	if r.entry.Corpus == nil {
		k.Param("max_tokens", r.entry.MaxTokens)
	}
}

func (s side) key(k *cache.KeyWriter) {
	k.Param("runtime", s.runtime.Name())
	k.Param("runtime_id", s.id)
	k.Param("compute", string(s.compute))
}

// Where finds the recipe line of a changed parameter.
func (r *reference) Where(name, path string) (spec.Pos, bool) { return where(r.entry, name) }

func where(v spec.Validation, name string) (spec.Pos, bool) {
	if pos, ok := v.Where[name]; ok {
		return pos, true
	}
	return v.Pos, true
}

// Prepare says what runs, and whether it is here.
func (r *reference) Prepare() (*step.Forecast, error) {
	return &step.Forecast{Summary: fmt.Sprintf("%s in %s", r.side.runtime.Name(), r.side.compute), Missing: r.side.missing}, nil
}

// Run loads the model and keeps what it computes.
func (r *reference) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	tokens, err := readTokens(e.Inputs[1])
	if err != nil {
		return nil, err
	}
	out := Reference{Format: 1, Form: r.form(), Weights: "target"}
	dir := e.Inputs[0].Dir
	if len(e.Inputs) > 2 && sameTypes(e.Inputs[2].Dir, dir) {
		dir, out.Weights = e.Inputs[2].Dir, "source"
	}
	m, err := r.side.runtime.Load(ctx, dir, r.side.compute)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	out.Vocabulary, out.Hidden = m.Info().VocabSize, m.Info().HiddenSize
	file, err := createRows(e, valuesFile)
	if err != nil {
		return nil, err
	}
	defer file.close()
	run := referenceRun{reference: r, env: e, model: m, tokens: tokens, out: &out, file: file}
	if out.Form == formHidden {
		err = run.hidden(ctx, dir)
	} else {
		err = run.logits(ctx)
	}
	if err != nil {
		return nil, err
	}
	return run.finish(ctx)
}

// sameTypes reports whether every tensor of a converted folder is in its source with the same type: then they are the same weights, and running the source tests the conversion too.
func sameTypes(source, dir string) bool {
	from, err := safetensors.OpenFolder(source)
	if err != nil {
		return false
	}
	to, err := safetensors.OpenFolder(dir)
	if err != nil {
		return false
	}
	for _, t := range to.Tensors() {
		if _, s, ok := from.Find(t.Name); !ok || s.DType != t.DType {
			return false
		}
	}
	return true
}

type referenceRun struct {
	*reference
	env    *step.Env
	model  backend.Model
	tokens *Tokens
	out    *Reference
	file   *rows
}

// logits keeps those after every judged position, and a greedy text with what else was likely.
func (r *referenceRun) logits(ctx context.Context) error {
	for i, s := range r.tokens.Sequences {
		r.env.Status(fmt.Sprintf("prompt %d of %d", i+1, len(r.tokens.Sequences)))
		all, err := r.model.Logits(ctx, s.IDs, s.Positions())
		if err != nil {
			return inText(i, err)
		}
		for _, row := range all {
			if err := r.file.write(row); err != nil {
				return err
			}
		}
		if r.entry.Corpus != nil {
			continue
		}
		if err := r.greedy(ctx, s, all); err != nil {
			return inText(i, err)
		}
	}
	return nil
}

// inText says which prompt or chunk an error is about.
func inText(i int, err error) error {
	var bad *backend.InputError
	if errors.As(err, &bad) {
		return fmt.Errorf("text %d: %w", i+1, err)
	}
	return err
}

// greedy lets the reference write, then reads prompt and text as one. What the prompt's logits differ by between the two is noise: the same computation in another shape.
func (r *referenceRun) greedy(ctx context.Context, s Sequence, judged [][]float32) error {
	tokens, logits, err := continuation(ctx, r.model, s, r.entry.MaxTokens)
	if err != nil {
		return err
	}
	r.out.Noise.Logit = metric.Number(math.Max(float64(r.out.Noise.Logit), shapeNoise(s, judged, logits)))
	g := Greedy{Tokens: tokens}
	for i := range tokens {
		g.Ranks = append(g.Ranks, likeliest(logits[len(s.IDs)-1+i-s.From]))
	}
	r.out.Greedy = append(r.out.Greedy, g)
	return nil
}

// continuation is the greedy text of a model, and its logits after every position from s.From on, in one reading of prompt and text.
func continuation(ctx context.Context, m backend.Model, s Sequence, maxTokens int) (tokens []int32, logits [][]float32, err error) {
	results, err := m.Generate(ctx, [][]int32{s.IDs}, backend.GenerateOptions{MaxTokens: maxTokens}, nil)
	if err != nil {
		return nil, nil, err
	}
	tokens = results[0].Tokens
	logits, err = readOn(ctx, m, s, tokens)
	return tokens, logits, err
}

// readOn reads a prompt with a text behind it. The last token of the text needs no reading.
func readOn(ctx context.Context, m backend.Model, s Sequence, text []int32) ([][]float32, error) {
	ids := append(append([]int32{}, s.IDs...), text[:max(len(text)-1, 0)]...)
	var positions []int
	for i := s.From; i < len(ids); i++ {
		positions = append(positions, i)
	}
	return m.Logits(ctx, ids, positions)
}

// shapeNoise is the largest difference between the logits of a prompt alone and with a text behind it.
func shapeNoise(s Sequence, alone, longer [][]float32) (noise float64) {
	for i := range alone {
		for j, v := range alone[i] {
			noise = math.Max(noise, math.Abs(float64(v)-float64(longer[i][j])))
		}
	}
	return noise
}

// likeliest tokens of a position, best first; of equals the lowest id.
func likeliest(logits []float32) []Candidate {
	best := make([]int32, 0, ranked+1)
	for id, v := range logits {
		if len(best) == ranked && !(v > logits[best[ranked-1]]) {
			continue
		}
		at := sort.Search(len(best), func(i int) bool { return logits[best[i]] < v })
		best = append(best, 0)
		copy(best[at+1:], best[at:])
		best[at] = int32(id)
		best = best[:min(len(best), ranked)]
	}
	out := make([]Candidate, len(best))
	for i, id := range best {
		out[i] = Candidate{id, metric.Number(logits[id])}
	}
	return out
}

// HeadError says that logits cannot be computed from hidden states.
type HeadError struct{ Err error }

func (e *HeadError) Error() string {
	return "fidelity on a corpus needs the model's output matrix: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *HeadError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *HeadError) Hint() string {
	return "of an architecture that mlxbuild does not know, fidelity can be measured on prompts"
}

// hidden keeps the final hidden states of judged positions.
func (r *referenceRun) hidden(ctx context.Context, dir string) error {
	head, err := r.openHead(dir, r.side.compute)
	if err != nil {
		return &HeadError{err}
	}
	defer head.Close()
	r.out.Head = fmt.Sprintf("%x", head.Digest())
	size := r.out.Hidden
	for i, s := range r.tokens.Sequences {
		r.env.Status(fmt.Sprintf("chunk %d of %d", i+1, len(r.tokens.Sequences)))
		states, err := r.model.Hidden(ctx, s.IDs)
		if err != nil {
			return inText(i, err)
		}
		if err := r.file.write(states[s.From*size : s.To*size]); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if r.out.Noise.KLD, err = hiddenNoise(ctx, r.model, head, s, states); err != nil {
			return err
		}
	}
	return nil
}

// finish follows the first tokens through the layers and writes what was found.
func (r *referenceRun) finish(ctx context.Context) (*step.Result, error) {
	values, err := r.file.close()
	if err != nil {
		return nil, err
	}
	ids := r.tokens.Sequences[0].IDs
	ids = ids[:min(len(ids), layerTokens)]
	layers, err := r.model.Layers(ctx, ids)
	if err != nil {
		return nil, err
	}
	r.out.Layers, r.out.LayerTokens = len(layers), len(ids)
	file, err := createRows(r.env, layersFile)
	if err != nil {
		return nil, err
	}
	defer file.close()
	for _, l := range layers {
		if err := file.write(l); err != nil {
			return nil, err
		}
	}
	layered, err := file.close()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(r.out)
	if err != nil {
		return nil, err
	}
	about, err := writeFile(r.env, referenceFile, data)
	value := fmt.Sprintf(`{"form":%q,"weights":%q}`, r.out.Form, r.out.Weights)
	return &step.Result{Files: []step.File{about, values, layered}, Value: json.RawMessage(value)}, err
}
