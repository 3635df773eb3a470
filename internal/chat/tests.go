package chat

import (
	"fmt"
	"strings"

	"github.com/ardanlabs/jinja"
)

// knownTest reports a test of Jinja2 (jinja2/tests.py).
func knownTest(name string) bool {
	switch name {
	case "boolean", "callable", "defined", "divisibleby", "eq", "equalto", "escaped", "even", "false", "filter", "float", "ge", "greaterthan", "gt", "in", "integer",
		"iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd", "sameas", "sequence", "string", "test", "true", "undefined", "upper":
		return true
	}
	return false
}

func (m *machine) test(args []Value, _ map[string]Value) (Value, error) {
	ok, err := m.applyTest(args[0], args[1], args[2:])
	return jinja.NewBool(ok), err
}

func (m *machine) nottest(args []Value, _ map[string]Value) (Value, error) {
	ok, err := m.applyTest(args[0], args[1], args[2:])
	return jinja.NewBool(!ok), err
}

// comparisonTests are tests that are comparisons.
var comparisonTests = map[string]string{
	"eq": "==", "equalto": "==", "==": "==", "ne": "!=", "!=": "!=", "lt": "<", "lessthan": "<", "<": "<", "le": "<=", "<=": "<=",
	"gt": ">", "greaterthan": ">", ">": ">", "ge": ">=", ">=": ">=", "in": "in",
}

func (m *machine) applyTest(name, v Value, args []Value) (bool, error) {
	if err := m.step(0); err != nil {
		return false, err
	}
	if !name.IsString() {
		return false, fmt.Errorf("the name of a test is no string")
	}
	n := name.AsString()
	if !knownTest(n) && comparisonTests[n] == "" {
		return false, fmt.Errorf("there is no test %s", n)
	}
	if op, ok := comparisonTests[n]; ok {
		if len(args) != 1 {
			return false, fmt.Errorf("test %s takes one value", n)
		}
		return m.compare(op, v, args[0])
	}
	if want := map[string]int{"divisibleby": 1, "sameas": 1}[n]; want != len(args) {
		return false, fmt.Errorf("test %s takes %d values", n, want)
	}
	return m.simpleTest(n, v, args)
}

func (m *machine) simpleTest(n string, v Value, args []Value) (bool, error) {
	switch n {
	case "defined":
		return !v.IsUndefined(), nil
	case "undefined":
		return v.IsUndefined(), nil
	case "none":
		return v.IsNone(), nil
	case "true":
		return v.IsBool() && v.AsBool(), nil
	case "false":
		return v.IsBool() && !v.AsBool(), nil
	case "boolean":
		return v.IsBool(), nil
	case "integer":
		return v.IsInt(), nil
	case "float":
		return v.IsFloat(), nil
	case "number":
		return v.IsNumber() || v.IsBool(), nil
	case "string":
		return v.IsString(), nil
	case "mapping":
		return m.isDict(v), nil
	case "sequence":
		view := v.IsList() && strings.HasPrefix(m.kinds[v.AsList()], "dict")
		return v.IsString() || v.IsList() && !view || m.isDict(v) || v.IsUndefined(), nil
	case "iterable":
		return v.IsString() || v.IsList() || m.isDict(v) || v.IsUndefined() || isGenerator(v) || v.IsDict() && isLoop(v.AsDict()), nil
	case "callable":
		return v.IsUndefined() || v.IsCallable() && !isGenerator(v), nil
	case "escaped":
		return false, nil
	case "sameas":
		return sameAs(v, args[0]), nil
	case "lower", "upper":
		s, err := m.str(v)
		if n == "lower" {
			return cased(s) && s == strings.ToLower(s), err
		}
		return cased(s) && s == upper(s), err
	case "filter":
		return v.IsString() && filterOf(v.AsString()) != nil, nil
	case "test":
		return v.IsString() && knownTest(v.AsString()), nil
	}
	return m.numberTest(n, v, args)
}

func (m *machine) numberTest(n string, v Value, args []Value) (bool, error) {
	x, ok := whole(v)
	by := int64(2)
	if n == "divisibleby" {
		by, _ = whole(args[0])
	}
	if !ok || by == 0 {
		return false, fmt.Errorf("test %s of %s", n, typeName(v))
	}
	if n == "odd" {
		return x%by != 0, nil
	}
	if n == "even" || n == "divisibleby" {
		return x%by == 0, nil
	}
	return false, fmt.Errorf("there is no test %s", n)
}

// cased reports a string with a letter that has a case.
func cased(s string) bool { return strings.ToLower(s) != upper(s) }

// sameAs is Python's "is", as far as values have an identity here.
func sameAs(a, b Value) bool {
	switch {
	case a.IsList() && b.IsList():
		return a.AsList() == b.AsList()
	case a.IsDict() && b.IsDict():
		return a.AsDict() == b.AsDict()
	case a.IsList() || a.IsDict() || a.IsCallable():
		return false
	}
	return a.Equals(b)
}
