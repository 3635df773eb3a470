package chat

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// filter is a filter of Jinja2 (jinja2/filters.py).
type filter func(m *machine, v Value, args *arguments) (Value, error)

// arguments are the arguments of a filter or method behind the value. Reading one by place or name takes it; what is left at the end is an error.
type arguments struct {
	args  []Value
	named map[string]Value
	taken map[string]bool
	at    int
}

// get takes the next argument by its place or its name.
func (a *arguments) get(name string) (Value, bool) {
	a.at++
	if a.at <= len(a.args) {
		return a.args[a.at-1], true
	}
	v, ok := a.named[name]
	if ok {
		a.taken[name] = true
	}
	return v, ok
}

// left reports arguments that nobody took.
func (a *arguments) left() error {
	if a.at < len(a.args) || len(a.taken) < len(a.named) {
		return fmt.Errorf("arguments that are not supported")
	}
	return nil
}

func sortedKeys(m map[string]Value) []string { return slices.Sorted(maps.Keys(m)) }

// unsupportedFilters are filters that Jinja2 has and we do not. A template may hold them where it never comes to.
var unsupportedFilters = strings.Fields("attr center escape e filesizeformat forceescape format groupby pprint random slice striptags truncate urlencode urlize wordwrap xmlattr")

// unsafe is what the filter safe becomes where its value goes on: a template may hold it, as for its tools, as long as it does not come there.
const unsafe = "safe before the end of a tag"

// filterOf returns a filter by its name, nil if there is none.
func filterOf(name string) filter {
	switch name {
	case "abs":
		return filterAbs
	case "batch":
		return filterBatch
	case "capitalize":
		return onText(capitalize)
	case "d", "default":
		return filterDefault
	case "dictsort":
		return filterDictsort
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "length", "count":
		return filterLength
	case "list":
		return filterList
	case "lower":
		return onText(strings.ToLower)
	case "map":
		return filterMap
	case "max":
		return extreme(1)
	case "min":
		return extreme(-1)
	case "reject":
		return choose(false, false)
	case "rejectattr":
		return choose(true, false)
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe", "string":
		return onText(func(s string) string { return s })
	case "select":
		return choose(false, true)
	case "selectattr":
		return choose(true, true)
	case "sort":
		return filterSort
	case "sum":
		return filterSum
	case "title":
		return onText(filterTitle)
	case "tojson":
		return filterToJSON
	case "trim":
		return filterTrim
	case "unique":
		return filterUnique
	case "upper":
		return onText(upper)
	case "wordcount":
		return filterWordcount
	}
	return nil
}

func (m *machine) filter(args []Value, named map[string]Value) (Value, error) {
	name := args[0].AsString()
	v, err := m.applyFilter(name, args[1], args[2:], named)
	if err != nil {
		return jinja.Undefined(), fmt.Errorf("filter %s: %w", name, err)
	}
	return v, m.step(0)
}

func (m *machine) applyFilter(name string, v Value, args []Value, named map[string]Value) (Value, error) {
	f := filterOf(name)
	if f == nil && (name == unsafe || slices.Contains(unsupportedFilters, name)) {
		return v, fmt.Errorf("it is not supported")
	}
	if f == nil {
		return v, fmt.Errorf("there is no such filter")
	}
	a := &arguments{args: args, named: named, taken: map[string]bool{}}
	out, err := f(m, v, a)
	if err == nil {
		err = a.left()
	}
	return out, err
}

// onText makes a filter of a change to a string.
func onText(f func(string) string) filter {
	return func(m *machine, v Value, _ *arguments) (Value, error) {
		s, err := m.str(v)
		if err != nil {
			return v, err
		}
		return m.text(f(s))
	}
}

// upper follows Python where one letter becomes two.
func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS")) }

func capitalize(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return upper(s[:n]) + strings.ToLower(s[n:])
}

// filterTitle begins a word behind white space, - ( { [ and <.
func filterTitle(s string) string {
	var b strings.Builder
	start := true
	for _, r := range s {
		if start {
			b.WriteString(upper(string(r)))
		} else {
			b.WriteString(strings.ToLower(string(r)))
		}
		start = isSpace(r) || strings.ContainsRune("-({[<", r)
	}
	return b.String()
}

func filterAbs(m *machine, v Value, _ *arguments) (Value, error) {
	if v.IsFloat() {
		return jinja.NewFloat(math.Abs(v.AsFloat())), nil
	}
	n, ok := whole(v)
	if !ok {
		return v, fmt.Errorf("%s has no absolute value", typeName(v))
	}
	if n < 0 {
		return m.arithmetic("-", jinja.NewInt(0), v)
	}
	return jinja.NewInt(n), nil
}

func filterDefault(m *machine, v Value, a *arguments) (Value, error) {
	other, ok := a.get("default_value")
	if !ok {
		other = jinja.NewString("")
	}
	boolean, _ := a.get("boolean")
	if v.IsUndefined() || truth(boolean) && !truth(v) {
		return other, nil
	}
	return v, nil
}

func filterFloat(m *machine, v Value, a *arguments) (Value, error) {
	other, ok := a.get("default")
	if !ok {
		other = jinja.NewFloat(0)
	}
	if f, ok := float(v); ok {
		return jinja.NewFloat(f), nil
	}
	switch {
	case v.IsString():
		if f, err := strconv.ParseFloat(strings.TrimSpace(v.AsString()), 64); err == nil {
			return jinja.NewFloat(f), nil
		}
	case v.IsUndefined():
		return v, fmt.Errorf("an undefined value is no number")
	}
	return other, nil
}

func filterInt(m *machine, v Value, a *arguments) (Value, error) {
	other, ok := a.get("default")
	if !ok {
		other = jinja.NewInt(0)
	}
	if n, ok := whole(v); ok {
		return jinja.NewInt(n), nil
	}
	f := math.NaN()
	switch {
	case v.IsUndefined():
		return v, fmt.Errorf("an undefined value is no number")
	case v.IsFloat():
		f = v.AsFloat()
	case v.IsString():
		s := strings.TrimSpace(v.AsString())
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return jinja.NewInt(n), nil
		}
		if g, err := strconv.ParseFloat(s, 64); err == nil {
			f = g
		}
	}
	if math.Abs(f) < 1<<62 {
		return jinja.NewInt(int64(f)), nil
	}
	return other, nil
}

func filterIndent(m *machine, v Value, a *arguments) (Value, error) {
	if !v.IsString() {
		return v, fmt.Errorf("%s has no lines", typeName(v))
	}
	s := v.AsString()
	prefix := "    "
	if width, ok := a.get("width"); ok {
		n, isInt := whole(width)
		switch {
		case width.IsString():
			prefix = width.AsString()
		case !isInt || n > 1<<16:
			return v, fmt.Errorf("a width that is not supported")
		default:
			prefix = strings.Repeat(" ", int(max(n, 0)))
		}
	}
	first, _ := a.get("first")
	blank, _ := a.get("blank")
	if err := m.step(len(s) + (strings.Count(s, "\n")+2)*len(prefix)); err != nil {
		return v, err
	}
	lines := linesOf(s+"\n", false)
	for i := range lines {
		if i == 0 && truth(first) || i > 0 && (lines[i] != "" || truth(blank)) {
			lines[i] = prefix + lines[i]
		}
	}
	return m.text(strings.Join(lines, "\n"))
}

func filterReplace(m *machine, v Value, a *arguments) (Value, error) {
	s, err := m.str(v)
	if err != nil {
		return v, err
	}
	old, _ := a.get("old")
	with, ok := a.get("new")
	if !ok {
		return v, fmt.Errorf("it takes what to replace and what by")
	}
	from, err := m.str(old)
	if err != nil {
		return v, err
	}
	to, err := m.str(with)
	if err != nil {
		return v, err
	}
	count := int64(-1)
	if c, ok := a.get("count"); ok && !c.IsNone() {
		if count, ok = whole(c); !ok {
			return v, fmt.Errorf("a count that is no whole number")
		}
	}
	return m.replace(s, from, to, count)
}

func (m *machine) replace(s, from, to string, count int64) (Value, error) {
	n := int64(strings.Count(s, from))
	if count < 0 || count > n {
		count = n
	}
	if count*int64(len(to)) > maxWork {
		return none, errWork
	}
	if err := m.step(len(s) + int(count)*len(to)); err != nil {
		return none, err
	}
	return jinja.NewString(strings.Replace(s, from, to, int(count))), nil
}

func filterRound(m *machine, v Value, a *arguments) (Value, error) {
	f, ok := float(v)
	if !ok {
		return v, fmt.Errorf("%s cannot be rounded", typeName(v))
	}
	digits, given := a.get("precision")
	n, _ := whole(digits)
	method, named := a.get("method")
	if given && !digits.IsInt() || n < -300 || n < 0 && !v.IsFloat() || n > 300 || named && (!method.IsString() || method.AsString() != "common") {
		return v, fmt.Errorf("a precision or method that is not supported")
	}
	if i, isWhole := whole(v); isWhole && n >= 0 {
		return jinja.NewInt(i), nil
	}
	if n >= 0 {
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(n), 64), 64)
		return jinja.NewFloat(f), nil
	}
	unit := math.Pow(10, float64(-n))
	return jinja.NewFloat(math.RoundToEven(f/unit) * unit), nil
}

func filterTrim(m *machine, v Value, a *arguments) (Value, error) {
	s, err := m.str(v)
	if err != nil {
		return v, err
	}
	if chars, ok := a.get("chars"); ok && !chars.IsNone() {
		cut, err := m.str(chars)
		if err != nil {
			return v, err
		}
		return m.text(strings.Trim(s, cut))
	}
	return m.text(strings.TrimFunc(s, isSpace))
}

func filterWordcount(m *machine, v Value, _ *arguments) (Value, error) {
	s, err := m.str(v)
	words := strings.FieldsFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	return jinja.NewInt(int64(len(words))), cmp.Or(err, m.step(len(s)))
}
