package convert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hint"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Kind plans one conversion for each target.
type Kind struct {
	// Dir finds a folder with a model's config and headers, to plan with; false when there is none yet. What a step reads when it runs is its input's folder.
	Dir func(spec.Model) (dir string, ok bool)
	// MLX converts where the recipe says so; nil refuses that.
	MLX MLX

	mu     sync.Mutex
	opened map[string]opened
	codes  map[string]string // by folder: see archCode
	late   map[spec.Pos]*lateRule
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
		var act step.Action
		source := b.Artifact(step.ModelArtifact(t.Model))
		pass := "convert " + step.ModelArtifact(t.Model)
		dir := ""
		if t.Model.Pin == nil { // a pin says what keys need, and laying its folder out is work
			dir, _ = k.Dir(t.Model)
		}
		plain := action{kind: k, target: t, convert: c, dir: dir, options: Options{Quantization: t.Quantization, DType: t.DType, Repair: c.Repair, ShardSize: c.ShardSize}}
		if act = &plain; c.Runtime == "mlx" {
			act, pass = newMLXAction(plain, k.MLX), ""
		}
		b.Add(step.Step{Kind: "convert", Name: "convert " + t.ID, Target: t.ID, Labels: labels, Pos: t.Pos, Pool: step.PoolCPU, Pass: pass,
			Ins:    []step.In{{Role: "source", Artifact: source}},
			Out:    b.Artifact(step.TargetArtifact(b.BuildDir(), t.ID)),
			Action: act,
			Folder: step.TargetDir(b.BuildDir(), t.ID),
			Origin: origin(t.Model)})
	}
	return nil
}

// origin of a model, for the provenance of what is made of it.
func origin(m spec.Model) map[string]string {
	o := map[string]string{"model": m.Name, "source": m.Source.Kind + ":" + m.Source.Ref, "revision": m.Revision}
	if m.Pin != nil {
		o["commit"] = m.Pin.Commit
	}
	return o
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
	dir     string // with the model's headers, "" while there is none
	options Options
	plan    *Plan
	planned string // the folder that plan was made from
	told    *step.Forecast
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

// archCode is the version of the architecture that the config names: by the lock for a model on the Hub, else by config.json, read once for all targets of a model.
func (a *action) archCode() string {
	if pin := a.target.Model.Pin; pin != nil {
		return codeOf(pin.ModelType)
	}
	a.kind.mu.Lock()
	defer a.kind.mu.Unlock()
	if code, ok := a.kind.codes[a.dir]; ok {
		return code
	}
	code := unknownCode
	if a.dir != "" {
		if config, err := source.ReadConfig(a.dir); err == nil {
			code = codeOf(source.ModelType(config))
		}
	}
	if a.kind.codes == nil {
		a.kind.codes = map[string]string{}
	}
	a.kind.codes[a.dir] = code
	return code
}

const unknownCode = "unknown/0"

func codeOf(modelType string) string {
	if found, ok := all.Find(modelType); ok {
		return found.Code
	}
	return unknownCode
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

// Prepare opens the source, where its headers are at hand, and decides.
func (a *action) Prepare() (*step.Forecast, error) {
	a.told = &step.Forecast{}
	if !a.found() {
		if err := a.known(); err != nil {
			return nil, err
		}
		a.told.After = "after fetch"
		for _, r := range a.options.Quantization.Overrides {
			a.told.Rules = append(a.told.Rules, step.RuleUse{Rule: r})
		}
		a.kind.undecided(a)
		return a.told, nil
	}
	if err := a.decide(a.dir); err != nil {
		return nil, err
	}
	a.tell()
	for i, r := range a.options.Quantization.Overrides {
		a.told.Rules = append(a.told.Rules, step.RuleUse{Rule: r, Matched: a.plan.Rules[i]})
	}
	return a.told, nil
}

// found reports whether there is a folder to plan with.
func (a *action) found() bool {
	if a.dir == "" {
		a.dir, _ = a.kind.Dir(a.target.Model)
	}
	return a.dir != ""
}

// tell fills the forecast with what was decided.
func (a *action) tell() {
	p, f := a.plan, a.told
	f.Summary, f.ReadBytes, f.WriteBytes, f.PeakMemory, f.Notes = p.Summary(), p.BytesIn, p.BytesOut, p.PeakMemory(), nil
	for _, r := range p.Repairs {
		f.Notes = append(f.Notes, fmt.Sprintf("config.json gets %s: %s", r.Key, r.Why))
	}
	f.Notes = append(f.Notes, p.floatNotes()...)
}

// known refuses an architecture by what the lock says, before anything of the model is fetched.
func (a *action) known() error {
	pin := a.target.Model.Pin
	if pin == nil || pin.ModelType == "-" {
		return nil
	}
	return a.positioned(source.Supported(pin.ModelType))
}

func (a *action) decide(dir string) error {
	if a.plan != nil && a.planned == dir {
		return nil
	}
	folder, err := a.kind.open(dir)
	if err == nil {
		a.plan, err = Decide(folder, a.options)
		a.planned = dir
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
	if h := hint.Of(err); h != "" {
		d.Hints = []string{h}
	}
	return spec.Diags{d}
}

// Run converts.
func (a *action) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	if err := a.decide(e.Inputs[0].Dir); err != nil {
		return nil, err
	}
	if err := a.kind.decided(a); err != nil {
		return nil, err
	}
	if a.told != nil && a.told.After != "" { // what was not known before is told with the result
		a.tell()
	}
	digests, err := a.plan.Source.Digests(ctx, e.Cache, nil) // known since the source was hashed
	if err != nil {
		return nil, err
	}
	files, err := a.plan.Write(ctx, WriteEnv{Cache: e.Cache, Stage: e.Stage, Digests: digests.Tensors, Inputs: digests.Inputs, Progress: e.Progress, Warn: e.Warn, Seat: e.Seat})
	return &step.Result{Files: files}, err
}

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
