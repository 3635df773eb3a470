package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/mlxbuild/mlxbuild/schemas"
)

// schema is a part of the recipe's JSON Schema: the keywords of draft 2020-12 that it uses, and no others. It is checked here because the libraries that know all keywords compile every draft of the standard when a
// program starts, which took half of the time of a build with nothing to do (4.6 ms of 9.4); tests hold this one against such a library.
type schema struct {
	Draft       string            `json:"$schema"`
	ID          string            `json:"$id"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Default     json.RawMessage   `json:"default"`
	Examples    []json.RawMessage `json:"examples"`

	Defs map[string]*schema `json:"$defs"`
	Ref  string             `json:"$ref"`

	Types types `json:"type"`
	Const any   `json:"const"`
	Enum  []any `json:"enum"`

	Properties           map[string]*schema `json:"properties"`
	PatternProperties    map[string]*schema `json:"patternProperties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	PropertyNames        *schema            `json:"propertyNames"`
	Required             []string           `json:"required"`
	MinProperties        int                `json:"minProperties"`

	Items    *schema `json:"items"`
	MinItems int     `json:"minItems"`

	Pattern   *pattern `json:"pattern"`
	MaxLength *int     `json:"maxLength"`

	Minimum          *float64 `json:"minimum"`
	ExclusiveMinimum *float64 `json:"exclusiveMinimum"`
	Maximum          *float64 `json:"maximum"`

	If   *schema `json:"if"`
	Then *schema `json:"then"`
	Else *schema `json:"else"`

	never bool // `false` in the place of a schema
	ref   *schema
	keys  map[*regexp.Regexp]*schema // PatternProperties
}

// UnmarshalJSON reads a schema, or true or false. A keyword that is not in the list above is an error: it would not be checked.
func (s *schema) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] != '{' {
		var anything bool
		err := json.Unmarshal(data, &anything)
		*s = schema{never: !anything}
		return err
	}
	type plain schema
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(s))
}

// types are what a value may be: one name or several.
type types []string

func (t *types) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(t))
	}
	*t = make(types, 1)
	return json.Unmarshal(data, &(*t)[0])
}

type pattern struct{ *regexp.Regexp }

func (p *pattern) UnmarshalText(text []byte) (err error) {
	p.Regexp, err = regexp.Compile(string(text))
	return err
}

// recipeSchema reads the embedded schema at first use.
var recipeSchema = sync.OnceValue(func() *schema {
	top := &schema{}
	if err := json.Unmarshal(schemas.Recipe(), top); err != nil {
		panic(fmt.Sprintf("BUG: the embedded schema: %v", err))
	}
	top.resolve(top)
	return top
})

// resolve finds what each $ref stands for, and compiles the patterns of keys.
func (s *schema) resolve(top *schema) {
	if s == nil {
		return
	}
	if s.Ref != "" {
		if s.ref = top.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]; s.ref == nil {
			panic("BUG: the embedded schema has no " + s.Ref)
		}
	}
	s.keys = map[*regexp.Regexp]*schema{}
	for text, sub := range s.PatternProperties {
		s.keys[regexp.MustCompile(text)] = sub
	}
	for _, group := range []map[string]*schema{s.Defs, s.Properties, s.PatternProperties} {
		for _, sub := range group {
			sub.resolve(top)
		}
	}
	for _, sub := range []*schema{s.AdditionalProperties, s.PropertyNames, s.Items, s.If, s.Then, s.Else} {
		sub.resolve(top)
	}
}

// violation is one keyword that a value, or the name of a field, does not keep to.
type violation struct {
	schema  *schema
	keyword string
	at      *node
	name    *field // set when it is about the field's name
	where   string // as people write it: quantizations.q4.overrides[0].bits
	depth   int    // of at below the recipe
	message string
}

// checker collects violations.
type checker struct{ found []violation }

// place is where in the recipe the checker is.
type place struct {
	where string
	depth int
}

func (p place) key(name string) place {
	if p.where != "" {
		name = p.where + "." + name
	}
	return place{name, p.depth + 1}
}

func (p place) item(i int) place { return place{p.where + "[" + strconv.Itoa(i) + "]", p.depth + 1} }

// check holds a value against a schema.
func (c *checker) check(s *schema, n *node, p place) {
	fail := func(keyword, format string, args ...any) {
		c.found = append(c.found, violation{schema: s, keyword: keyword, at: n, where: p.where, depth: p.depth, message: fmt.Sprintf(format, args...)})
	}
	if s.never {
		fail("", "not allowed")
		return
	}
	if len(s.Types) > 0 && !s.Types.have(n) {
		fail("type", "")
		return
	}
	if s.Const != nil && !equal(n, s.Const) {
		fail("const", "")
	}
	if len(s.Enum) > 0 && !s.lists(n) {
		fail("enum", "")
	}
	switch v := n.scalar.(type) {
	case string:
		if s.MaxLength != nil && utf8.RuneCountInString(v) > *s.MaxLength {
			fail("maxLength", "length must be <= %d, but got %d", *s.MaxLength, utf8.RuneCountInString(v))
		}
		if s.Pattern != nil && !s.Pattern.MatchString(v) {
			fail("pattern", "")
		}
	case int64:
		s.bounds(float64(v), v, fail)
	case float64:
		s.bounds(v, v, fail)
	}
	switch n.kind {
	case mapping:
		c.fields(s, n, p, fail)
	case list:
		if len(n.items) < s.MinItems {
			fail("minItems", "")
		}
		for i, item := range n.items {
			if s.Items != nil {
				c.check(s.Items, item, p.item(i))
			}
		}
	}
	if s.ref != nil {
		c.check(s.ref, n, p)
	}
	if s.If != nil {
		branch := s.Then
		if !keeps(s.If, n) {
			branch = s.Else
		}
		if branch != nil {
			c.check(branch, n, p)
		}
	}
}

// keeps reports whether a value keeps to a schema.
func keeps(s *schema, n *node) bool {
	var c checker
	c.check(s, n, place{})
	return len(c.found) == 0
}

func (c *checker) fields(s *schema, n *node, p place, fail func(keyword, format string, args ...any)) {
	if len(n.fields) < s.MinProperties {
		fail("minProperties", "")
	}
	if len(missing(n, s)) > 0 {
		fail("required", "")
	}
	unknown := false
	for i := range n.fields {
		f := &n.fields[i]
		c.name(s.PropertyNames, f, p)
		known := false
		if sub := s.Properties[f.key]; sub != nil {
			known = true
			c.check(sub, f.value, p.key(f.key))
		}
		for re, sub := range s.keys {
			if re.MatchString(f.key) {
				known = true
				c.check(sub, f.value, p.key(f.key))
			}
		}
		switch other := s.AdditionalProperties; {
		case known || other == nil:
		case other.never:
			unknown = true
		default:
			c.check(other, f.value, p.key(f.key))
		}
	}
	if unknown {
		fail("additionalProperties", "")
	}
}

// name holds a field's name against a schema.
func (c *checker) name(s *schema, f *field, p place) {
	if s == nil {
		return
	}
	var names checker
	names.check(s, &node{pos: f.pos, scalar: f.key, raw: f.key}, p.key(f.key))
	for _, v := range names.found {
		v.name, v.at = f, f.value
		c.found = append(c.found, v)
	}
}

func (s *schema) bounds(v float64, shown any, fail func(keyword, format string, args ...any)) {
	if s.Minimum != nil && v < *s.Minimum {
		fail("minimum", "must be >= %v but found %v", *s.Minimum, shown)
	}
	if s.ExclusiveMinimum != nil && v <= *s.ExclusiveMinimum {
		fail("exclusiveMinimum", "must be > %v but found %v", *s.ExclusiveMinimum, shown)
	}
	if s.Maximum != nil && v > *s.Maximum {
		fail("maximum", "must be <= %v but found %v", *s.Maximum, shown)
	}
}

// have reports whether a value is of one of the types. A number without a fraction is an integer, however it is written.
func (t types) have(n *node) bool {
	switch v := n.scalar.(type) {
	case nil:
		return t.has(map[kind]string{scalar: "null", mapping: "object", list: "array"}[n.kind])
	case bool:
		return t.has("boolean")
	case string:
		return t.has("string")
	case float64:
		return t.has("number") || t.has("integer") && v == math.Trunc(v)
	}
	return t.has("number") || t.has("integer")
}

func (t types) has(name string) bool { return indexOf(t, name) >= 0 }

func (s *schema) lists(n *node) bool {
	for _, v := range s.Enum {
		if equal(n, v) {
			return true
		}
	}
	return false
}

// equal compares a value with one of the schema's scalars.
func equal(n *node, v any) bool {
	if i, ok := n.scalar.(int64); ok {
		return v == float64(i)
	}
	return n.kind == scalar && n.scalar == v
}
