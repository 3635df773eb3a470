package chat

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// method is a method of Python's str, dict or list. Methods that change a value are refused, as in Jinja2's immutable sandbox.
type method = filter

var dictMethods = map[string]method{
	"items": dictItems,
	"keys": func(m *machine, v Value, _ *arguments) (Value, error) {
		return m.special(keys(v.AsDict()), "dict_keys")
	},
	"values": func(m *machine, v Value, _ *arguments) (Value, error) {
		var out []Value
		for _, k := range v.AsDict().Keys {
			out = append(out, v.AsDict().Data[k])
		}
		return m.special(out, "dict_values")
	},
	"get": func(m *machine, v Value, a *arguments) (Value, error) {
		key, _ := a.get("")
		other, ok := a.get("")
		if !ok {
			other = none
		}
		if key.IsString() {
			if found, ok := v.AsDict().Get(key.AsString()); ok {
				return found, nil
			}
		}
		return other, nil
	},
	"copy": func(m *machine, v Value, _ *arguments) (Value, error) { return m.dictOf([]Value{v}, nil) },
}

var listMethods = map[string]method{
	"index": func(m *machine, v Value, a *arguments) (Value, error) {
		want, _ := a.get("")
		i := slices.IndexFunc(v.AsList().Items, func(x Value) bool { return m.equal(x, want, 0) })
		if i < 0 {
			return v, fmt.Errorf("the value is not in the list")
		}
		return jinja.NewInt(int64(i)), nil
	},
	"count": func(m *machine, v Value, a *arguments) (Value, error) {
		want, _ := a.get("")
		n := int64(0)
		for _, x := range v.AsList().Items {
			if m.equal(x, want, 0) {
				n++
			}
		}
		return jinja.NewInt(n), nil
	},
	"copy": func(m *machine, v Value, _ *arguments) (Value, error) { return m.list(slices.Clone(v.AsList().Items)) },
}

var stringMethods = map[string]method{
	"upper":      onText(upper),
	"lower":      onText(strings.ToLower),
	"title":      onText(title),
	"capitalize": onText(capitalize),
	"swapcase": onText(func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, s)
	}),
	"strip":        strip(true, true),
	"lstrip":       strip(true, false),
	"rstrip":       strip(false, true),
	"split":        split(false),
	"rsplit":       split(true),
	"splitlines":   splitLines,
	"startswith":   affix(strings.HasPrefix),
	"endswith":     affix(strings.HasSuffix),
	"removeprefix": withText(func(s, p string) string { return strings.TrimPrefix(s, p) }),
	"removesuffix": withText(func(s, p string) string { return strings.TrimSuffix(s, p) }),
	"replace":      filterReplace,
	"find":         position(strings.Index, false),
	"rfind":        position(strings.LastIndex, false),
	"index":        position(strings.Index, true),
	"rindex":       position(strings.LastIndex, true),
	"count": func(m *machine, v Value, a *arguments) (Value, error) {
		s, err := a.text()
		return jinja.NewInt(int64(strings.Count(v.AsString(), s))), err
	},
	"join": func(m *machine, v Value, a *arguments) (Value, error) {
		list, _ := a.get("")
		items, err := m.iterate(list)
		if err != nil {
			return v, err
		}
		if i := slices.IndexFunc(items, func(x Value) bool { return !x.IsString() }); i >= 0 {
			return v, fmt.Errorf("item %d is %s", i, typeName(items[i]))
		}
		return m.join(items, v.AsString())
	},
	"partition":  partition(false),
	"rpartition": partition(true),
	"isdigit":    every(unicode.IsDigit),
	"isnumeric":  every(unicode.IsNumber),
	"isdecimal":  every(func(r rune) bool { return unicode.Is(unicode.Nd, r) }),
	"isalpha":    every(unicode.IsLetter),
	"isalnum":    every(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
	"isspace":    every(isSpace),
	"isupper":    func(m *machine, v Value, _ *arguments) (Value, error) { return isCase(v, upper) },
	"islower":    func(m *machine, v Value, _ *arguments) (Value, error) { return isCase(v, strings.ToLower) },
	"zfill":      pad(func(s string, n int) string { return zeros(s, n) }),
	"ljust":      pad(func(s string, n int) string { return s + strings.Repeat(" ", n) }),
	"rjust":      pad(func(s string, n int) string { return strings.Repeat(" ", n) + s }),
}

// method calls value.name(…).
func (m *machine) method(args []Value, named map[string]Value) (Value, error) {
	v, name := args[0], args[1].AsString()
	if err := m.step(0); err != nil {
		return v, err
	}
	var table map[string]method
	switch {
	case v.IsUndefined():
		return v, fmt.Errorf("%q of an undefined value", name)
	case v.IsString():
		table = stringMethods
	case v.IsList():
		table = listMethods
	case v.IsDict():
		if !m.spaces[v.AsDict()] && !isLoop(v.AsDict()) {
			table = dictMethods
		}
		if f, ok := v.AsDict().Get(name); ok && table[name] == nil && f.IsCallable() { // loop.cycle, a macro in a namespace
			prefixed := map[string]Value{}
			for k, n := range named {
				prefixed["v_"+k] = n
			}
			return f.AsCallable().Fn(args[2:], prefixed)
		}
	}
	f := table[name]
	if f == nil {
		return v, fmt.Errorf("%s has no method %s, or none that a template may call", typeName(v), name)
	}
	a := &arguments{args: args[2:], named: named, taken: map[string]bool{}}
	out, err := f(m, v, a)
	if err == nil {
		err = a.left()
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

func dictItems(m *machine, v Value, _ *arguments) (Value, error) {
	var out []Value
	d := v.AsDict()
	if err := m.step(96 * d.Len()); err != nil {
		return v, err
	}
	for _, k := range d.Keys {
		pair, err := m.special([]Value{jinja.NewString(k), d.Data[k]}, "tuple")
		if err != nil {
			return v, err
		}
		out = append(out, pair)
	}
	return m.special(out, "dict_items")
}

// text takes the next argument, a string.
func (a *arguments) text() (string, error) {
	v, _ := a.get("")
	if !v.IsString() {
		return "", fmt.Errorf("want a string, have %s", typeName(v))
	}
	return v.AsString(), nil
}

func strip(left, right bool) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		in := isSpace
		if chars, ok := a.get(""); ok && !chars.IsNone() {
			if !chars.IsString() {
				return v, fmt.Errorf("want a string, have %s", typeName(chars))
			}
			in = func(r rune) bool { return strings.ContainsRune(chars.AsString(), r) }
		}
		s := v.AsString()
		if left {
			s = strings.TrimLeftFunc(s, in)
		}
		if right {
			s = strings.TrimRightFunc(s, in)
		}
		return m.text(s)
	}
}

func split(fromRight bool) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		sep, _ := a.get("sep")
		limit, limited := a.get("maxsplit")
		most, ok := whole(limit)
		if limited && !ok || !sep.IsUndefined() && !sep.IsNone() && (!sep.IsString() || sep.AsString() == "") {
			return v, fmt.Errorf("arguments that are not supported")
		}
		if !limited || most < 0 {
			most = -1
		}
		if err := m.step(32 * len(v.AsString())); err != nil {
			return v, err
		}
		var parts []string
		if !sep.IsString() {
			if most >= 0 {
				return v, fmt.Errorf("maxsplit without sep is not supported")
			}
			parts = strings.FieldsFunc(v.AsString(), isSpace)
		} else {
			parts = strings.Split(v.AsString(), sep.AsString())
			if most >= 0 && int64(len(parts)) > most+1 {
				parts = joinRest(parts, sep.AsString(), int(most), fromRight)
			}
		}
		return m.list(texts(parts))
	}
}

// joinRest undoes all but most of the cuts.
func joinRest(parts []string, sep string, most int, fromRight bool) []string {
	if fromRight {
		n := len(parts) - most
		return append([]string{strings.Join(parts[:n], sep)}, parts[n:]...)
	}
	return append(slices.Clone(parts[:most]), strings.Join(parts[most:], sep))
}

func texts(parts []string) []Value {
	out := make([]Value, 0, len(parts))
	for _, p := range parts {
		out = append(out, jinja.NewString(p))
	}
	return out
}

func splitLines(m *machine, v Value, a *arguments) (Value, error) {
	keep, _ := a.get("keepends")
	if err := m.step(32 * len(v.AsString())); err != nil {
		return v, err
	}
	return m.list(texts(linesOf(v.AsString(), truth(keep))))
}

// linesOf is Python's str.splitlines.
func linesOf(s string, keep bool) []string {
	var parts []string
	for s != "" {
		i := strings.IndexAny(s, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if i < 0 {
			parts = append(parts, s)
			break
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		if strings.HasPrefix(s[i:], "\r\n") {
			n = 2
		}
		end := i
		if keep {
			end = i + n
		}
		parts = append(parts, s[:end])
		s = s[i+n:]
	}
	return parts
}

// affix makes startswith and endswith, of a string or a list of them.
func affix(has func(s, affix string) bool) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		want, _ := a.get("")
		list := []Value{want}
		if want.IsList() {
			list = want.AsList().Items
		}
		for _, w := range list {
			if !w.IsString() {
				return v, fmt.Errorf("want a string, have %s", typeName(w))
			}
			if has(v.AsString(), w.AsString()) {
				return jinja.NewBool(true), nil
			}
		}
		return jinja.NewBool(false), nil
	}
}

func withText(f func(s, arg string) string) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		arg, err := a.text()
		if err != nil {
			return v, err
		}
		return m.text(f(v.AsString(), arg))
	}
}

// position makes find and its kin; positions count characters.
func position(index func(s, sub string) int, must bool) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		sub, err := a.text()
		if err != nil {
			return v, err
		}
		i := index(v.AsString(), sub)
		if i < 0 {
			if must {
				return v, fmt.Errorf("it is not there")
			}
			return jinja.NewInt(-1), nil
		}
		return jinja.NewInt(int64(utf8.RuneCountInString(v.AsString()[:i]))), m.step(i / 16)
	}
}

func partition(last bool) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		sep, err := a.text()
		if err != nil || sep == "" {
			return v, fmt.Errorf("want a string that is not empty")
		}
		s := v.AsString()
		i := strings.Index(s, sep)
		if last {
			i = strings.LastIndex(s, sep)
		}
		parts := []string{s, "", ""}
		switch {
		case i >= 0:
			parts = []string{s[:i], sep, s[i+len(sep):]}
		case last:
			parts = []string{"", "", s}
		}
		return m.special(texts(parts), "tuple")
	}
}

func every(is func(rune) bool) method {
	return func(m *machine, v Value, _ *arguments) (Value, error) {
		s := v.AsString()
		return jinja.NewBool(s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0), m.step(len(s) / 16)
	}
}

func isCase(v Value, change func(string) string) (Value, error) {
	s := v.AsString()
	return jinja.NewBool(cased(s) && change(s) == s), nil
}

func pad(f func(s string, n int) string) method {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		width, _ := a.get("")
		n, ok := whole(width)
		if !ok || n > 1<<20 {
			return v, fmt.Errorf("a width that is not supported")
		}
		return m.text(f(v.AsString(), max(0, int(n)-utf8.RuneCountInString(v.AsString()))))
	}
}

func zeros(s string, n int) string {
	sign := ""
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		sign = s[:1]
	}
	return sign + strings.Repeat("0", n) + s[len(sign):]
}

// title begins a word at every letter behind something that is none.
func title(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		if inWord {
			b.WriteString(strings.ToLower(string(r)))
		} else {
			b.WriteString(upper(string(r)))
		}
		inWord = unicode.IsLetter(r)
	}
	return b.String()
}
