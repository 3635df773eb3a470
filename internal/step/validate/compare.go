package validate

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// comparison runs the side under test and compares it with what the reference left.
type comparison struct {
	openHead           func(dir string, compute backend.Compute) (Head, error)
	compareWeights     func(reference, target string) ([]Tensor, error)
	entry              spec.Validation
	side, other        side
	subject, reference subject
}

// Key has the kind and the side under test; tokens, reference and both models are inputs.
func (c *comparison) Key(k *cache.KeyWriter) {
	k.Code(validateCode)
	k.Param("kind", c.entry.Kind)
	c.side.key(k)
	if c.entry.Corpus == nil {
		k.Param("max_tokens", c.entry.MaxTokens)
	}
}

// Validation is the recipe's entry, with what is expected.
func (c *comparison) Validation() spec.Validation { return c.entry }

// Where finds the recipe line of a changed parameter.
func (c *comparison) Where(name, path string) (spec.Pos, bool) { return where(c.entry, name) }

// Prepare says what is compared, and whether it can be run here.
func (c *comparison) Prepare() (*step.Forecast, error) {
	f := &step.Forecast{Summary: fmt.Sprintf("%s: %s in %s against %s", c.entry.Kind, c.side.runtime.Name(), c.side.compute, c.against()), Missing: c.side.missing}
	if c.entry.Kind == spec.Parity && c.entry.Reference.Runtime == "" && c.other.runtime.Name() == "builtin" && c.side.runtime.Name() == "builtin" {
		f.Notes = append(f.Notes, "PyTorch is not installed, so the reference is the built-in runtime in float64: it shows that float32 is computed right, not that mlxbuild understands the model as PyTorch does")
	}
	return f, nil
}

func (c *comparison) against() string {
	what := ""
	if c.reference.id != c.subject.id {
		what = c.reference.id + ", "
	}
	return fmt.Sprintf("%s%s in %s", what, c.other.runtime.Name(), c.other.compute)
}

// The order of a comparison's inputs.
const (
	inModel = iota
	inTokens
	inReference
	inReferenceModel
	inSource // only where the reference may have run the target's source
)

// Run computes the target's side and every figure.
func (c *comparison) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	run := comparing{comparison: c, env: e, ref: &Reference{}}
	if err := run.open(ctx); err != nil {
		return nil, err
	}
	defer run.model.Close()
	if err := run.compareFolders(); err != nil {
		return nil, err
	}
	err := run.compare(ctx)
	var broken interface{ NotFinite() string }
	if errors.As(err, &broken) { // a finding, not a failure of the step
		run.report.Broken, err = append(run.report.Broken, broken.NotFinite()), nil
	}
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(run.report)
	return &step.Result{Value: value}, err
}

// comparing is a comparison under way.
type comparing struct {
	*comparison
	env    *step.Env
	tokens *Tokens
	ref    *Reference
	model  backend.Model
	decode *prompt.Encoder
	report Report
}

// open reads what the reference left, checks that both sides can be compared, and loads the model.
func (c *comparing) open(ctx context.Context) (err error) {
	in := c.env.Inputs
	if c.tokens, err = readTokens(in[inTokens]); err != nil {
		return err
	}
	if err := readJSON(in[inReference], referenceFile, c.ref); err != nil {
		return err
	}
	if err := sameTokens(c.tokens, in[inReferenceModel].Dir, in[inModel].Dir); err != nil {
		return err
	}
	if c.decode, err = prompt.Load(in[inModel].Dir); err != nil {
		return err
	}
	class, err := ClassOf(in[inModel].Dir)
	if err != nil {
		return err
	}
	if c.model, err = c.side.runtime.Load(ctx, in[inModel].Dir, c.side.compute); err != nil {
		return err
	}
	if v := c.model.Info().VocabSize; v != c.ref.Vocabulary {
		c.model.Close()
		return fmt.Errorf("%s has a vocabulary of %d, the reference one of %d: they are not the same model", c.subject.id, v, c.ref.Vocabulary)
	}
	c.report = Report{Format: 1, Kind: c.entry.Kind, Class: class,
		Target:    Side{Name: c.subject.id, Weights: "target", Runtime: c.side.runtime.Name(), RuntimeID: c.side.id, Compute: string(c.side.compute)},
		Reference: Side{Name: c.reference.id, Weights: c.ref.Weights, Runtime: c.other.runtime.Name(), RuntimeID: c.other.id, Compute: string(c.other.compute)},
		Tokens:    TokenInfo{Digest: c.env.Inputs[inTokens].Digest.String(), Sequences: len(c.tokens.Sequences), Positions: c.tokens.positions(), Context: c.tokens.Cut.Context}}
	return nil
}

func (c *comparing) compare(ctx context.Context) error {
	if err := c.layers(ctx); err != nil {
		return err
	}
	var chunks []metric.Chunk
	var err error
	if c.ref.Form == formHidden {
		chunks, err = c.compareHidden(ctx)
	} else {
		chunks, err = c.compareLogits(ctx)
	}
	if err != nil {
		return err
	}
	c.report.Noise.Floor = metric.Number(largest(chunks) / (1 << 20))
	c.report.Metrics = metric.Parity(chunks)
	for name, v := range metric.Fidelity(chunks, c.seed()) {
		c.report.Metrics[name] = v
	}
	if c.entry.Corpus == nil {
		n := 0
		for _, p := range c.report.Prompts {
			n += len(p.Mismatches)
		}
		c.report.Metrics[metric.TokenMismatches] = metric.Value{Value: metric.Number(n), Low: metric.Number(n), High: metric.Number(n), N: c.greedyTokens()}
	}
	if reference, target := metric.Perplexity(chunks); reference == reference {
		c.report.ReferencePerplexity, c.report.Perplexity = metric.Number(reference), metric.Number(target)
	}
	c.report.Broken = append(c.report.Broken, c.broken()...)
	return nil
}

// largest logit of the reference, in magnitude.
func largest(chunks []metric.Chunk) (out float64) {
	for _, c := range chunks {
		for _, p := range c {
			out = math.Max(out, p.Largest)
		}
	}
	return out
}

func (c *comparing) greedyTokens() (n int) {
	for _, g := range c.ref.Greedy {
		n += len(g.Tokens)
	}
	return n
}

// seed of the bootstrap: from what was compared, so that the same figures get the same intervals.
func (c *comparing) seed() [2]uint64 {
	d := c.env.Inputs[inTokens].Digest
	return [2]uint64{binary.LittleEndian.Uint64(d[:]), binary.LittleEndian.Uint64(d[8:])}
}

// broken finds what no threshold should have to say.
func (c *comparing) broken() (out []string) {
	m := c.report.Metrics
	if v := float64(m[metric.KLDMean].Value); v != v {
		out = append(out, "a logit is NaN or infinite")
	}
	if c.entry.Kind == spec.Fidelity && c.report.Class.Bits > 0 && c.subject.id != c.reference.id && m[metric.KLDMax].Value == 0 && m[metric.Top1].Value == 1 && m[metric.LogitErrorAbs].Value == 0 {
		out = append(out, "it is quantized and differs from the reference in nothing: the two are the same weights")
	}
	if t := c.report.Tensors; t != nil && c.subject.model.Name == c.reference.model.Name || c.subject.folder && t != nil {
		if what := t.strange(); what != "" {
			out = append(out, what)
		}
	}
	return out
}

// compareFolders compares what the two sides read: settings and weights.
func (c *comparing) compareFolders() (err error) {
	in := c.env.Inputs
	reference, target := in[inReferenceModel].Dir, in[inModel].Dir
	if c.ref.Weights == "source" {
		reference = in[inSource].Dir
	}
	if reference == target {
		return nil
	}
	if c.report.Settings, err = settingsDifferences(reference, target); err != nil {
		return err
	}
	all, err := c.compareWeights(reference, target)
	if err != nil {
		c.report.Tensors = &Tensors{Failed: err.Error(), Worst: []Tensor{}}
		return nil
	}
	c.report.Tensors = Summarize(all)
	return nil
}

// layers follows the first tokens through both models.
func (c *comparing) layers(ctx context.Context) error {
	ids := c.tokens.Sequences[0].IDs[:c.ref.LayerTokens]
	mine, err := c.model.Layers(ctx, ids)
	if err != nil {
		return err
	}
	size := c.model.Info().HiddenSize
	if len(mine) != c.ref.Layers || size != c.ref.Hidden {
		c.report.Broken = append(c.report.Broken, fmt.Sprintf("it has %d blocks of %d, the reference %d of %d", len(mine)-1, size, c.ref.Layers-1, c.ref.Hidden))
		return nil
	}
	theirs, err := openValues(c.env.Inputs[inReference], layersFile, int64(c.ref.Layers)*int64(len(ids))*int64(size))
	if err != nil {
		return err
	}
	defer theirs.close()
	row := make([]float32, len(ids)*size)
	for i, x := range mine {
		if err := theirs.read(row); err != nil {
			return err
		}
		c.report.Layers = append(c.report.Layers, LayerReport{i, metric.Number(layerError(row, x, size))})
	}
	return nil
}

// layerError is the largest over tokens of |a - b| / |a|, Euclidean; NaN when a value is.
func layerError(a, b []float32, size int) (worst float64) {
	for at := 0; at < len(a); at += size {
		var dd, aa float64
		for i := at; i < at+size; i++ {
			d := float64(a[i]) - float64(b[i])
			dd, aa = dd+float64(d*d), aa+float64(float64(a[i])*float64(a[i]))
		}
		if dd != 0 {
			worst = math.Max(worst, math.Sqrt(dd/aa))
		}
	}
	return worst
}

// compareLogits compares prompts: the logits after each of their tokens, and the texts that follow.
func (c *comparing) compareLogits(ctx context.Context) (chunks []metric.Chunk, err error) {
	c.report.Noise = c.ref.Noise
	theirs, err := openValues(c.env.Inputs[inReference], valuesFile, int64(c.tokens.positions())*int64(c.ref.Vocabulary))
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	for i, s := range c.tokens.Sequences {
		c.env.Status(fmt.Sprintf("prompt %d of %d", i+1, len(c.tokens.Sequences)))
		mine, err := c.model.Logits(ctx, s.IDs, s.Positions())
		if err != nil {
			return nil, inText(i, err)
		}
		row := make([]float32, c.ref.Vocabulary)
		var compare metric.Comparer
		chunk := metric.Chunk{}
		for j, logits := range mine {
			if err := theirs.read(row); err != nil {
				return nil, err
			}
			chunk = append(chunk, compare.Compare(row, logits, s.Label(s.From+j)))
		}
		chunks = append(chunks, chunk)
		if c.entry.Corpus != nil {
			continue
		}
		if err := c.prompt(ctx, i, s, chunk, mine); err != nil {
			return nil, inText(i, err)
		}
	}
	return chunks, nil
}

// prompt compares what follows a prompt: teacher-forced on the reference's text, so that one difference does not make all that follow meaningless; and each side's own text, for people.
func (c *comparing) prompt(ctx context.Context, i int, s Sequence, chunk metric.Chunk, judged [][]float32) error {
	g := c.ref.Greedy[i]
	logits, err := readOn(ctx, c.model, s, g.Tokens)
	if err != nil {
		return err
	}
	c.report.Noise.Logit = metric.Number(math.Max(float64(c.report.Noise.Logit), shapeNoise(s, judged, logits)))
	figures, kl := metric.Parity([]metric.Chunk{chunk}), 0.0
	for _, p := range chunk {
		kl += p.KL / float64(len(chunk))
	}
	out := PromptReport{Prompt: c.tokens.Documents[i].Text, Tokens: len(s.IDs), LogitErrorRel: figures[metric.LogitErrorRel].Value, LogitErrorAbs: figures[metric.LogitErrorAbs].Value,
		KLD: metric.Number(kl), Greedy: len(g.Tokens)}
	for j, want := range g.Tokens {
		if got := likeliest(logits[len(s.IDs)-1+j-s.From])[0].Token; got != want {
			out.Mismatches = append(out.Mismatches, Mismatch{Position: len(s.IDs) + j, Reference: want, Token: got, Gap: metric.Number(gap(g.Ranks[j], got))})
		}
	}
	own, err := c.model.Generate(ctx, [][]int32{s.IDs}, backend.GenerateOptions{MaxTokens: c.entry.MaxTokens}, nil)
	if err != nil {
		return err
	}
	out.Text, out.ReferenceText = c.decode.Tokenizer.Decode(own[0].Tokens, true), c.decode.Tokenizer.Decode(g.Tokens, true)
	out.SameText = equal(own[0].Tokens, g.Tokens)
	for out.PartsAt < min(len(g.Tokens), len(own[0].Tokens)) && g.Tokens[out.PartsAt] == own[0].Tokens[out.PartsAt] {
		out.PartsAt++
	}
	c.report.Prompts = append(c.report.Prompts, out)
	return nil
}

// gap is by how much the reference preferred its best token to another. Beyond the tokens that were kept it is at least what is returned.
func gap(ranks []Candidate, token int32) float64 {
	for _, r := range ranks {
		if r.Token == token {
			return float64(ranks[0].Logit - r.Logit)
		}
	}
	return float64(ranks[0].Logit - ranks[len(ranks)-1].Logit)
}
