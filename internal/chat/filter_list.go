package chat

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

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
