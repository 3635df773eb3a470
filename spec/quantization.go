package spec

import (
	"fmt"
	"regexp"
	"strings"
)

// quantizations reads the schemes: extends first, then what they come to.
func (l *loader) quantizations(r *Recipe, section *node) {
	seen := map[string]field{}
	for _, f := range section.fieldsOf() {
		l.checkName(f, "quantization", seen)
	}
	x := extender{loader: l, section: section, done: map[string]*node{}, circular: map[string]bool{}}
	for _, f := range section.fieldsOf() {
		merged := x.resolve(f, nil)
		if merged == nil {
			continue
		}
		r.Quantizations = append(r.Quantizations, l.quantization(f, merged))
	}
}

// extender merges parents into children. Scalars and lists of a child replace its parents', maps merge; only overrides add up, the child's first, so that they can win.
type extender struct {
	loader   *loader
	section  *node
	done     map[string]*node
	circular map[string]bool // told about
}

func (x *extender) resolve(f field, path []string) *node {
	if n, ok := x.done[f.key]; ok {
		return n
	}
	if x.circular[f.key] {
		return nil
	}
	if at := indexOf(path, f.key); at >= 0 {
		for _, name := range path[at:] {
			x.circular[name] = true
		}
		x.loader.fail(f.value.get("extends").pos, "", "extends goes in a circle: %s", strings.Join(append(path[at:], f.key), " -> "))
		return nil
	}
	if f.value.kind != mapping {
		return nil
	}
	path = append(path, f.key)
	out := &node{pos: f.value.pos, kind: mapping, fields: append([]field{}, f.value.fields...)}
	tagRules(out, f.key)
	parents := f.value.get("extends")
	for _, parent := range x.parents(parents) {
		p := x.resolve(parent, path)
		if p == nil {
			return nil
		}
		inherit(out, p)
	}
	x.done[f.key] = out
	return out
}

// parents finds the schemes that are named.
func (x *extender) parents(n *node) (out []field) {
	var known []string
	for _, f := range x.section.fields {
		known = append(known, f.key)
	}
	for _, name := range x.loader.among(n, "quantization", known, true) {
		for _, f := range x.section.fields {
			if f.key == name {
				out = append(out, f)
			}
		}
	}
	return out
}

func inherit(child, parent *node) {
	for _, f := range parent.fields {
		have := child.get(f.key)
		switch {
		case f.key == "extends":
		case have == nil:
			child.fields = append(child.fields, f)
		case f.key == "overrides" && have.kind == list && f.value.kind == list:
			child.set(field{f.key, f.pos, &node{pos: have.pos, kind: list, items: append(append([]*node{}, have.items...), f.value.items...)}})
		}
	}
}

// tagRules notes in which scheme a rule was written, for explain: in its raw text, which a mapping does not use.
func tagRules(n *node, scheme string) {
	for _, item := range n.get("overrides").itemsOf() {
		item.raw = scheme
	}
}

func (l *loader) quantization(f field, n *node) Quantization {
	q := Quantization{Name: f.key, Pos: f.pos, Quantize: n.get("quantize").boolOr(true), Dequantize: n.get("dequantize").boolOr(false), Preset: n.get("preset").textOr(""),
		Mode: n.get("mode").textOr("affine"), Bits: n.get("bits").intPtr(), GroupSize: n.get("group_size").intPtr(), Where: map[string]Pos{}}
	for _, sub := range n.fields {
		q.Where[sub.key] = sub.value.pos
	}
	if q.Dequantize {
		q.Quantize = false
	}
	for _, item := range n.get("overrides").itemsOf() {
		q.Overrides = append(q.Overrides, l.override(item, q.Mode))
	}
	l.checkQuantization(q, n)
	return q
}

// checkQuantization says what keys of a scheme contradict one another.
func (l *loader) checkQuantization(q Quantization, n *node) {
	if m := n.get("method").textOr("rtn"); m != "rtn" {
		l.fail(n.get("method").pos, "rtn rounds each weight to the nearest", "method %s is not supported in this version", m)
	}
	if bpw := n.get("target_bpw"); bpw != nil {
		l.fail(bpw.pos, "choose bits, a preset or overrides", "target_bpw is not supported in this version")
	}
	without := func(flag string) {
		for _, key := range []string{"quantize", "preset", "mode", "bits", "group_size", "overrides"} {
			if v := n.get(key); v != nil && key != flag && (flag == "dequantize" || key != "overrides" && key != "mode") {
				l.fail(v.pos, "", "%s does not go with %s", key, strings.TrimSpace(flag+": "+n.get(flag).raw))
			}
		}
	}
	switch {
	case q.Dequantize:
		without("dequantize")
	case !q.Quantize:
		without("quantize")
	}
	if q.Preset != "" && q.Mode != "affine" {
		l.fail(n.get("preset").pos, "presets mix affine widths", "preset %s does not go with mode %s", q.Preset, q.Mode)
	}
	if q.Quantize {
		l.checkWidths(q.Mode, n)
	}
}

// checkWidths says which bits and group sizes a mode has.
func (l *loader) checkWidths(mode string, n *node) {
	for _, m := range modes {
		if m.Name != mode {
			continue
		}
		check := func(key string, allowed []int) {
			if v := n.get(key).intPtr(); v != nil && !hasInt(allowed, *v) {
				l.fail(n.get(key).pos, "", "%s must be %s in mode %s, not %d", key, oneOf(allowed), mode, *v)
			}
		}
		check("bits", m.Bits)
		check("group_size", m.GroupSizes)
	}
}

func hasInt(list []int, n int) bool {
	for _, e := range list {
		if e == n {
			return true
		}
	}
	return false
}

func oneOf(list []int) string {
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
	if len(list) > 1 {
		return "one of " + text
	}
	return text
}

func (l *loader) override(n *node, mode string) Rule {
	r := Rule{Pos: n.pos, Text: n.flow(), In: n.raw, Match: n.get("match").texts(), Quantize: n.get("quantize").boolPtr(), Mode: n.get("mode").textOr(""),
		Bits: n.get("bits").intPtr(), GroupSize: n.get("group_size").intPtr(), Optional: n.get("optional").boolOr(false)}
	if r.Mode != "" {
		mode = r.Mode
	}
	l.checkWidths(mode, n)
	if r.Quantize == nil && r.Mode == "" && r.Bits == nil && r.GroupSize == nil {
		l.fail(n.pos, "give it bits, mode or group_size, or quantize: false", "this rule changes nothing")
	}
	if r.Quantize != nil && !*r.Quantize && (r.Bits != nil || r.GroupSize != nil || r.Mode != "") {
		l.fail(n.pos, "take one of them out", "bits, mode and group_size do not go with quantize: false")
	}
	if len(r.Match) == 0 && n.get("layers") == nil && n.kind == mapping {
		l.fail(n.pos, "say which modules it is about: match: v_proj, or layers: 0..1", "this rule has neither match nor layers")
	}
	for _, m := range r.Match {
		if expr, ok := strings.CutPrefix(m, "re:"); ok {
			if _, err := regexp.Compile(expr); err != nil {
				l.fail(n.get("match").pos, "regular expressions are Go's (RE2): no look-ahead, no back-references", "%s is not a regular expression: %v", m, err)
			}
		}
	}
	r.Layers = l.layers(n.get("layers"))
	return r
}

func (l *loader) layers(n *node) (out []LayerRange) {
	if n == nil {
		return nil
	}
	items := n.items
	if n.kind == scalar {
		items = []*node{n}
	}
	for _, item := range items {
		r, err := ParseLayers(item.raw)
		if err != nil {
			l.fail(item.pos, "", "%v", err)
			continue
		}
		out = append(out, r)
	}
	return out
}
