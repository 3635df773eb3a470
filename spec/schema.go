package spec

import (
	"fmt"
	"sort"
	"strings"
)

// checkSchema validates the tree and says what is wrong in our words, at the places where it is wrong.
func (l *loader) checkSchema(root *node) {
	var c checker
	c.check(recipeSchema(), root, place{})
	unknown := map[*node]bool{}
	for _, v := range c.found {
		l.sentence(v, unknown)
	}
}

// sentence turns a violation into a problem.
func (l *loader) sentence(v violation, unknown map[*node]bool) {
	at, schema, name := v.at, v.schema, v.where
	if at.bad {
		return
	}
	if v.name != nil {
		l.fail(v.name.pos, "names have at most 100 letters, digits, . _ + and -, and begin with a letter or digit", "%q cannot be a name", v.name.key)
		return
	}
	if name == "" {
		name = "the recipe"
	}
	switch v.keyword {
	case "additionalProperties":
		if !unknown[at] {
			unknown[at] = true
			l.unknownKeys(at, name, schema)
		}
	case "required":
		for _, key := range missing(at, schema) {
			l.fail(at.pos, requiredHint[key], "%s needs %s", name, key)
		}
	case "type":
		l.fail(at.pos, orElse(formHint(v.where), typeHint(at, schema)), "%s must be %s", name, typeWords(schema))
	case "enum", "const":
		l.enum(at, name, schema)
	case "pattern":
		l.fail(at.pos, patternHint(v), "%s: %q is not of the form that is expected", name, at.raw)
	case "minItems", "minProperties":
		l.fail(at.pos, "", "%s must not be empty", name)
	default:
		l.fail(at.pos, "", "%s: %s", name, v.message)
	}
}

var requiredHint = map[string]string{
	"version": "write version: 1 at the top",
	"source":  `say where the model is: source: "path:models/NAME"`,
	"targets": `say which targets: targets: ["*/q4"]`,
	"prompts": "name a prompt set, or write prompts in place",
}

// unknownKeys names every key that the schema does not know, each at its place.
func (l *loader) unknownKeys(n *node, name string, schema *schema) {
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

func matchesPattern(s *schema, key string) bool {
	for re := range s.keys {
		if re.MatchString(key) {
			return true
		}
	}
	return false
}

func missing(n *node, schema *schema) (out []string) {
	for _, key := range schema.Required {
		if n.get(key) == nil {
			out = append(out, key)
		}
	}
	return out
}

func (l *loader) enum(at *node, name string, schema *schema) {
	var words []string
	for _, v := range schema.Enum {
		words = append(words, fmt.Sprint(v))
	}
	if schema.Const != nil {
		words = append(words, fmt.Sprint(schema.Const))
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
func typeHint(n *node, schema *schema) string {
	wantsText := schema.Types.has("string")
	if n.kind == scalar && wantsText && n.raw != "" {
		return "put it in quotes: \"" + n.raw + "\""
	}
	wantsNumber := schema.Types.has("integer") || schema.Types.has("number")
	if _, isText := n.scalar.(string); isText && wantsNumber && n.quoted {
		return "leave the quotes out"
	}
	return ""
}

func typeWords(schema *schema) string {
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

func patternHint(v violation) string {
	where := v.where
	switch {
	case strings.HasSuffix(where, ".source") || v.depth == 2 && strings.HasPrefix(where, "models."):
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
