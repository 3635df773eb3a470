package spec

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// decode fills the recipe from its tree. Values of the wrong type are left out here, as the schema has said so; what the schema cannot say is said here.
func (l *loader) decode(r *Recipe, root *node) {
	l.notYet(root)
	l.models(r, root.get("models"))
	l.quantizations(r, root.get("quantizations"))
	l.prompts(r, root.get("prompts"))
	l.convert(r, root)
	l.generate(r, root.get("generate"))
	l.corpora(r, root.get("corpora"))
	l.validate(r, root.get("validate"))
	l.benchmark(r, root.get("benchmark"))
	l.report(r, root.get("report"))
}

// notYet refuses sections that the format has and this version does not carry out.
func (l *loader) notYet(root *node) {
	for _, f := range root.fields {
		switch f.key {
		case "publish":
			l.fail(f.pos, "take the section out; keys that begin with x- are not read, so x-"+f.key+" keeps it for later", "%s is not supported in this version", f.key)
		}
	}
}

func (n *node) text() (string, bool) {
	if n == nil || n.kind != scalar {
		return "", false
	}
	s, ok := n.scalar.(string)
	return s, ok
}

func (n *node) textOr(def string) string {
	if s, ok := n.text(); ok {
		return s
	}
	return def
}

func (n *node) boolOr(def bool) bool {
	if n != nil {
		if b, ok := n.scalar.(bool); ok {
			return b
		}
	}
	return def
}

func (n *node) boolPtr() *bool {
	if n != nil {
		if b, ok := n.scalar.(bool); ok {
			return &b
		}
	}
	return nil
}

func (n *node) intPtr() *int {
	if n != nil {
		if v, ok := n.scalar.(int64); ok && int64(int(v)) == v {
			i := int(v)
			return &i
		}
	}
	return nil
}

func (n *node) floatOr(def float64) float64 {
	if n != nil {
		switch v := n.scalar.(type) {
		case float64:
			return v
		case int64:
			return float64(v)
		}
	}
	return def
}

// texts reads a text, or a list of them.
func (n *node) texts() []string {
	if n == nil {
		return nil
	}
	if s, ok := n.text(); ok {
		return []string{s}
	}
	var out []string
	for _, item := range n.items {
		if s, ok := item.text(); ok {
			out = append(out, s)
		}
	}
	return out
}

// fieldsOf visits the entries of a section.
func (n *node) fieldsOf() []field {
	if n == nil {
		return nil
	}
	return n.fields
}

// checkName refuses what cannot be a folder's name somewhere, and names that differ in case only.
func (l *loader) checkName(f field, section string, seen map[string]field) {
	lower := strings.ToLower(f.key)
	if other, ok := seen[lower]; ok {
		l.fail(f.pos, "some file systems do not tell upper from lower case", "%s %s and %s differ in case only", section, f.key, other.key)
	}
	seen[lower] = f
	stem, _, _ := strings.Cut(strings.ToUpper(f.key), ".")
	if reserved().MatchString(stem) || strings.HasSuffix(f.key, ".") {
		l.fail(f.pos, "choose another name", "%s cannot be the name of a folder on every system", f.key)
	}
}

var reserved = lazyregexp.New(`^(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])$`)

func (l *loader) models(r *Recipe, section *node) {
	seen := map[string]field{}
	for _, f := range section.fieldsOf() {
		l.checkName(f, "model", seen)
		m := Model{Name: f.key, Pos: f.pos}
		src := f.value
		if f.value.kind == mapping {
			src = f.value.get("source")
			m.TextOnly = f.value.get("text_only").boolOr(false)
			m.Revision = f.value.get("revision").textOr("")
			if m.TextOnly {
				l.fail(f.value.get("text_only").pos, "", "text_only is not supported in this version: models here have no towers")
			}
		}
		if text, ok := src.text(); ok {
			if name, revision, ok := strings.Cut(text, "@"); ok && strings.HasPrefix(text, "hf:") { // short for revision:
				if text = name; m.Revision != "" && m.Revision != revision || revision == "" {
					l.fail(src.pos, "write the revision once, as hf:org/name@main or as revision: \"main\"", "the source names revision %q, and the model %q", revision, m.Revision)
				}
				m.Revision = revision
			}
			m.Source = l.source(text, src)
		}
		if rev := f.value.get("revision"); rev != nil && m.Source.Kind != "hf" && m.Source.Kind != "" {
			l.fail(rev.pos, "a folder is known by its content", "revision goes with hf: sources only")
		}
		r.Models = append(r.Models, m)
	}
}

var hubName = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)

func (l *loader) source(text string, n *node) Source {
	kind, ref, _ := strings.Cut(text, ":")
	s := Source{Kind: kind, Ref: ref, Pos: n.pos}
	switch kind {
	case "path":
		s.Path = filepath.FromSlash(ref)
		if !filepath.IsAbs(s.Path) {
			s.Path = filepath.Join(l.dirs[n.pos.File], s.Path)
		}
	case "hf":
		if !hubName().MatchString(ref) {
			l.fail(n.pos, "write hf:org/name, as in the address of the model's page", "%q is not the name of a model on the Hub", ref)
		}
	case "gguf", "bin":
		l.fail(n.pos, "path: sources work: a Hugging Face folder with model.safetensors", "%s: sources are not supported in this version", kind)
	}
	return s
}

func (l *loader) convert(r *Recipe, root *node) {
	n := root.get("convert")
	c := Convert{DType: n.get("dtype").textOr("auto"), Rounding: n.get("rounding").textOr("mlx-cpu"), Runtime: n.get("runtime").textOr("builtin"),
		Repair: n.get("repair").boolOr(true), ShardSize: 5 << 30, Where: map[string]Pos{}}
	if n != nil {
		for _, f := range n.fields {
			c.Where[f.key] = f.value.pos
		}
	}
	if c.Rounding == "mlx-metal" || c.Rounding == "mlx-cuda" {
		l.fail(n.get("rounding").pos, "mlx-cpu gives the bytes of MLX's CPU backend on every machine", "rounding %s is not supported in this version", c.Rounding)
	}
	if text, ok := n.get("shard_size").text(); ok {
		size, err := parseSize(text)
		if err != nil || size < 1 {
			l.fail(n.get("shard_size").pos, "write a size with its unit: 5GiB, 500MB", "shard_size %q is not a size", text)
		}
		c.ShardSize = size
	}
	c.Matrix = l.matrix(r, n.get("matrix"))
	r.Convert = c
}

// maxCells of a matrix; more is a mistake, and nobody waits for it.
const maxCells = 10_000

func (l *loader) matrix(r *Recipe, n *node) Matrix {
	var models, quantizations []string
	for _, m := range r.Models {
		models = append(models, m.Name)
	}
	for _, q := range r.Quantizations {
		quantizations = append(quantizations, q.Name)
	}
	m := Matrix{Models: models, Quantizations: quantizations}
	if n == nil {
		return m
	}
	m.Pos = n.pos
	axis := func(key string, all []string) []string {
		if n.get(key) == nil {
			return all
		}
		return l.among(n.get(key), key, all, true)
	}
	m.Models, m.Quantizations = axis("model", models), axis("quantization", quantizations)
	if d := n.get("dtype"); d != nil {
		m.DTypes = l.among(d, "dtype", []string{"auto", "float16", "bfloat16", "float32"}, true)
	}
	if cells := m.Cells(); cells > maxCells {
		l.fail(n.pos, "split the recipe, or name the models and quantizations that are needed", "the matrix has %d cells; %d are allowed", cells, maxCells)
		return Matrix{}
	}
	for _, item := range n.get("exclude").itemsOf() {
		m.Exclude = append(m.Exclude, Filter{Pos: item.pos, Models: l.among(item.get("model"), "model", m.Models, false),
			Quantizations: l.among(item.get("quantization"), "quantization", m.Quantizations, false), DTypes: l.among(item.get("dtype"), "dtype", m.DTypes, false)})
	}
	for _, item := range n.get("include").itemsOf() {
		m.Include = append(m.Include, l.row(item, models, quantizations))
	}
	return m
}

func (n *node) itemsOf() []*node {
	if n == nil {
		return nil
	}
	return n.items
}

// among reads names and checks that each is known and there once.
func (l *loader) among(n *node, what string, known []string, once bool) (out []string) {
	if n == nil {
		return nil
	}
	items := n.items
	if n.kind == scalar {
		items = []*node{n}
	}
	for _, item := range items {
		name, ok := item.text()
		if !ok {
			continue
		}
		if indexOf(known, name) < 0 {
			l.fail(item.pos, orElse(didYouMean(name, known), knownHint(what, known)), "there is no %s %s here", what, name)
			continue
		}
		if once && indexOf(out, name) >= 0 {
			l.fail(item.pos, "", "%s %s is there twice", what, name)
			continue
		}
		out = append(out, name)
	}
	return out
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func knownHint(what string, known []string) string {
	if len(known) == 0 {
		return "the recipe has none"
	}
	if len(known) > 12 {
		known = append(append([]string{}, known[:12]...), "...")
	}
	return "there is " + strings.Join(known, ", ")
}

func (l *loader) row(n *node, models, quantizations []string) Row {
	row := Row{Pos: n.pos, Model: n.get("model").textOr(""), Quantization: n.get("quantization").textOr(""), DType: n.get("dtype").textOr(""), Name: n.get("name").textOr("")}
	if m := n.get("model"); m != nil {
		l.among(m, "model", models, false)
	}
	if q := n.get("quantization"); q != nil {
		l.among(q, "quantization", quantizations, false)
	}
	return row
}

func parseSize(text string) (int64, error) {
	units := map[string]int64{"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	i := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i <= 0 || units[text[i:]] == 0 {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	var v float64
	if _, err := fmt.Sscanf(text[:i], "%g", &v); err != nil || v*float64(units[text[i:]]) > 1e18 {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return int64(v * float64(units[text[i:]])), nil
}

func (l *loader) generate(r *Recipe, section *node) {
	for _, f := range section.fieldsOf() {
		n := f.value
		g := Generate{Name: f.key, Pos: f.pos, Targets: n.get("targets").texts(), Runtime: n.get("runtime").textOr("auto"), MaxTokens: 128,
			Temperature: n.get("temperature").floatOr(0), TopP: n.get("top_p").floatOr(1), MinP: n.get("min_p").floatOr(0), Where: map[string]Pos{}}
		for _, sub := range n.fields {
			g.Where[sub.key] = sub.value.pos
		}
		if v := n.get("max_tokens").intPtr(); v != nil {
			g.MaxTokens = *v
		}
		if v := n.get("seed").intPtr(); v != nil && *v >= 0 {
			g.Seed = uint64(*v)
		}
		g.Prompts = l.promptsOf(r, n.get("prompts"))
		r.Generate = append(r.Generate, g)
	}
}

// promptsOf finds a prompt set by name, or reads prompts in place.
func (l *loader) promptsOf(r *Recipe, n *node) PromptSet {
	name, ok := n.text()
	if !ok {
		return l.promptSet("", n)
	}
	var known []string
	for _, p := range r.Prompts {
		if p.Name == name {
			return p
		}
		known = append(known, p.Name)
	}
	l.fail(n.pos, orElse(didYouMean(name, known), "to write a prompt in place, make it a list: [\""+name+"\"]"), "there is no prompt set %s", name)
	return PromptSet{}
}
