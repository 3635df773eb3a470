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

func filterBatch(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterate(v)
	count, _ := a.get("linecount")
	n, ok := whole(count)
	if err != nil || !ok || n < 1 {
		return v, cmp.Or(err, fmt.Errorf("it takes a whole number above 0"))
	}
	fill, filled := a.get("fill_with")
	var out []Value
	for chunk := range slices.Chunk(items, int(min(n, int64(len(items)+1)))) {
		chunk = slices.Clone(chunk)
		for filled && !fill.IsNone() && int64(len(chunk)) < n {
			if err := m.step(24); err != nil {
				return v, err
			}
			chunk = append(chunk, fill)
		}
		out = append(out, jinja.NewList(chunk))
	}
	return m.generator(out)
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

func filterDictsort(m *machine, v Value, a *arguments) (Value, error) {
	if !v.IsDict() {
		return v, fmt.Errorf("%s has no keys", typeName(v))
	}
	d := v.AsDict()
	names := d.OrderedKeys()
	cased, _ := a.get("case_sensitive")
	by, byGiven := a.get("by")
	reverse, _ := a.get("reverse")
	if byGiven && (!by.IsString() || by.AsString() != "key") {
		return v, fmt.Errorf("by anything but the key is not supported")
	}
	slices.SortStableFunc(names, func(x, y string) int {
		if !truth(cased) {
			x, y = strings.ToLower(x), strings.ToLower(y)
		}
		if truth(reverse) {
			x, y = y, x
		}
		return strings.Compare(x, y)
	})
	var out []Value
	for _, k := range names {
		pair, err := m.special([]Value{jinja.NewString(k), d.Data[k]}, "tuple")
		if err != nil {
			return v, err
		}
		out = append(out, pair)
	}
	return m.list(out)
}

func filterFirst(m *machine, v Value, _ *arguments) (Value, error) {
	if isGenerator(v) {
		v, _ = v.AsCallable().Fn([]Value{none}, nil)
	}
	items, err := m.iterate(v)
	if err != nil || len(items) == 0 {
		return jinja.Undefined(), err
	}
	return items[0], nil
}

func filterLast(m *machine, v Value, _ *arguments) (Value, error) {
	if isGenerator(v) {
		return v, fmt.Errorf("a generator has no last item")
	}
	items, err := m.iterate(v)
	if err != nil || len(items) == 0 {
		return jinja.Undefined(), err
	}
	return items[len(items)-1], nil
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

func filterItems(m *machine, v Value, _ *arguments) (Value, error) {
	if v.IsUndefined() {
		return m.generator(nil)
	}
	if !m.isDict(v) {
		return v, fmt.Errorf("%s has no items", typeName(v))
	}
	pairs, err := dictItems(m, v, nil)
	if err != nil {
		return v, err
	}
	return m.generator(pairs.AsList().Items)
}

func filterJoin(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	sep := ""
	if d, ok := a.get("d"); ok {
		if sep, err = m.str(d); err != nil {
			return v, err
		}
	}
	if attribute, ok := a.get("attribute"); ok {
		if items, err = m.attributes(items, attribute, jinja.Undefined()); err != nil {
			return v, err
		}
	}
	return m.join(items, sep)
}

func (m *machine) join(items []Value, sep string) (Value, error) {
	var b strings.Builder
	for i, item := range items {
		s, err := m.str(item)
		if err != nil {
			return item, err
		}
		if i > 0 {
			s = sep + s
		}
		if err := m.step(len(s)); err != nil {
			return item, err
		}
		b.WriteString(s)
	}
	return jinja.NewString(b.String()), nil
}

// attributes reads an attribute, or a path of them with dots, of each item.
func (m *machine) attributes(items []Value, name, missing Value) ([]Value, error) {
	out := make([]Value, 0, len(items))
	for _, v := range items {
		got, err := m.path(v, name)
		if err != nil {
			return nil, err
		}
		if got.IsUndefined() {
			got = missing
		}
		out = append(out, got)
	}
	return out, m.step(24 * len(items))
}

func (m *machine) path(v, name Value) (Value, error) {
	if !name.IsString() {
		return m.item(v, name)
	}
	for part := range strings.SplitSeq(name.AsString(), ".") {
		key := jinja.NewString(part)
		if n, err := strconv.ParseInt(part, 10, 32); err == nil && n >= 0 {
			key = jinja.NewInt(n)
		}
		var err error
		if v, err = m.item(v, key); err != nil {
			return v, err
		}
	}
	return v, nil
}

func filterLength(m *machine, v Value, _ *arguments) (Value, error) {
	switch {
	case v.IsString():
		return jinja.NewInt(int64(utf8.RuneCountInString(v.AsString()))), m.step(len(v.AsString()) / 16)
	case v.IsList():
		return jinja.NewInt(int64(v.AsList().Len())), nil
	case v.IsDict():
		return jinja.NewInt(int64(v.AsDict().Len())), nil
	case v.IsUndefined():
		return jinja.NewInt(0), nil
	}
	return v, fmt.Errorf("%s has no length", typeName(v))
}

func filterList(m *machine, v Value, _ *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	return m.list(slices.Clone(items))
}

// iterateTrue is iterate where none and whatever else is not true has no items: so it is in map, select and their kin.
func (m *machine) iterateTrue(v Value) ([]Value, error) {
	if !truth(v) {
		return nil, nil
	}
	return m.iterate(v)
}

func filterMap(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterateTrue(v)
	if err != nil {
		return v, err
	}
	if attribute, ok := a.named["attribute"]; ok {
		a.taken["attribute"] = true
		missing := jinja.Undefined()
		if d, ok := a.named["default"]; ok {
			a.taken["default"] = true
			missing = d
		}
		if items, err = m.attributes(items, attribute, missing); err != nil {
			return v, err
		}
		return m.generator(items)
	}
	name, _ := a.get("")
	if !name.IsString() {
		return v, fmt.Errorf("it takes attribute=… or the name of a filter")
	}
	rest := a.args[1:]
	a.at = len(a.args)
	out := make([]Value, 0, len(items))
	for _, item := range items {
		got, err := m.applyFilter(name.AsString(), item, rest, nil)
		if err != nil {
			return v, fmt.Errorf("%s: %w", name.AsString(), err)
		}
		out = append(out, got)
	}
	return m.generator(out)
}

// choose makes select, reject, selectattr and rejectattr.
func choose(attribute, keep bool) filter {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		items, err := m.iterateTrue(v)
		if err != nil {
			return v, err
		}
		var name Value
		if attribute {
			var ok bool
			if name, ok = a.get(""); !ok {
				return v, fmt.Errorf("it takes the name of an attribute")
			}
		}
		test, tested := a.get("")
		rest := a.args[min(a.at, len(a.args)):]
		a.at = len(a.args)
		var out []Value
		for _, item := range items {
			got := item
			if attribute {
				if got, err = m.path(item, name); err != nil {
					return v, err
				}
			}
			ok := truth(got)
			if tested {
				if ok, err = m.applyTest(test, got, rest); err != nil {
					return v, err
				}
			}
			if ok == keep {
				out = append(out, item)
			}
		}
		return m.generator(out)
	}
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

func filterReverse(m *machine, v Value, _ *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	switch {
	case v.IsString():
		return m.join(items, "")
	case isGenerator(v):
		return m.list(items)
	}
	return m.generator(items)
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

// folded is what sort, unique, min and max compare: strings without case unless told otherwise.
func folded(v Value, cased bool) Value {
	if v.IsString() && !cased {
		return jinja.NewString(strings.ToLower(v.AsString()))
	}
	return v
}

func filterSort(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	reverse, _ := a.get("reverse")
	cased, _ := a.get("case_sensitive")
	attribute, byAttribute := a.get("attribute")
	sortKeys := items
	if byAttribute && !attribute.IsNone() {
		if sortKeys, err = m.attributes(items, attribute, jinja.Undefined()); err != nil {
			return v, err
		}
	}
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		if truth(reverse) {
			i, j = j, i
		}
		x, y := folded(sortKeys[i], truth(cased)), folded(sortKeys[j], truth(cased))
		if byAttribute && m.equal(x, y, 0) {
			return 0
		}
		n, e := m.less(x, y)
		err = cmp.Or(err, e, m.step(0))
		return n
	})
	if err != nil {
		return v, err
	}
	out := make([]Value, len(items))
	for i, from := range order {
		out[i] = items[from]
	}
	return m.list(out)
}

func filterSum(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	if attribute, ok := a.get("attribute"); ok && !attribute.IsNone() {
		if items, err = m.attributes(items, attribute, jinja.Undefined()); err != nil {
			return v, err
		}
	}
	sum, ok := a.get("start")
	if !ok {
		sum = jinja.NewInt(0)
	}
	for _, item := range items {
		if sum, err = m.arithmetic("+", sum, item); err != nil {
			return v, err
		}
	}
	return sum, nil
}

// extreme makes min (-1) and max (1).
func extreme(sign int) filter {
	return func(m *machine, v Value, a *arguments) (Value, error) {
		items, err := m.iterate(v)
		if err != nil || len(items) == 0 {
			return jinja.Undefined(), err
		}
		cased, _ := a.get("case_sensitive")
		best := items[0]
		for _, item := range items[1:] {
			n, err := m.less(folded(item, truth(cased)), folded(best, truth(cased)))
			if err != nil {
				return v, err
			}
			if n*sign > 0 {
				best = item
			}
		}
		return best, m.step(len(items))
	}
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

func filterUnique(m *machine, v Value, a *arguments) (Value, error) {
	items, err := m.iterate(v)
	if err != nil {
		return v, err
	}
	cased, _ := a.get("case_sensitive")
	var out, seen []Value
	for _, item := range items {
		k := folded(item, truth(cased))
		if k.IsDict() || k.IsList() && m.kinds[k.AsList()] == "" {
			return v, fmt.Errorf("%s cannot be told from another", typeName(k))
		}
		if err := m.step(len(seen)); err != nil {
			return v, err
		}
		if !slices.ContainsFunc(seen, func(s Value) bool { return m.equal(s, k, 0) }) {
			out, seen = append(out, item), append(seen, k)
		}
	}
	return m.generator(out)
}

func filterWordcount(m *machine, v Value, _ *arguments) (Value, error) {
	s, err := m.str(v)
	words := strings.FieldsFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	return jinja.NewInt(int64(len(words))), cmp.Or(err, m.step(len(s)))
}

// filterToJSON is the tojson of transformers: json.dumps(value, ensure_ascii=False, indent=…, separators=…, sort_keys=…).
func filterToJSON(m *machine, v Value, a *arguments) (Value, error) {
	w := jsonWriter{m: m, comma: ", ", colon: ": "}
	if ascii, ok := a.get("ensure_ascii"); ok {
		w.ascii = truth(ascii)
	}
	if indent, ok := a.get("indent"); ok && !indent.IsNone() {
		n, isInt := whole(indent)
		if !isInt || n < 0 || n > 64 {
			return v, fmt.Errorf("an indent that is not supported")
		}
		w.indent, w.lines, w.comma = strings.Repeat(" ", int(n)), true, ","
	}
	if s, ok := a.get("separators"); ok && !s.IsNone() {
		if !s.IsList() || s.AsList().Len() != 2 || !s.AsList().Get(0).IsString() || !s.AsList().Get(1).IsString() {
			return v, fmt.Errorf("separators that are no pair of strings")
		}
		w.comma, w.colon = s.AsList().Get(0).AsString(), s.AsList().Get(1).AsString()
	}
	if sorted, ok := a.get("sort_keys"); ok {
		w.sorted = truth(sorted)
	}
	if err := w.value(v, 0); err != nil {
		return v, err
	}
	return m.text(w.b.String())
}

// jsonWriter writes what Python's json.dumps writes.
type jsonWriter struct {
	m            *machine
	b            strings.Builder
	indent       string
	lines        bool
	comma, colon string
	ascii        bool
	sorted       bool
}

func (w *jsonWriter) value(v Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("nested more than %d deep", maxNesting)
	}
	switch {
	case v.IsNone():
		w.b.WriteString("null")
	case v.IsBool():
		w.b.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		w.b.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		w.b.WriteString(map[string]string{"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[floatText(v.AsFloat())])
		if !math.IsInf(v.AsFloat(), 0) && !math.IsNaN(v.AsFloat()) {
			w.b.WriteString(floatText(v.AsFloat()))
		}
	case v.IsString():
		w.text(v.AsString())
	case v.IsList() && !w.m.fixed(v):
		items := v.AsList().Items
		return w.group('[', ']', len(items), depth, func(i int) error { return w.value(items[i], depth+1) })
	case w.m.isDict(v):
		d := v.AsDict()
		names := d.OrderedKeys()
		if w.sorted {
			slices.Sort(names)
		}
		return w.group('{', '}', len(names), depth, func(i int) error {
			w.text(names[i])
			w.b.WriteString(w.colon)
			return w.value(d.Data[names[i]], depth+1)
		})
	default:
		return fmt.Errorf("%s is not JSON", typeName(v))
	}
	return w.m.step(8)
}

func (w *jsonWriter) group(open, shut byte, n, depth int, item func(int) error) error {
	w.b.WriteByte(open)
	for i := range n {
		if i > 0 {
			w.b.WriteString(w.comma)
		}
		w.line(depth + 1)
		if err := item(i); err != nil {
			return err
		}
		if w.b.Len() > maxWork {
			return errWork
		}
	}
	if n > 0 {
		w.line(depth)
	}
	w.b.WriteByte(shut)
	return w.m.step(8)
}

func (w *jsonWriter) line(depth int) {
	if w.lines {
		w.b.WriteByte('\n')
		for range depth {
			w.b.WriteString(w.indent)
		}
	}
}

func (w *jsonWriter) text(s string) {
	w.b.WriteByte('"')
	for _, r := range s {
		switch short := strings.IndexRune("\"\\\n\r\t\b\f", r); {
		case short >= 0:
			w.b.WriteByte('\\')
			w.b.WriteByte("\"\\nrtbf"[short])
		case r < 0x20 || w.ascii && 0x7F < r && r < 0x10000:
			fmt.Fprintf(&w.b, "\\u%04x", r)
		case w.ascii && r >= 0x10000:
			fmt.Fprintf(&w.b, "\\u%04x\\u%04x", 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		default:
			w.b.WriteRune(r)
		}
	}
	w.b.WriteByte('"')
}
