package mlxbuild_test

import (
	"fmt"
	"regexp"
	"strings"
)

// eval works out an expression of GitHub's: || && == != () 'text' format() and names.
func (j *job) eval(text string) any {
	e := &expression{j: j, rest: regexp.MustCompile(`'[^']*'|\|\||&&|==|!=|[(),]|[\w.-]+`).FindAllString(text, -1)}
	if left := regexp.MustCompile(`'[^']*'|\|\||&&|==|!=|[(),]|[\w.-]+|\s+`).ReplaceAllString(text, ""); left != "" {
		j.t.Fatalf("%s has %q, which this test does not know", text, left)
	}
	v := e.or()
	if len(e.rest) > 0 {
		j.t.Fatalf("%s: left are %v", text, e.rest)
	}
	return v
}

type expression struct {
	j    *job
	rest []string
}

func (e *expression) take(word string) bool {
	if len(e.rest) == 0 || e.rest[0] != word {
		return false
	}
	e.rest = e.rest[1:]
	return true
}

func truth(v any) bool { return v != "" && v != false }

func (e *expression) or() any {
	v := e.and()
	for e.take("||") {
		if w := e.and(); !truth(v) {
			v = w
		}
	}
	return v
}

func (e *expression) and() any {
	v := e.equal()
	for e.take("&&") {
		if w := e.equal(); truth(v) {
			v = w
		}
	}
	return v
}

func (e *expression) equal() any {
	v := e.value()
	switch {
	case e.take("=="):
		return strings.EqualFold(fmt.Sprint(v), fmt.Sprint(e.value()))
	case e.take("!="):
		return !strings.EqualFold(fmt.Sprint(v), fmt.Sprint(e.value()))
	}
	return v
}

func (e *expression) value() any {
	word := e.rest[0]
	e.rest = e.rest[1:]
	if word == "(" {
		v := e.or()
		e.take(")")
		return v
	}
	if text, ok := strings.CutPrefix(word, "'"); ok {
		return strings.TrimSuffix(text, "'")
	}
	if word == "format" && e.take("(") {
		text := fmt.Sprint(e.or())
		for n := 0; e.take(","); n++ {
			text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", n), fmt.Sprint(e.or()))
		}
		e.take(")")
		return text
	}
	j := e.j
	if name, ok := strings.CutPrefix(word, "inputs."); ok {
		if v, ok := j.inputs[name]; ok {
			return v
		}
		if in, ok := j.action.Inputs[name]; ok {
			return *in.Default
		}
	}
	if name, ok := strings.CutPrefix(word, "github."); ok {
		return j.github[name]
	}
	if rest, ok := strings.CutPrefix(word, "steps."); ok {
		id, name, _ := strings.Cut(rest, ".outputs.")
		return j.outputs[id][name]
	}
	j.t.Fatalf("%s is nothing that this test knows", word)
	return nil
}
