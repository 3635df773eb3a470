package spec

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// node is a piece of a recipe, made of YAML by our own reading: duplicate keys, aliases, numbers and tags are judged here, because decoding into Go values would hide some mistakes and take
// quadratic time over others.
type node struct {
	pos    Pos
	kind   kind
	fields []field // of a mapping
	items  []*node // of a list
	scalar any     // nil, bool, int64, float64 or string
	raw    string  // a scalar as it was written
	quoted bool
	bad    bool // something was said of it already
}

type kind int

const (
	scalar kind = iota
	mapping
	list
)

type field struct {
	key   string
	pos   Pos
	value *node
}

// get finds a key's value, nil when there is none. On nil and on other kinds it finds nothing.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, f := range n.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

// set puts a field in or replaces its value.
func (n *node) set(f field) {
	for i := range n.fields {
		if n.fields[i].key == f.key {
			n.fields[i] = f
			return
		}
	}
	n.fields = append(n.fields, f)
}

// Limits of a recipe.
const (
	maxBytes   = 1 << 20
	maxDepth   = 100
	maxEntries = 10_000  // of one mapping
	maxNodes   = 500_000 // aliases expanded
)

// reader turns yaml nodes into nodes.
type treeReader struct {
	file  string
	diags *Diags
	nodes int
	open  map[*yaml.Node]bool // aliases being expanded
}

func (r *treeReader) at(y *yaml.Node) Pos { return Pos{r.file, y.Line, y.Column} }

func (r *treeReader) fail(y *yaml.Node, hint, format string, args ...any) *node {
	d := Diag{Pos: r.at(y), Msg: fmt.Sprintf(format, args...)}
	if hint != "" {
		d.Hints = []string{hint}
	}
	*r.diags = append(*r.diags, d)
	return &node{pos: r.at(y), bad: true}
}

func (r *treeReader) read(y *yaml.Node, depth int) *node {
	if r.nodes++; r.nodes > maxNodes {
		if r.nodes == maxNodes+1 {
			r.fail(y, "aliases (*name) repeat what they stand for; write less of them", "the recipe has more than %d values", maxNodes)
		}
		return &node{pos: r.at(y), bad: true}
	}
	if depth > maxDepth {
		return r.fail(y, "", "the recipe is nested more than %d levels deep", maxDepth)
	}
	switch y.Kind {
	case yaml.AliasNode:
		return r.alias(y, depth)
	case yaml.MappingNode:
		return r.mapping(y, depth)
	case yaml.SequenceNode:
		n := &node{pos: r.at(y), kind: list}
		for _, item := range y.Content {
			n.items = append(n.items, r.read(item, depth+1))
		}
		return n
	}
	return r.scalar(y)
}

func (r *treeReader) alias(y *yaml.Node, depth int) *node {
	if r.open[y.Alias] {
		return r.fail(y, "", "alias *%s contains itself", y.Value)
	}
	r.open[y.Alias] = true
	defer delete(r.open, y.Alias)
	return r.read(y.Alias, depth+1)
}

func (r *treeReader) mapping(y *yaml.Node, depth int) *node {
	n := &node{pos: r.at(y), kind: mapping}
	if len(y.Content)/2 > maxEntries {
		return r.fail(y, "", "a mapping has %d entries; %d are allowed", len(y.Content)/2, maxEntries)
	}
	index := map[string]int{}
	var merged []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.ShortTag() == "!!merge" {
			merged = append(merged, r.merge(v, depth)...)
			continue
		}
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			r.fail(k, "put it in quotes if it is meant as a name", "a key must be text")
			continue
		}
		if first, twice := index[k.Value]; twice {
			r.fail(k, "", "key %s is there twice, first at line %d", k.Value, n.fields[first].pos.Line)
			continue
		}
		index[k.Value] = len(n.fields)
		n.fields = append(n.fields, field{k.Value, r.at(k), r.read(v, depth+1)})
	}
	for _, m := range merged { // `<<`: what is written out wins
		for _, f := range m.fields {
			if n.get(f.key) == nil {
				n.fields = append(n.fields, f)
			}
		}
	}
	return n
}

func (r *treeReader) merge(v *yaml.Node, depth int) []*node {
	n := r.read(v, depth+1)
	if n.kind == list {
		return n.items
	}
	if n.kind != mapping {
		r.fail(v, "", "<< takes a mapping, or a list of mappings")
	}
	return []*node{n}
}

var (
	decimal   = lazyregexp.New(`^[-+]?(0|[1-9][0-9]*)$`)
	plainFrac = lazyregexp.New(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?$`)
)

func (r *treeReader) scalar(y *yaml.Node) *node {
	n := &node{pos: r.at(y), raw: y.Value, quoted: y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0}
	switch tag := y.ShortTag(); {
	case y.Style&yaml.TaggedStyle != 0:
		return r.fail(y, "leave the tag out", "tags such as %s are not used in recipes", y.Tag)
	case n.quoted || tag == "!!str" || tag == "!!timestamp":
		n.scalar = y.Value
	case tag == "!!null":
	case tag == "!!bool":
		n.scalar = strings.EqualFold(y.Value, "true")
	case tag == "!!int":
		v, err := strconv.ParseInt(y.Value, 10, 64)
		if !decimal().MatchString(y.Value) {
			return r.fail(y, `quote it if it is text, such as a revision: "`+y.Value+`"; write numbers in plain decimal`, "%s is not a plain number: YAML reads it in another base", y.Value)
		}
		if err != nil {
			return r.fail(y, "quote it if it is text", "%s is too large a number", y.Value)
		}
		n.scalar = v
	case tag == "!!float":
		v, err := strconv.ParseFloat(y.Value, 64)
		if !plainFrac().MatchString(y.Value) || err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return r.fail(y, `quote it if it is text: "`+y.Value+`"`, "%s is not a number that can be used", y.Value)
		}
		n.scalar = v
	default:
		return r.fail(y, "", "a value of the kind %s is not used in recipes", tag)
	}
	return n
}

// flow writes a node on one line, as a person would in a recipe.
func (n *node) flow() string {
	switch n.kind {
	case mapping:
		var parts []string
		for _, f := range n.fields {
			parts = append(parts, f.key+": "+f.value.flow())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case list:
		var parts []string
		for _, item := range n.items {
			parts = append(parts, item.flow())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return n.raw
}
