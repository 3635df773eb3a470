package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// mlxCode is raised when what is made of mlx_lm.convert's output for the same key changes.
const mlxCode = "convert-mlx/1"

// MLX is the real mlx-lm, which converts architectures that this program does not know.
type MLX interface {
	// ID has the versions of mlx and mlx-lm, and the device: its arithmetic is the device's.
	ID() (string, error)
	// Modules are what mlx can quantize in the model of a folder, and the number of its blocks.
	Modules(ctx context.Context, dir string) ([]Module, int, error)
	// Convert runs mlx_lm.convert into a folder that does not exist.
	Convert(ctx context.Context, o MLXOptions) error
}

// Module is one that mlx can quantize.
type Module struct {
	Path  string  `json:"path"`
	Shape []int64 `json:"shape"`
	// Own is what the model's own quant_predicate says of it: null, true, false, or {"group_size", "bits"}.
	Own any `json:"own"`
}

// MLXOptions of one conversion. Rules say for each module false, true (the default scheme), or its scheme.
type MLXOptions struct {
	Dir, Out   string
	DType      string // "" as mlx_lm.convert decides
	Quantize   bool
	Dequantize bool
	Mode       string
	Bits       int
	GroupSize  int
	Rules      map[string]any
}

// mlxAction converts one target with mlx_lm.convert.
type mlxAction struct {
	action
	mlx     MLX
	id      string
	missing error
}

func newMLXAction(a action, mlx MLX) *mlxAction {
	m := &mlxAction{action: a, mlx: mlx}
	m.id, m.missing = mlx.ID()
	return m
}

// Key has the versions of what converts beside the rules.
func (a *mlxAction) Key(k *cache.KeyWriter) {
	k.Code(mlxCode)
	k.Param("dtype", a.options.DType)
	k.Param("quantization", a.options.Quantization.Normalised())
	k.Param("runtime", "mlx")
	k.Param("runtime_id", a.id)
	k.Param("shard_size", a.options.ShardSize)
}

// Prepare looks whether the model can be read at all; what its modules are, mlx says when it runs.
func (a *mlxAction) Prepare() (*step.Forecast, error) {
	f := &step.Forecast{Summary: "by mlx_lm.convert", After: "after mlx reads the model", Missing: a.missing}
	for _, r := range a.options.Quantization.Overrides {
		f.Rules = append(f.Rules, step.RuleUse{Rule: r})
	}
	if !a.found() {
		return f, nil
	}
	src, err := source.OpenAny(a.dir)
	if err != nil {
		return nil, a.positioned(err)
	}
	for _, t := range src.Weights.Tensors() {
		f.ReadBytes += t.Bytes()
	}
	f.WriteBytes, f.PeakMemory = 2*f.ReadBytes, 2*f.ReadBytes // its output lies beside ours for a moment; it holds about two models
	return f, nil
}

// Tensors are not known: explain says so.
func (a *mlxAction) Tensors() []Tensor { return nil }

// Run has mlx_lm.convert write a folder, and writes it again in our layout.
func (a *mlxAction) Run(ctx context.Context, e *step.Env) (*step.Result, error) {
	src, err := source.OpenAny(e.Inputs[0].Dir)
	if err != nil {
		return nil, a.positioned(err)
	}
	digests, err := src.Digests(ctx, e.Cache, nil)
	if err != nil {
		return nil, err
	}
	e.Status("mlx reads the model")
	o, err := a.decideModules(ctx, src.Dir)
	if err != nil {
		return nil, err
	}
	o.Out = e.Stage.Path("mlx_lm/model")
	e.Status("mlx_lm.convert")
	if err := a.mlx.Convert(ctx, o); err != nil {
		return nil, err
	}
	w := WriteEnv{Cache: e.Cache, Stage: e.Stage, Inputs: digests.Inputs, Progress: e.Progress, Warn: e.Warn}
	files, err := a.rewrite(ctx, w, src, o.Out)
	return &step.Result{Files: files}, err
}

// moduleRule is a module's entry in config.json, keys in the order in which mlx_lm.convert writes them.
type moduleRule struct {
	GroupSize any    `json:"group_size"` // null where a preset leaves it open
	Bits      int    `json:"bits"`
	Mode      string `json:"mode"`
}

// blocks stands for a model of which only the number of blocks is known.
type blocks struct {
	arch.Model
	n int
}

func (b blocks) Layers() int { return b.n }

// decideModules applies overrides, preset, the model's own rules and the default to each module, in this order.
func (a *mlxAction) decideModules(ctx context.Context, dir string) (MLXOptions, error) {
	q := a.options.Quantization
	def := defaultScheme(q)
	o := MLXOptions{Dir: dir, Quantize: q.Quantize, Dequantize: q.Dequantize, Mode: string(def.Mode), Bits: def.Bits, GroupSize: def.GroupSize}
	if a.options.DType != "auto" {
		o.DType = a.options.DType
	}
	if q.Dequantize {
		return o, nil
	}
	modules, layers, err := a.mlx.Modules(ctx, dir)
	if err != nil {
		return o, err
	}
	o.Rules = map[string]any{}
	d := decider{plan: &Plan{Options: a.options, Rules: make([]bool, len(q.Overrides))}, model: blocks{n: layers}}
	for _, m := range modules {
		scheme, own, rule := d.settings(arch.Param{Module: m.Path, Layer: layerOf(m.Path), Quantizable: true})
		switch {
		case scheme != nil && scheme.Validate() != nil:
			return o, spec.Diags{{Pos: rule.pos, Msg: fmt.Sprintf("%s: %v", m.Path, scheme.Validate())}}
		case scheme == nil || len(m.Shape) == 0 || m.Shape[len(m.Shape)-1]%int64(scheme.GroupSize) != 0:
			o.Rules[m.Path] = false
		case own != nil: // an override or a preset names it
			o.Rules[m.Path] = moduleRule{own.groupSize, own.bits, own.mode}
			o.Quantize = true
		case m.Own != nil:
			o.Rules[m.Path] = m.Own
		default:
			o.Rules[m.Path] = true
		}
	}
	return o, unmatchedIn(d.plan.Rules, q.Overrides)
}

// unmatchedIn refuses rules that match nothing in a model.
func unmatchedIn(matched []bool, rules []spec.Rule) error {
	var diags spec.Diags
	for i, r := range rules {
		if !matched[i] && !r.Optional {
			diags = append(diags, spec.Diag{Pos: r.Pos, Msg: "this rule matches nothing in the model: " + r.Text, Hints: []string{"`optional: true` allows no match"}})
		}
	}
	if diags == nil {
		return nil
	}
	return diags
}

// layerOf is the number behind `layers` in a module's path, -1 without one.
func layerOf(path string) int {
	parts := strings.Split(path, ".")
	for i := range parts[:len(parts)-1] {
		if n, err := strconv.Atoi(parts[i+1]); err == nil && (parts[i] == "layers" || parts[i] == "h" || parts[i] == "blocks") {
			return n
		}
	}
	return -1
}

// rewrite puts the tensors that mlx_lm.convert wrote into our files: same bytes of each, our order and alignment. config.json is its own; tokenizer and the other small files are the source's.
func (a *mlxAction) rewrite(ctx context.Context, w WriteEnv, src *source.Folder, from string) ([]step.File, error) {
	made, err := safetensors.OpenFolder(from)
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		return nil, err
	}
	params, size, err := countsOf(filepath.Join(from, safetensors.IndexName))
	if err != nil {
		return nil, err
	}
	var specs []safetensors.Spec
	for _, t := range made.Tensors() {
		specs = append(specs, safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape})
	}
	p := &Plan{Source: src, Options: a.options, Config: config}
	if p.Shards, err = safetensors.Layout(specs, a.options.ShardSize); err != nil {
		return nil, err
	}
	p.Index = writeIndex(p.Shards, size, params)
	var files []step.File
	for _, s := range p.Shards {
		f, err := copyShard(ctx, w, made, s)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	small, err := p.writeSmall(w)
	if err != nil {
		return nil, err
	}
	files = append(files, small...)
	manifest, err := a.mlxManifest(p, w.Inputs, files)
	if err != nil {
		return nil, err
	}
	last, err := writeFile(w, ManifestName, manifest)
	last.Describe = true
	return append(files, last), err
}

// countsOf reads total_parameters and total_size, which mlx_lm counts in its own way.
func countsOf(index string) (params, size int64, err error) {
	var v struct {
		Metadata struct {
			Size   int64 `json:"total_size"`
			Params int64 `json:"total_parameters"`
		} `json:"metadata"`
	}
	data, err := os.ReadFile(index)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	return v.Metadata.Params, v.Metadata.Size, err
}

// copyShard writes one file from tensors that lie in others.
func copyShard(ctx context.Context, w WriteEnv, from *safetensors.Folder, s safetensors.Shard) (step.File, error) {
	out := newOutput(s, w.Stage.Path(s.Name))
	defer out.stop()
	buf := make([]byte, blockBytes)
	for _, t := range s.Tensors {
		if err := ctx.Err(); err != nil {
			return step.File{}, err
		}
		file, source, ok := from.Find(t.Name)
		if !ok || source.Bytes() != t.Bytes() {
			return step.File{}, errors.New("BUG: " + t.Name + " is not what was planned")
		}
		if err := copyTensor(out, buf, from.Files[file].Path, source, t.Begin, w.Progress); err != nil {
			return step.File{}, err
		}
	}
	sum, err := out.finish()
	return step.File{Path: s.Name, Digest: sum, Size: s.Size}, err
}

func copyTensor(out *output, buf []byte, path string, t safetensors.Tensor, to int64, progress func(int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := t.Begin; at < t.End; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), t.End-at)], at)
		if n == 0 {
			return fmt.Errorf("%s cannot be read: %w", path, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if err := out.write(buf[:n], to+at-t.Begin); err != nil {
			return err
		}
		at += int64(n)
		progress(int64(n))
	}
	return nil
}

// mlxManifest says that mlx_lm.convert made the tensors, and which one.
func (a *mlxAction) mlxManifest(p *Plan, inputs []source.Input, files []step.File) ([]byte, error) {
	data, err := p.manifest(inputs, files)
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	m.Code, m.Quantization.Profile = []string{mlxCode}, a.id
	for _, s := range p.Shards {
		for _, t := range s.Tensors {
			m.Tensors[t.Name] = ManifestTensor{t.DType, t.Shape, []string{}, "mlx_lm.convert"}
		}
	}
	return json.MarshalIndent(m, "", " ")
}

// Runtimes: mlx converts, on whatever device it has.
func (a *mlxAction) Runtimes() []string { return []string{"mlx"} }
