// Package validate is the step kind that says whether a target is right, and what quantization cost it.
//
// A validation is three kinds of cached steps. `tokens` freezes the ids: text goes through the reference's tokenizer once, and every runtime gets ids. `reference` runs the reference on them and
// keeps what it computed: logits for prompts, final hidden states for a corpus. `validate` runs the side under test and compares. What it finds are figures; whether they are good enough is
// judged afterwards, against thresholds that are in no key.
package validate

import (
	"fmt"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Code versions of the three kinds of step, for keys: raised when what they write for the same key changes.
const (
	tokensCode    = "tokens/1"
	referenceCode = "reference/1"
	validateCode  = "validate/3"
)

// Kind plans the validate section.
type Kind struct {
	Runtimes *backend.Set
	OpenHead func(dir string, compute backend.Compute) (Head, error)
	// Text is the step that brings a corpus here that lies elsewhere: its Source and Pool.
	Text func(spec.Corpus) step.Step
	// CompareWeights compares every parameter of two folders of one model.
	CompareWeights func(reference, target string) ([]Tensor, error)
}

// Head is the output matrix of a model folder: final hidden states in, logits out. Digest is of the matrix as it is stored.
type Head interface {
	Hidden() int
	Vocabulary() int
	Logits(dst, hidden []float32) error
	Digest() [32]byte
	Close() error
}

// Name of the kind.
func (Kind) Name() string { return "validate" }

// Plan adds the steps of every validation.
func (k Kind) Plan(b step.Builder) (diags spec.Diags) {
	for _, v := range b.Recipe().Validations {
		p := planning{Kind: k, b: b, v: v, added: map[string]bool{}}
		p.plan()
		diags = append(diags, p.diags...)
	}
	return diags
}

// planning is one validation on its way into the plan.
type planning struct {
	Kind
	b     step.Builder
	v     spec.Validation
	added map[string]bool // names of steps that several targets share
	diags spec.Diags
}

// subject is a model folder that takes part: a target, or the folder of a model as it is.
type subject struct {
	id       string
	artifact string
	model    spec.Model // where its tokenizer and, unless it is a folder, its weights come from
	labels   step.Labels
	float    bool // a target that is not quantized: it should compute what its source computes
	folder   bool
	pos      spec.Pos
}

func (p *planning) target(t step.Target) subject {
	return subject{id: t.ID, artifact: step.TargetArtifact(p.b.BuildDir(), t.ID), model: t.Model, labels: t.Labels(), float: !t.Quantization.Quantize, pos: p.v.Pos}
}

// folder is a model of the recipe, validated as it is.
func (p *planning) folder(name string) subject {
	for _, m := range p.b.Recipe().Models {
		if m.Name == name {
			return subject{id: m.Name, artifact: step.ModelArtifact(m), model: m, labels: step.Labels{"target": m.Name, "model": m.Name}, folder: true, pos: p.v.Pos}
		}
	}
	panic("BUG: no model " + name)
}

func (p *planning) fail(pos spec.Pos, hint, format string, args ...any) {
	d := spec.Diag{Pos: pos, Msg: fmt.Sprintf(format, args...)}
	if hint != "" {
		d.Hints = []string{hint}
	}
	p.diags = append(p.diags, d)
}

func (p *planning) plan() {
	if p.v.Folder != "" {
		s := p.folder(p.v.Folder)
		if p.v.Reference.Folder == "" {
			p.add(s, s)
		} else {
			p.add(s, p.folder(p.v.Reference.Folder))
		}
		return
	}
	for _, sel := range p.v.Targets {
		if wrong, hints := step.Unmatched(sel, p.b.Targets()); wrong != "" {
			p.diags = append(p.diags, spec.Diag{Pos: p.v.Pos, Msg: fmt.Sprintf("validate.%s.targets: %s", p.v.Name, wrong), Hints: hints})
		}
	}
	for _, t := range p.b.Targets() {
		if !t.Picked(p.v.Targets) {
			continue
		}
		s := p.target(t)
		if p.v.Kind == spec.Parity {
			p.add(s, s)
			continue
		}
		if ref, ok := p.fidelityReference(t); ok && ref.ID != t.ID {
			p.add(s, p.target(ref))
		} else if ok && p.named(t.ID) {
			p.fail(p.v.Pos, "a selector with a * leaves the reference out", "validate.%s: %s is the reference itself", p.v.Name, t.ID)
		}
	}
}

// named reports whether a target is written out, rather than picked by a pattern.
func (p *planning) named(id string) bool {
	for _, sel := range p.v.Targets {
		if sel == id {
			return true
		}
	}
	return false
}

// fidelityReference finds the target that another one is compared with.
func (p *planning) fidelityReference(t step.Target) (step.Target, bool) {
	r, pos := p.v.Reference, p.v.Reference.Pos
	if pos.File == "" {
		pos = p.v.Pos
	}
	var found []step.Target
	for _, o := range p.b.Targets() {
		switch {
		case r.Target != "":
			if o.ID == r.Target {
				return o, true
			}
		case o.Model.Name != t.Model.Name:
		case r.Quantization != "" && o.Quantization.Name == r.Quantization, r.Quantization == "" && !o.Quantization.Quantize:
			if o.DType == t.DType {
				return o, true
			}
			found = append(found, o)
		}
	}
	switch {
	case r.Target != "":
		p.fail(pos, "", "validate.%s: the reference %s is no target of this recipe", p.v.Name, r.Target)
	case len(found) == 1:
		return found[0], true
	case len(found) > 1:
		p.fail(pos, "name it: reference: {target: "+found[0].ID+"}", "validate.%s: %d targets could be the reference of %s", p.v.Name, len(found), t.ID)
	case r.Quantization != "":
		p.fail(pos, "add it to the matrix", "validate.%s: %s/%s is no target of this recipe", p.v.Name, t.Model.Name, r.Quantization)
	default:
		p.fail(pos, "add `bf16: {quantize: false}` to quantizations, or name another reference", "validate.%s: %s has no target that is not quantized to be compared with", p.v.Name, t.Model.Name)
	}
	return step.Target{}, false
}

// side is a runtime in an arithmetic.
type side struct {
	runtime backend.Runtime
	id      string
	missing error
	compute backend.Compute
}

func (p *planning) side(runtime, compute string) side {
	s := side{runtime: p.Runtimes.Find(runtime), compute: backend.Compute(compute)}
	s.id, s.missing = p.Runtimes.ID(runtime)
	return s
}

// sides are the side under test and that of the reference.
func (p *planning) sides() (test, reference side) {
	runtime := p.Runtimes.Resolve(p.v.Runtime)
	test = p.side(runtime, p.v.Compute)
	r := p.v.Reference
	if r.Runtime == "" {
		r.Runtime = runtime
		if p.v.Kind == spec.Parity {
			r.Runtime = p.otherImplementation(runtime)
		}
	}
	if r.Compute == "" {
		r.Compute = string(backend.Float32)
		switch {
		case p.v.Kind == spec.Parity && r.Runtime == "builtin":
			r.Compute = string(backend.Float64)
		case p.v.Kind == spec.Fidelity && r.Runtime == runtime:
			r.Compute = p.v.Compute
		}
	}
	return test, p.side(r.Runtime, r.Compute)
}

// otherImplementation is PyTorch where it is installed, else the built-in runtime in float64.
func (p *planning) otherImplementation(runtime string) string {
	if runtime == "torch" {
		return "builtin"
	}
	if p.Runtimes.Has("torch") {
		return "torch"
	}
	return "builtin"
}

// add plans the steps that compare s with ref; for parity they are the same.
func (p *planning) add(s, ref subject) {
	test, other := p.sides()
	tokens := p.tokens(ref)
	// What is not quantized must compute what its source computes in PyTorch; of anything else PyTorch runs the target's own weights.
	source := p.v.Kind == spec.Parity && s.float && other.runtime.Name() == "torch"
	reference := p.reference(ref, other, tokens, source)
	ins := []step.In{{Role: "model", Artifact: p.b.Artifact(s.artifact)}, {Role: "tokens", Artifact: p.b.Artifact(tokens)}, {Role: "reference", Artifact: p.b.Artifact(reference)},
		{Role: "reference_model", Artifact: p.b.Artifact(ref.artifact)}}
	if source {
		ins = append(ins, step.In{Role: "source", Artifact: p.b.Artifact(step.ModelArtifact(ref.model))})
	}
	labels := step.Labels{"kind": "validate", "validation": p.v.Name}
	for k, v := range s.labels {
		labels[k] = v
	}
	name := "validate " + p.v.Name + " " + s.id
	p.b.Add(step.Step{Kind: "validate", Name: name, Target: s.id, Labels: labels, Pos: p.v.Pos, Pool: step.PoolDevice, Ins: ins, Out: p.b.Artifact(name + " in " + p.b.BuildDir()),
		Action: &comparison{openHead: p.OpenHead, compareWeights: p.CompareWeights, entry: p.v, side: test, other: other, subject: s, reference: ref}})
}

// tokens plans the step that freezes the ids for everything that is compared with models of one tokenizer.
func (p *planning) tokens(ref subject) (artifact string) {
	name := "tokens " + p.v.Name + " " + ref.model.Name
	artifact = name + " in " + p.b.BuildDir()
	if p.added[name] {
		return artifact
	}
	p.added[name] = true
	ins := []step.In{{Role: "tokenizer", Artifact: p.b.Artifact(step.ModelArtifact(ref.model))}}
	if p.v.Corpus != nil {
		ins = append(ins, step.In{Role: "corpus", Artifact: p.b.Artifact(p.corpus())})
	}
	p.b.Add(step.Step{Kind: "tokens", Name: name, Labels: step.Labels{"kind": "tokens"}, Pos: p.v.Pos, Pool: step.PoolCPU, Auxiliary: true, Ins: ins, Out: p.b.Artifact(artifact),
		Action: &freeze{entry: p.v}})
	return artifact
}

// corpus plans the file that a corpus is read from.
func (p *planning) corpus() (artifact string) {
	if p.v.Corpus.Source.Kind == "hf" || p.v.Corpus.Source.Kind == "https" {
		s := p.Text(*p.v.Corpus)
		artifact = step.TextArtifact(*p.v.Corpus)
		s.Kind, s.Name, s.Pos, s.Labels, s.Out = "source", "source corpus "+p.v.Corpus.Name, p.v.Corpus.Pos, step.Labels{"kind": "source", "corpus": p.v.Corpus.Name}, p.b.Artifact(artifact)
		p.b.Add(s)
		return artifact
	}
	path, err := filepath.Abs(p.v.Corpus.Path)
	if err != nil { // the working directory is gone
		path = p.v.Corpus.Path
	}
	artifact = "corpus " + path
	out := p.b.Artifact(artifact)
	p.b.Add(step.Step{Kind: "source", Name: "source corpus " + p.v.Corpus.Name, Pos: p.v.Corpus.Pos, Pool: step.PoolCPU, Labels: step.Labels{"kind": "source"}, Out: out, Source: corpusFile{path}})
	return artifact
}

// reference plans the step that runs the reference. source: PyTorch gets the target's source too, and runs that where the weights are the same.
func (p *planning) reference(ref subject, other side, tokens string, source bool) (artifact string) {
	name := "reference " + p.v.Name + " " + ref.id
	artifact = name + " in " + p.b.BuildDir()
	if p.added[name] {
		return artifact
	}
	p.added[name] = true
	ins := []step.In{{Role: "model", Artifact: p.b.Artifact(ref.artifact)}, {Role: "tokens", Artifact: p.b.Artifact(tokens)}}
	if source {
		ins = append(ins, step.In{Role: "source", Artifact: p.b.Artifact(step.ModelArtifact(ref.model))})
	}
	p.b.Add(step.Step{Kind: "reference", Name: name, Labels: step.Labels{"kind": "reference"}, Pos: p.v.Pos, Pool: step.PoolDevice, Auxiliary: true, Ins: ins, Out: p.b.Artifact(artifact),
		Action: &reference{openHead: p.OpenHead, entry: p.v, side: other}})
	return artifact
}
