package spec

import (
	"encoding/hex"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// computes are the arithmetics of each runtime.
var computes = map[string][]string{
	"builtin": {"float32", "fast", "int8", "float64"},
	"mlx":     {"float32", "bfloat16", "float16"},
	"torch":   {"float32", "bfloat16", "float16"},
}

func (l *loader) corpora(r *Recipe, section *node) {
	for _, f := range section.fieldsOf() {
		n := f.value
		c := Corpus{Name: f.key, Pos: f.pos, Context: 512, Chunks: 64, Score: n.get("score").textOr("second-half"), Chat: n.get("chat").boolOr(false)}
		if v := n.get("context").intPtr(); v != nil {
			c.Context = *v
		}
		if v := n.get("chunks").intPtr(); v != nil {
			c.Chunks = *v
		}
		if src := n.get("source"); src != nil {
			l.corpusSource(&c, n, src)
		}
		r.Corpora = append(r.Corpora, c)
	}
}

var dataSetName = lazyregexp.New(`^datasets/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)

// corpusSource reads where a corpus is: a file of this machine, a file of a data set on the Hub, which the lock pins, or an address, whose content the recipe pins.
func (l *loader) corpusSource(c *Corpus, n, src *node) {
	text, ok := src.text()
	if !ok {
		return
	}
	kind, ref, _ := strings.Cut(text, ":")
	c.Source, c.File = Source{Kind: kind, Ref: ref, Pos: src.pos}, n.get("file").textOr("")
	sum := n.get("sha256").textOr("")
	l.corpusKeys(kind, n)
	switch {
	case kind == "hf" && !dataSetName().MatchString(ref):
		l.fail(src.pos, "write hf:datasets/org/name, as in the address of the data set's page, and file: with the file in it", "%q is not the name of a data set on the Hub", ref)
	case kind == "hf" && c.File == "":
		l.fail(src.pos, "add file: with the path of a text or .jsonl file in the data set", "which file of %s?", text)
	case kind == "hf":
		c.Path = c.File
	case kind == "https":
		c.Source.Ref = text
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
			l.fail(src.pos, "write https://host/path", "%q is not an address", text)
		} else {
			c.Path = path.Base(u.Path)
		}
		if b, err := hex.DecodeString(sum); err == nil && len(b) == 32 {
			c.SHA256 = [32]byte(b)
		} else if sum == "" {
			l.fail(src.pos, "add sha256: with the digest that sha256sum prints of the file", "an https: corpus needs the digest of its content")
		}
	case kind != "path" || ref == "":
		l.fail(src.pos, "write path:FILE (relative to the recipe), hf:datasets/org/name with file:, or https://... with sha256:", "%q is not the source of a corpus", text)
	case filepath.IsAbs(filepath.FromSlash(ref)):
		c.Path = filepath.FromSlash(ref)
	default:
		c.Path = filepath.Join(l.dirs[src.pos.File], filepath.FromSlash(ref))
	}
}

// corpusKeys refuses keys that go with another kind of source.
func (l *loader) corpusKeys(kind string, n *node) {
	for _, k := range []struct{ key, goes string }{{"file", "hf"}, {"sha256", "https"}} {
		if v := n.get(k.key); v != nil && kind != k.goes {
			l.fail(v.pos, "", "%s goes with %s: sources only", k.key, k.goes)
		}
	}
}

func (l *loader) validate(r *Recipe, section *node) {
	for _, f := range section.fieldsOf() {
		n := f.value
		v := Validation{Name: f.key, Pos: f.pos, Kind: n.get("kind").textOr(Parity), Targets: n.get("targets").texts(), Runtime: n.get("runtime").textOr("auto"),
			Compute: n.get("compute").textOr("float32"), MaxTokens: 64, Where: map[string]Pos{}}
		for _, sub := range n.fieldsOf() {
			v.Where[sub.key] = sub.value.pos
		}
		if m := n.get("max_tokens").intPtr(); m != nil {
			v.MaxTokens = *m
		}
		if v.Kind == "tasks" {
			l.fail(n.get("kind").pos, "fidelity measures what quantization cost; lm-evaluation-harness runs tasks on the built folder", "validations of kind tasks are not supported in this version")
			continue
		}
		l.inputs(r, &v, n)
		l.checkCompute(v.Runtime, v.Compute, n.get("compute"))
		v.Reference = l.reference(r, v.Kind, n.get("reference"))
		v.Expect = l.expect(n.get("expect"))
		r.Validations = append(r.Validations, v)
	}
}

// inputs reads the prompts or the corpus: exactly one.
func (l *loader) inputs(r *Recipe, v *Validation, n *node) {
	prompts, corpus := n.get("prompts"), n.get("corpus")
	switch {
	case prompts == nil && corpus == nil:
		l.fail(n.pos, "write prompts: [\"The quick brown fox\"], or the name of a prompt set or corpus", "validate.%s has neither prompts nor a corpus", v.Name)
	case prompts != nil && corpus != nil:
		l.fail(corpus.pos, "make two validations of it", "validate.%s has prompts and a corpus", v.Name)
	case prompts != nil:
		v.Prompts = l.promptsOf(r, prompts)
	default:
		v.Corpus = l.corpusOf(r, corpus)
		if m := n.get("max_tokens"); m != nil {
			l.fail(m.pos, "take it out", "max_tokens goes with prompts only")
		}
	}
}

func (l *loader) corpusOf(r *Recipe, n *node) *Corpus {
	name, ok := n.text()
	if !ok {
		return nil
	}
	var known []string
	for _, c := range r.Corpora {
		if c.Name == name {
			return &c
		}
		known = append(known, c.Name)
	}
	l.fail(n.pos, orElse(didYouMean(name, known), knownHint("corpus", known)), "there is no corpus %s", name)
	return nil
}

// checkCompute refuses an arithmetic that a runtime does not have.
func (l *loader) checkCompute(runtime, compute string, n *node) {
	if n == nil || runtime == "" || runtime == "auto" || indexOf(computes[runtime], compute) >= 0 {
		return
	}
	l.fail(n.pos, runtime+" computes in "+strings.Join(computes[runtime], ", "), "runtime %s does not compute in %s", runtime, compute)
}

func (l *loader) reference(r *Recipe, kind string, n *node) Reference {
	ref := Reference{Runtime: n.get("runtime").textOr(""), Compute: n.get("compute").textOr(""), Target: n.get("target").textOr("")}
	if n == nil {
		return ref
	}
	ref.Pos = n.pos
	l.checkCompute(ref.Runtime, ref.Compute, n.get("compute"))
	if q := n.get("quantization"); q != nil {
		var known []string
		for _, have := range r.Quantizations {
			known = append(known, have.Name)
		}
		if names := l.among(q, "quantization", known, true); len(names) == 1 {
			ref.Quantization = names[0]
		}
		if ref.Target != "" {
			l.fail(q.pos, "take one of them out", "the reference has a quantization and a target")
		}
	}
	if other := orNode(n.get("quantization"), n.get("target")); kind == Parity && other != nil {
		l.fail(other.pos, "kind: fidelity compares targets with each other", "parity compares the same weights in two implementations")
	}
	return ref
}

func orNode(a, b *node) *node {
	if a != nil {
		return a
	}
	return b
}

// forKey is the key of an expectation that is no metric.
const forKey = "for"

func (l *loader) expect(n *node) (out []Expectation) {
	for _, item := range n.itemsOf() {
		e := Expectation{Pos: item.pos, For: map[string][]string{}}
		for _, f := range item.get(forKey).fieldsOf() {
			e.For[f.key] = scalars(f.value)
		}
		for _, f := range item.fieldsOf() {
			if f.key != forKey {
				e.Bounds = append(e.Bounds, l.bound(f))
			}
		}
		out = append(out, e)
	}
	return out
}

// scalars are the values of one scalar or a list of them, as they were written.
func scalars(n *node) (out []string) {
	if n.kind == scalar {
		return []string{n.raw}
	}
	for _, item := range n.itemsOf() {
		out = append(out, item.raw)
	}
	return out
}

func (l *loader) bound(f field) Bound {
	b := Bound{Metric: f.key, Pos: f.pos, Margin: f.value.get("margin").floatOr(4)}
	b.Warn = l.figure(f.value.get("warn"))
	b.Limit = l.figure(orNode(f.value.get("max"), f.value.get("min")))
	if b.Warn == nil && b.Limit == nil && f.value.kind == mapping {
		l.fail(f.pos, "write {max: 0.2}, {min: 97%} or {warn: 1e-5}", "%s has no bound", f.key)
	}
	return b
}

// figure reads a number, 97% or +10%.
func (l *loader) figure(n *node) *float64 {
	if n == nil || n.kind != scalar {
		return nil
	}
	text, percent := strings.CutSuffix(n.raw, "%")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil // the schema has said so
	}
	if percent {
		v /= 100
	}
	return &v
}
