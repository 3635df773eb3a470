package chat

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// The functions here give values the meaning they have in Python, which Jinja2 hands on: what prints how, what adds to what, what is an error.

func typeName(v Value) string {
	switch {
	case v.IsUndefined():
		return "an undefined value"
	case v.IsNone():
		return "none"
	case v.IsBool():
		return "a truth value"
	case v.IsNumber():
		return "a number"
	case v.IsString():
		return "a string"
	case v.IsList():
		return "a list"
	case v.IsDict():
		return "a dictionary"
	case isGenerator(v):
		return "a generator"
	}
	return "a function"
}

func truth(v Value) bool { return v.IsTruthy() }

// str is Python's str().
func (m *machine) str(v Value) (string, error) {
	switch {
	case v.IsString():
		return v.AsString(), nil
	case v.IsUndefined():
		return "", nil
	}
	var b strings.Builder
	err := m.repr(&b, v, 0)
	return b.String(), err
}

// repr is Python's repr().
func (m *machine) repr(b *strings.Builder, v Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("prints a value nested more than %d deep", maxNesting)
	}
	if err := m.step(b.Len() / 64); err != nil { // so that a value that holds itself many times ends
		return err
	}
	switch {
	case v.IsUndefined():
		b.WriteString("Undefined")
	case v.IsNone():
		b.WriteString("None")
	case v.IsBool():
		b.WriteString(map[bool]string{true: "True", false: "False"}[v.AsBool()])
	case v.IsInt():
		b.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		b.WriteString(floatText(v.AsFloat()))
	case v.IsString():
		quotePython(b, v.AsString())
	case v.IsList():
		return m.reprList(b, v.AsList(), depth)
	case v.IsDict():
		if !m.isDict(v) {
			return fmt.Errorf("prints loop or a namespace")
		}
		b.WriteByte('{')
		for i, k := range v.AsDict().Keys {
			if i > 0 {
				b.WriteString(", ")
			}
			quotePython(b, k)
			b.WriteString(": ")
			if err := m.repr(b, v.AsDict().Data[k], depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		return fmt.Errorf("prints %s", typeName(v))
	}
	return nil
}

// reprList prints a list, or what is a list here alone.
func (m *machine) reprList(b *strings.Builder, l *jinja.List, depth int) error {
	open, shut := "[", "]"
	switch kind := m.kinds[l]; {
	case kind == "tuple" && l.Len() == 1:
		open, shut = "(", ",)"
	case kind == "tuple":
		open, shut = "(", ")"
	case strings.HasPrefix(kind, "range"):
		b.WriteString(kind)
		return nil
	case kind != "":
		open, shut = kind+"([", "])"
	}
	b.WriteString(open)
	for i, item := range l.Items {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := m.repr(b, item, depth+1); err != nil {
			return err
		}
	}
	b.WriteString(shut)
	return nil
}

// floatText is Python's repr of a float.
func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func quotePython(b *strings.Builder, s string) {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteByte(q)
}

func parseFloat(s string) Value {
	f, _ := strconv.ParseFloat(s, 64) // the lexer has checked it
	return jinja.NewFloat(f)
}

// concat is a ~ b.
func (m *machine) concat(a, b Value) (Value, error) {
	left, err := m.str(a)
	if err != nil {
		return a, err
	}
	right, err := m.str(b)
	if err != nil {
		return a, err
	}
	if err := m.step(len(left) + len(right)); err != nil {
		return a, err
	}
	return jinja.NewString(left + right), nil
}

// whole returns a number that counts as an integer: an int or a bool.
func whole(v Value) (int64, bool) {
	switch {
	case v.IsInt():
		return v.AsInt(), true
	case v.IsBool() && v.AsBool():
		return 1, true
	}
	return 0, v.IsBool()
}

func float(v Value) (float64, bool) {
	if v.IsFloat() {
		return v.AsFloat(), true
	}
	n, ok := whole(v)
	return float64(n), ok
}

// equal is ==: numbers by value, everything else by kind and content. Each look counts as a step, because a namespace can hold itself.
func (m *machine) equal(a, b Value, depth int) bool {
	if depth > maxNesting && m.failed == nil {
		m.failed = fmt.Errorf("compares values nested more than %d deep", maxNesting)
	}
	if m.step(0) != nil {
		return false
	}
	if x, ok := float(a); ok {
		y, ok := float(b)
		return ok && x == y
	}
	switch {
	case a.IsList() && b.IsList():
		return a.AsList() == b.AsList() || m.kinds[a.AsList()] == m.kinds[b.AsList()] &&
			slices.EqualFunc(a.AsList().Items, b.AsList().Items, func(x, y Value) bool { return m.equal(x, y, depth+1) })
	case a.IsDict() && b.IsDict():
		return a.AsDict() == b.AsDict() || m.equalDicts(a.AsDict(), b.AsDict(), depth)
	}
	return !a.IsList() && !a.IsDict() && a.Equals(b)
}

func (m *machine) equalDicts(a, b *jinja.Dict, depth int) bool {
	if a.Len() != b.Len() {
		return false
	}
	for _, k := range a.Keys {
		if other, ok := b.Get(k); !ok || !m.equal(a.Data[k], other, depth+1) {
			return false
		}
	}
	return true
}

// compare is a op b for every comparison.
func (m *machine) compare(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return m.equal(a, b, 0), nil
	case "!=":
		return !m.equal(a, b, 0), nil
	case "in", "not in":
		ok, err := m.contains(b, a)
		return ok == (op == "in"), err
	}
	order, err := m.less(a, b)
	if err != nil {
		return false, fmt.Errorf("%s %s %s is not possible", typeName(a), op, typeName(b))
	}
	switch op {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	}
	return order >= 0, nil
}

// less orders two values: -1, 0 or 1.
func (m *machine) less(a, b Value) (int, error) {
	x, okX := float(a)
	y, okY := float(b)
	switch {
	case okX && okY && x < y:
		return -1, nil
	case okX && okY && x > y:
		return 1, nil
	case okX && okY:
		return 0, nil
	case a.IsString() && b.IsString():
		return strings.Compare(a.AsString(), b.AsString()), nil
	case a.IsList() && b.IsList() && !m.fixed(a) && m.kinds[a.AsList()] == m.kinds[b.AsList()]:
		x, y := a.AsList().Items, b.AsList().Items
		for i := range min(len(x), len(y)) {
			if !m.equal(x[i], y[i], 0) {
				if err := m.step(0); err != nil {
					return 0, err
				}
				return m.less(x[i], y[i])
			}
		}
		return len(x) - len(y), nil
	}
	return 0, fmt.Errorf("%s and %s have no order", typeName(a), typeName(b))
}

func (m *machine) contains(in, v Value) (bool, error) {
	switch {
	case isGenerator(in):
		items, err := m.iterate(in)
		return slices.ContainsFunc(items, func(x Value) bool { return m.equal(x, v, 0) }), err
	case in.IsDict() && (v.IsList() && m.kinds[v.AsList()] == "" || v.IsDict()):
	case in.IsList():
		return slices.ContainsFunc(in.AsList().Items, func(x Value) bool { return m.equal(x, v, 0) }), nil
	case in.IsDict():
		return v.IsString() && in.AsDict().Has(v.AsString()), nil
	case in.IsString() && v.IsString():
		return strings.Contains(in.AsString(), v.AsString()), nil
	case in.IsUndefined():
		return false, nil
	}
	return false, fmt.Errorf("%s cannot be in %s", typeName(v), typeName(in))
}

// chain is a < b < c: value, operator, value, …
func (m *machine) chain(args []Value, _ map[string]Value) (Value, error) {
	for i := 0; i+2 < len(args); i += 2 {
		ok, err := m.compare(args[i+1].AsString(), args[i], args[i+2])
		if err != nil || !ok {
			return jinja.NewBool(false), err
		}
	}
	return jinja.NewBool(true), m.step(len(args))
}

// attr is value.name: for a dictionary its methods come before its keys, as in Python.
func (m *machine) attr(v, name Value) (Value, error) {
	n := name.AsString()
	switch {
	case v.IsUndefined():
		return v, fmt.Errorf("%q of an undefined value", n)
	case v.IsDict() && !m.spaces[v.AsDict()] && dictMethods[n] != nil, v.IsString() && stringMethods[n] != nil:
		return v, fmt.Errorf("method %s without a call is not supported", n)
	case v.IsDict():
		if found, ok := v.AsDict().Get(n); ok {
			return found, m.step(0)
		}
	}
	return jinja.Undefined(), m.step(0)
}

// item is value[key]: what is not there is undefined.
func (m *machine) item(v, key Value) (Value, error) {
	if err := m.step(0); err != nil {
		return v, err
	}
	n, isInt := whole(key)
	switch {
	case v.IsUndefined():
		return v, fmt.Errorf("an item of an undefined value")
	case v.IsDict() && key.IsString():
		if found, ok := v.AsDict().Get(key.AsString()); ok {
			return found, nil
		}
		return m.attr(v, key)
	case v.IsList() && isInt && (!m.fixed(v) || strings.HasPrefix(m.kinds[v.AsList()], "range")):
		items := v.AsList().Items
		if n < 0 {
			n += int64(len(items))
		}
		if n >= 0 && n < int64(len(items)) {
			return items[n], nil
		}
	case v.IsString() && isInt:
		s, err := m.slice([]Value{v, jinja.NewInt(n), none, none}, nil)
		if err != nil {
			return v, err
		}
		_, size := utf8.DecodeRuneInString(s.AsString())
		if n < 0 && -n > int64(utf8.RuneCountInString(v.AsString())) {
			size = 0
		}
		if size > 0 {
			return jinja.NewString(s.AsString()[:size]), nil
		}
	}
	return jinja.Undefined(), nil
}

var none = jinja.None()

// slice is value[start:stop:step].
func (m *machine) slice(args []Value, _ map[string]Value) (Value, error) {
	v, bounds := args[0], append(slices.Clone(args[1:]), none, none)
	var runes []rune
	length := 0
	switch {
	case v.IsList():
		length = v.AsList().Len()
	case v.IsString():
		if err := m.step(4 * len(v.AsString())); err != nil {
			return v, err
		}
		runes = []rune(v.AsString())
		length = len(runes)
	default:
		return v, fmt.Errorf("a slice of %s", typeName(v))
	}
	at, err := sliceIndexes(bounds[0], bounds[1], bounds[2], length)
	if err != nil {
		return v, err
	}
	if v.IsString() {
		out := make([]rune, 0, len(at))
		for _, i := range at {
			out = append(out, runes[i])
		}
		return m.text(string(out))
	}
	out := make([]Value, 0, len(at))
	for _, i := range at {
		out = append(out, v.AsList().Items[i])
	}
	if m.fixed(v) {
		return v, fmt.Errorf("a slice of a range or of a view of a dictionary is not supported")
	}
	return m.like(v, out), m.step(24 * len(out))
}

// sliceIndexes is Python's slice(start, stop, step).indices(length), written out.
func sliceIndexes(start, stop, step Value, length int) ([]int, error) {
	by := int64(1)
	if !step.IsNone() {
		var ok bool
		if by, ok = whole(step); !ok || by == 0 {
			return nil, fmt.Errorf("a slice with a step that is no whole number or 0")
		}
	}
	low, high := int64(0), int64(length)
	if by < 0 {
		low, high = -1, int64(length)-1
	}
	bound := func(v Value, missing int64) (int64, error) {
		if v.IsNone() {
			return missing, nil
		}
		n, ok := whole(v)
		if !ok {
			return 0, fmt.Errorf("a slice with a bound that is no whole number")
		}
		if n < 0 {
			n += int64(length)
		}
		return min(max(n, low), high), nil
	}
	first, last := low, high
	if by < 0 {
		first, last = high, low
	}
	from, err := bound(start, first)
	if err != nil {
		return nil, err
	}
	to, err := bound(stop, last)
	if err != nil {
		return nil, err
	}
	var out []int
	for i := from; by > 0 && i < to || by < 0 && i > to; {
		out = append(out, int(i))
		if by > 0 && i > math.MaxInt64-by || by < 0 && i < math.MinInt64-by {
			break
		}
		i += by
	}
	return out, nil
}
