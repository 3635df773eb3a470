package chat

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ardanlabs/jinja"
)

var errNumber = fmt.Errorf("a number outside 64 bits")

// arithmetic is a op b for every operator but ~.
func (m *machine) arithmetic(op string, a, b Value) (Value, error) {
	if err := m.step(0); err != nil {
		return a, err
	}
	x, wholeX := whole(a)
	y, wholeY := whole(b)
	if wholeX && wholeY && op != "/" && (op != "**" || y >= 0) {
		return integers(op, x, y)
	}
	f, okF := float(a)
	g, okG := float(b)
	if okF && okG {
		return floats(op, f, g)
	}
	switch {
	case op == "+" && a.IsString() && b.IsString():
		return m.concat(a, b)
	case a.IsList() && m.fixed(a) || b.IsList() && m.fixed(b):
	case op == "+" && a.IsList() && b.IsList() && m.kinds[a.AsList()] == m.kinds[b.AsList()]:
		if err := m.step(24 * (a.AsList().Len() + b.AsList().Len())); err != nil {
			return a, err
		}
		return m.like(a, slices.Concat(a.AsList().Items, b.AsList().Items)), nil
	case op == "*" && wholeX && (b.IsString() || b.IsList()):
		return m.repeat(b, x)
	case op == "*" && wholeY && (a.IsString() || a.IsList()):
		return m.repeat(a, y)
	case op == "%" && a.IsString():
		return a, fmt.Errorf("formatting a string with %% is not supported")
	}
	return a, fmt.Errorf("%s %s %s is not possible", typeName(a), op, typeName(b))
}

// fixed reports a list that cannot be added to: a range or a view of a dictionary.
func (m *machine) fixed(v Value) bool {
	kind := m.kinds[v.AsList()]
	return kind != "" && kind != "tuple"
}

// like makes a list or a tuple, as v is one.
func (m *machine) like(v Value, items []Value) Value {
	out := jinja.NewList(items)
	if kind := m.kinds[v.AsList()]; kind != "" {
		m.kinds[out.AsList()] = kind
	}
	return out
}

func (m *machine) repeat(v Value, n int64) (Value, error) {
	n = max(n, 0)
	if n > maxWork {
		return v, errWork
	}
	if v.IsString() {
		if s := v.AsString(); s != "" {
			if err := m.step(min(int(n), maxWork/len(s)+1) * len(s)); err != nil {
				return v, err
			}
			return jinja.NewString(strings.Repeat(s, int(n))), nil
		}
		return v, nil
	}
	items := v.AsList().Items
	if len(items) == 0 {
		return v, nil
	}
	if err := m.step(min(int(n), maxWork/len(items)+1) * len(items) * 24); err != nil {
		return v, err
	}
	return m.like(v, slices.Repeat(items, int(n))), nil
}

func integers(op string, x, y int64) (Value, error) {
	var z int64
	ok := true
	switch op {
	case "+":
		z = x + y
		ok = (z > x) == (y > 0)
	case "-":
		z = x - y
		ok = (z < x) == (y > 0)
	case "*":
		z = x * y
		ok = x == 0 || z/x == y && (x != -1 || y != math.MinInt64)
	case "//", "%":
		if y == 0 {
			return jinja.Undefined(), fmt.Errorf("division by zero")
		}
		q, r := x/y, x%y
		if r != 0 && (r < 0) != (y < 0) {
			q, r = q-1, r+y
		}
		if z = q; op == "%" {
			z = r
		}
		ok = y != -1 || x != math.MinInt64
	case "**":
		z = 1
		for ; y > 0 && ok; y-- {
			if x == 0 || x == 1 {
				return jinja.NewInt(x), nil
			}
			if x == -1 {
				return jinja.NewInt(1 - 2*(y%2)), nil
			}
			next := z * x
			ok = next/x == z
			z = next
		}
	}
	if !ok {
		return jinja.Undefined(), errNumber
	}
	return jinja.NewInt(z), nil
}

func floats(op string, f, g float64) (Value, error) {
	if g == 0 && (op == "/" || op == "//" || op == "%") {
		return jinja.Undefined(), fmt.Errorf("division by zero")
	}
	switch op {
	case "+":
		return jinja.NewFloat(f + g), nil
	case "-":
		return jinja.NewFloat(f - g), nil
	case "*":
		return jinja.NewFloat(f * g), nil
	case "/":
		return jinja.NewFloat(f / g), nil
	case "//":
		return jinja.NewFloat(math.Floor(f / g)), nil
	case "**":
		return jinja.NewFloat(math.Pow(f, g)), nil
	}
	r := math.Mod(f, g)
	if r != 0 && (r < 0) != (g < 0) {
		r += g
	}
	return jinja.NewFloat(r), nil
}
