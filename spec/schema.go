package spec

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/mlxbuild/mlxbuild/schemas"
)

const schemaURL = "https://mlxbuild.dev/schemas/recipe.v1.json"

// recipeSchema compiles the embedded schema at first use. Nothing is ever loaded from elsewhere.
var recipeSchema = sync.OnceValue(func() *jsonschema.Schema {
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft2020
	c.LoadURL = refuseURL
	if err := c.AddResource(schemaURL, strings.NewReader(string(schemas.Recipe()))); err != nil {
		panic(fmt.Sprintf("BUG: the embedded schema: %v", err))
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		panic(fmt.Sprintf("BUG: the embedded schema: %v", err))
	}
	return s
})

// checkSchema validates the tree and says what is wrong in our words, at the places where it is wrong.
func (l *loader) checkSchema(root *node) {
	schema := recipeSchema()
	var found *jsonschema.ValidationError
	if err := schema.Validate(root.plain()); err == nil || !errors.As(err, &found) {
		if err != nil {
			l.fail(root.pos, "", "%v", err)
		}
		return
	}
	unknown := map[*node]bool{}
	for _, leaf := range leaves(found) {
		l.sentence(schema, root, leaf, unknown)
	}
}

func leaves(e *jsonschema.ValidationError) (out []*jsonschema.ValidationError) {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	for _, c := range e.Causes {
		out = append(out, leaves(c)...)
	}
	return out
}

// sentence turns one error of the library into a problem.
func (l *loader) sentence(top *jsonschema.Schema, root *node, e *jsonschema.ValidationError, unknown map[*node]bool) {
	path := pointer(e.InstanceLocation)
	at, where := find(root, path)
	if at == nil {
		at = root
	}
	if at.bad {
		return
	}
	keyword := last(e.KeywordLocation)
	if strings.Contains(e.KeywordLocation, "/propertyNames/") {
		l.badName(root, path)
		return
	}
	schema := schemaAt(top, e.AbsoluteKeywordLocation)
	name := where
	if name == "" {
		name = "the recipe"
	}
	switch keyword {
	case "additionalProperties", "unevaluatedProperties":
		if !unknown[at] {
			unknown[at] = true
			l.unknownKeys(at, name, schema)
		}
	case "required":
		for _, key := range missing(at, schema) {
			l.fail(at.pos, requiredHint[key], "%s needs %s", name, key)
		}
	case "type":
		l.fail(at.pos, orElse(formHint(where), typeHint(at, schema)), "%s must be %s", name, typeWords(schema))
	case "enum", "const":
		l.enum(at, name, schema)
	case "pattern":
		l.fail(at.pos, patternHint(where, path), "%s: %q is not of the form that is expected", name, at.raw)
	case "minItems", "minProperties":
		l.fail(at.pos, "", "%s must not be empty", name)
	case "minimum", "maximum", "exclusiveMinimum", "maxLength":
		l.fail(at.pos, "", "%s: %s", name, e.Message)
	default:
		l.fail(at.pos, "", "%s: %s", name, e.Message)
	}
}

// badName says that the last part of a path cannot be a name.
func (l *loader) badName(root *node, path []string) {
	parent, _ := find(root, path[:len(path)-1])
	for _, f := range parent.fieldsOf() {
		if f.key == path[len(path)-1] {
			l.fail(f.pos, "names have at most 100 letters, digits, . _ + and -, and begin with a letter or digit", "%q cannot be a name", f.key)
		}
	}
}

var requiredHint = map[string]string{
	"version": "write version: 1 at the top",
	"source":  `say where the model is: source: "path:models/NAME"`,
	"targets": `say which targets: targets: ["*/q4"]`,
	"prompts": "name a prompt set, or write prompts in place",
}

// unknownKeys names every key that the schema does not know, each at its place.
func (l *loader) unknownKeys(n *node, name string, schema *jsonschema.Schema) {
	if schema == nil {
		return
	}
	var known []string
	for k := range schema.Properties {
		known = append(known, k)
	}
	sort.Strings(known)
	for _, f := range n.fields {
		if schema.Properties[f.key] != nil || matchesPattern(schema, f.key) {
			continue
		}
		hint := didYouMean(f.key, known)
		switch {
		case f.key == "max" && schema.Properties["min"] != nil:
			hint = "more of it is better, so it has a lower bound: write min"
		case f.key == "min" && schema.Properties["max"] != nil:
			hint = "less of it is better, so it has an upper bound: write max"
		case hint == "":
			hint = "known are " + strings.Join(known, ", ")
		}
		in := ""
		if name != "the recipe" {
			in = " in " + name
		}
		l.fail(f.pos, hint, "unknown key %s%s", f.key, in)
	}
}

func matchesPattern(s *jsonschema.Schema, key string) bool {
	for re := range s.PatternProperties {
		if re.MatchString(key) {
			return true
		}
	}
	return false
}

func missing(n *node, schema *jsonschema.Schema) (out []string) {
	if schema == nil {
		return nil
	}
	for _, key := range schema.Required {
		if n.get(key) == nil {
			out = append(out, key)
		}
	}
	return out
}

func (l *loader) enum(at *node, name string, schema *jsonschema.Schema) {
	var words []string
	if schema != nil {
		for _, v := range append(schema.Constant, schema.Enum...) {
			words = append(words, fmt.Sprint(v))
		}
	}
	if len(words) == 1 {
		hint := ""
		if name == "version" {
			hint = "a recipe of a later version needs a newer mlxbuild"
		}
		l.fail(at.pos, hint, "%s must be %s, not %s", name, words[0], at.flow())
		return
	}
	l.fail(at.pos, didYouMean(at.raw, words), "%s must be one of %s, not %s", name, strings.Join(words, ", "), at.flow())
}

// typeHint knows the usual mistake: a revision without quotes that YAML reads as a number.
func typeHint(n *node, schema *jsonschema.Schema) string {
	wantsText := schema != nil && isOneOf(schema.Types, "string")
	if n.kind == scalar && wantsText && n.raw != "" {
		return "put it in quotes: \"" + n.raw + "\""
	}
	wantsNumber := schema != nil && (isOneOf(schema.Types, "integer") || isOneOf(schema.Types, "number"))
	if _, isText := n.scalar.(string); isText && wantsNumber && n.quoted {
		return "leave the quotes out"
	}
	return ""
}

func isOneOf(list []string, s string) bool { return indexOf(list, s) >= 0 }

func typeWords(schema *jsonschema.Schema) string {
	if schema == nil {
		return "something else"
	}
	words := map[string]string{"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "array": "a list", "object": "a mapping", "null": "null"}
	var out []string
	for _, t := range schema.Types {
		out = append(out, words[t])
	}
	if len(out) == 2 {
		return out[0] + " or " + out[1]
	}
	return strings.Join(out, ", ")
}

func patternHint(where string, path []string) string {
	switch {
	case strings.HasSuffix(where, ".source") || len(path) == 2 && path[0] == "models":
		return "write path:FOLDER (relative to the recipe), or hf:org/name"
	case strings.Contains(where, "layers"):
		return "write 3, 0..1, -2.. (the last two) or 4..-3/3 (every third)"
	case strings.HasSuffix(where, "shard_size"):
		return "write a size with its unit: 5GiB, 500MB"
	}
	return formHint(where)
}

// formHint says how a value of a benchmark is written.
func formHint(where string) string {
	switch {
	case !strings.HasPrefix(where, "benchmark."):
	case strings.Contains(where, "shape"):
		return "write 512+128: tokens of the prompt + tokens that are generated"
	case strings.Contains(where, "runtime"):
		return "write auto, builtin, mlx, torch or command:NAME"
	case strings.Contains(where, "against"):
		return "write git:main, or accepted"
	case strings.HasSuffix(where, "timeout") || strings.HasSuffix(where, "cooldown.min"):
		return "write 5s, 2m or 1h30m"
	case strings.Contains(where, "_by.") || strings.Contains(where, "until"):
		return "write a share: 3%"
	}
	return ""
}

// pointer splits a JSON pointer as the library writes it: percent-encoded, then ~1 and ~0.
func pointer(s string) []string {
	if s == "" || s == "/" {
		return nil
	}
	parts := strings.Split(strings.TrimPrefix(s, "/"), "/")
	for i, p := range parts {
		if u, err := url.PathUnescape(p); err == nil {
			p = u
		}
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts
}

// find walks to a node; where is its path as people write it: quantizations.q4.overrides[0].bits.
func find(n *node, path []string) (at *node, where string) {
	for _, p := range path {
		if n == nil {
			return nil, where
		}
		if n.kind == list {
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(n.items) {
				return nil, where
			}
			n, where = n.items[i], where+"["+p+"]"
			continue
		}
		n = n.get(p)
		if where != "" {
			where += "."
		}
		where += p
	}
	return n, where
}

func last(location string) string {
	return location[strings.LastIndexByte(location, '/')+1:]
}

// schemaAt finds the schema that a keyword stands in, by its place in the document.
func schemaAt(top *jsonschema.Schema, location string) *jsonschema.Schema {
	_, fragment, _ := strings.Cut(location, "#")
	s := top
	parts := pointer(fragment)
	if len(parts) == 0 {
		return s
	}
	return schemasByLocation()[strings.Join(parts[:len(parts)-1], "/")]
}

// schemasByLocation indexes every part of the schema by where it stands.
var schemasByLocation = sync.OnceValue(func() map[string]*jsonschema.Schema {
	index := map[string]*jsonschema.Schema{}
	var walk func(s *jsonschema.Schema)
	walk = func(s *jsonschema.Schema) {
		if s == nil {
			return
		}
		_, fragment, _ := strings.Cut(s.Location, "#")
		key := strings.Join(pointer(fragment), "/")
		if index[key] != nil {
			return
		}
		index[key] = s
		for _, sub := range s.Properties {
			walk(sub)
		}
		for _, sub := range s.PatternProperties {
			walk(sub)
		}
		for _, sub := range []*jsonschema.Schema{s.Ref, s.If, s.Then, s.Else, s.PropertyNames, s.Items2020} {
			walk(sub)
		}
		if sub, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			walk(sub)
		}
		if sub, ok := s.Items.(*jsonschema.Schema); ok {
			walk(sub)
		}
	}
	walk(recipeSchema())
	return index
})

func refuseURL(string) (io.ReadCloser, error) {
	return nil, errors.New("nothing is loaded from elsewhere")
}
