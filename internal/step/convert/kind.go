package convert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Kind plans one conversion for each target.
type Kind struct {
	// Dir finds the folder with a model's config and headers; false when there is none yet.
	Dir func(spec.Model) (dir string, ok bool)
	// MLX converts where the recipe says so; nil refuses that.
	MLX MLX

	mu     sync.Mutex
	opened map[string]opened
	codes  map[string]string // by folder: see archCode
}

type opened struct {
	folder *source.Folder
	err    error
}

// Name of the kind.
func (*Kind) Name() string { return "convert" }

// Plan adds the conversions.
func (k *Kind) Plan(b step.Builder) spec.Diags {
	c := b.Recipe().Convert
	for _, t := range b.Targets() {
		labels := t.Labels()
		labels["kind"] = "convert"
		dir, _ := k.Dir(t.Model)
		var act step.Action
		plain := action{kind: k, target: t, convert: c, dir: dir, options: Options{Quantization: t.Quantization, DType: t.DType, Repair: c.Repair, ShardSize: c.ShardSize}}
		if act = &plain; c.Runtime == "mlx" {
			act = newMLXAction(plain, k.MLX)
		}
		b.Add(step.Step{Kind: "convert", Name: "convert " + t.ID, Target: t.ID, Labels: labels, Pos: t.Pos, Pool: step.PoolCPU,
			Ins:    []step.In{{Role: "source", Artifact: b.Artifact(step.ModelArtifact(t.Model))}},
			Out:    b.Artifact(step.TargetArtifact(b.BuildDir(), t.ID)),
			Action: act,
			Folder: step.TargetDir(b.BuildDir(), t.ID),
			Origin: map[string]string{"model": t.Model.Name, "source": t.Model.Source.Kind + ":" + t.Model.Source.Ref, "revision": t.Model.Revision}})
	}
	return nil
}

// open a folder once for all its targets.
func (k *Kind) open(dir string) (*source.Folder, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o, ok := k.opened[dir]; ok {
		return o.folder, o.err
	}
	f, err := source.Open(dir)
	if k.opened == nil {
		k.opened = map[string]opened{}
	}
	k.opened[dir] = opened{f, err}
	return f, err
}

// action converts one target.
type action struct {
	kind    *Kind
	target  step.Target
	convert spec.Convert
	dir     string
	options Options
	plan    *Plan
}

func (o Options) code(arch string) []string { return []string{Code, quant.Code, arch} }

// Key holds the normalised rules, not what they come to: so it follows from the recipe before anything is fetched.
func (a *action) Key(k *cache.KeyWriter) {
	k.Code(a.options.code(a.archCode())...)
	k.Param("dtype", a.options.DType)
	k.Param("quantization", a.options.Quantization.Normalised())
	k.Param("repair", a.options.Repair)
	k.Param("rounding", quant.Profile)
	k.Param("shard_size", a.options.ShardSize)
}

// archCode is the version of the architecture that the config names. It reads config.json alone, once for all targets of a model.
func (a *action) archCode() string {
	a.kind.mu.Lock()
	defer a.kind.mu.Unlock()
	if code, ok := a.kind.codes[a.dir]; ok {
		return code
	}
	code := "unknown/0"
	if a.dir != "" {
		if config, err := source.ReadConfig(a.dir); err == nil {
			if found, ok := all.Find(source.ModelType(config)); ok {
				code = found.Code
			}
		}
	}
	if a.kind.codes == nil {
		a.kind.codes = map[string]string{}
	}
	a.kind.codes[a.dir] = code
	return code
}

// Where finds the recipe line of a changed parameter.
func (a *action) Where(name, path string) (spec.Pos, bool) {
	if name != "quantization" {
		pos, ok := a.convert.Where[name]
		return pos, ok
	}
	for i, r := range a.options.Quantization.Overrides {
		if strings.HasPrefix(path, fmt.Sprintf("overrides[%d]", i)) {
			return r.Pos, true
		}
	}
	if pos, ok := a.options.Quantization.Where[path]; ok {
		return pos, true
	}
	return a.options.Quantization.Pos, true
}

// Prepare opens the source and decides.
func (a *action) Prepare() (*step.Forecast, error) {
	if a.dir == "" {
		f := &step.Forecast{After: "after fetch"}
		for _, r := range a.options.Quantization.Overrides {
			f.Rules = append(f.Rules, step.RuleUse{Rule: r})
		}
		return f, nil
	}
	if err := a.decide(); err != nil {
		return nil, err
	}
	p := a.plan
	f := &step.Forecast{Summary: p.Summary(), ReadBytes: p.BytesIn, WriteBytes: p.BytesOut, PeakMemory: p.PeakMemory()}
	for _, r := range p.Repairs {
		f.Notes = append(f.Notes, fmt.Sprintf("config.json gets %s: %s", r.Key, r.Why))
	}
	f.Notes = append(f.Notes, p.floatNotes()...)
	for i, r := range a.options.Quantization.Overrides {
		f.Rules = append(f.Rules, step.RuleUse{Rule: r, Matched: p.Rules[i]})
	}
	return f, nil
}

func (a *action) decide() error {
	if a.plan != nil {
		return nil
	}
	folder, err := a.kind.open(a.dir)
	if err == nil {
		a.plan, err = Decide(folder, a.options)
	}
	return a.positioned(err)
}

// positioned gives an error of the model the recipe line that names the model.
func (a *action) positioned(err error) error {
	var diags spec.Diags
	if err == nil || errors.As(err, &diags) {
		return err
	}
	d := spec.Diag{Pos: a.target.Model.Source.Pos, Msg: fmt.Sprintf("model %s: %v", a.target.Model.Name, err)}
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		d.Hints = []string{h.Hint()}
	}
	return spec.Diags{d}
}

// Run converts.
func (a *action) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	if err := a.decide(); err != nil {
		return nil, err
	}
	digests, err := a.plan.Source.Digests(ctx, e.Cache, nil) // known since the source was hashed
	if err != nil {
		return nil, err
	}
	if tree := Tree(digests.Inputs); tree != e.Inputs[0].Digest {
		return nil, &source.Error{What: a.dir + " changed while the build ran", Do: "run again when it is complete"}
	}
	files, err := a.plan.Write(ctx, WriteEnv{Cache: e.Cache, Stage: e.Stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: e.Progress, Warn: e.Warn})
	return &step.Result{Files: files}, err
}

// Tree is the digest of a source: see fetch.
func Tree(inputs []source.Input) cache.Digest { return cache.SumBytes([]byte(source.Listing(inputs))) }

// Tensors are how each tensor is made, for explain; nil before Prepare.
func (a *action) Tensors() []Tensor {
	if a.plan == nil {
		return nil
	}
	return a.plan.Tensors
}

// PeakMemory is what workers hold at most: a block, its cast and its result each.
func (p *Plan) PeakMemory() int64 {
	widest := int64(blockBytes)
	for _, t := range p.Tensors {
		widest = max(widest, t.cols*4)
	}
	return 3*widest*int64(maxWorkers()) + 16<<20
}

// floatNotes list modules that stay float although they could be quantized, because their columns are not divisible.
func (p *Plan) floatNotes() (notes []string) {
	n := 0
	first := ""
	for _, t := range p.Tensors {
		if strings.HasPrefix(t.Rule, "float: its ") {
			if n++; n == 1 {
				first = t.Param + " (" + t.Rule + ")"
			}
		}
	}
	switch {
	case n == 1:
		notes = append(notes, first+" stays float")
	case n > 1:
		notes = append(notes, fmt.Sprintf("%d tensors stay float because their columns are not divisible by group_size, first %s", n, first))
	}
	return notes
}
