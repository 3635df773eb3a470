package chat

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ardanlabs/jinja"
)

// What one rendering may use. Real templates and conversations stay far below all of these.
const (
	maxSource  = 256 << 10       // bytes of a template
	maxOutput  = 16 << 20        // bytes of a prompt
	maxWork    = 256 << 20       // bytes of all values made on the way
	maxRange   = 100_000         // numbers of all range() together, as one range() of Jinja2's sandbox
	maxTime    = 5 * time.Second // wall clock
	maxMacros  = 64              // macros inside macros
	timeChecks = 256             // operations between two looks at the clock
)

// machine is the state of one rendering, and the functions that translated templates call. Every loop and every macro calls one of them, so a rendering ends.
type machine struct {
	now      time.Time
	deadline time.Time
	limit    time.Duration
	steps    int
	work     int                    // bytes made
	output   int                    // bytes printed
	numbers  int                    // of range
	macros   int                    // depth
	spaces   map[*jinja.Dict]bool   // made by namespace()
	kinds    map[*jinja.List]string // lists that are no list in Python: "tuple", "range(0, 3)", "dict_keys" …
	raised   *RaisedError
	failed   error // a limit that was passed
}

// RaisedError is a template's own refusal, by raise_exception.
type RaisedError struct{ Message string }

func (e *RaisedError) Error() string {
	return "the chat template refuses this conversation: " + e.Message
}

// Value is a value of the template language.
type Value = jinja.Value

type function = func(args []Value, named map[string]Value) (Value, error)

// step counts an operation that makes n bytes. Its error stays: a rendering that has passed a limit does nothing more.
func (m *machine) step(n int) error {
	if m.failed != nil {
		return m.failed
	}
	m.steps++
	if m.work += n; m.work > maxWork || n > maxWork {
		m.failed = errWork
	} else if (m.steps%timeChecks == 0 || n > 1<<20) && time.Now().After(m.deadline) {
		m.failed = fmt.Errorf("takes longer than %v", m.limit)
	}
	return m.failed
}

var errWork = fmt.Errorf("makes more than %d MiB of values", maxWork>>20)

// text makes a string value.
func (m *machine) text(s string) (Value, error) { return jinja.NewString(s), m.step(len(s)) }

// list makes a list value.
func (m *machine) list(items []Value) (Value, error) {
	return jinja.NewList(items), m.step(24 * len(items))
}

// special makes a list that Python prints, compares and adds in another way.
func (m *machine) special(items []Value, kind string) (Value, error) {
	v, err := m.list(items)
	m.kinds[v.AsList()] = kind
	return v, err
}

// generator makes what Python's lazy filters return: it is true, can be gone through once, and nothing else.
func (m *machine) generator(items []Value) (Value, error) {
	return jinja.NewCallable(generatorName, func(args []Value, _ map[string]Value) (Value, error) {
		n := len(items)
		if len(args) > 0 { // the first item alone
			n = min(n, 1)
		}
		out := items[:n]
		items = items[n:]
		return jinja.NewList(out), nil
	}), m.step(24 * len(items))
}

const generatorName = "generator"

func isGenerator(v Value) bool { return v.IsCallable() && v.AsCallable().Name == generatorName }

// isLoop reports the variable loop: the library writes its members past the list of keys.
func isLoop(d *jinja.Dict) bool { return len(d.Keys) != len(d.Data) }

// isDict reports a dictionary, which loop and namespaces are not in Python.
func (m *machine) isDict(v Value) bool {
	return v.IsDict() && !isLoop(v.AsDict()) && !m.spaces[v.AsDict()]
}

// functions are the names that translate writes.
func (m *machine) functions() map[string]function {
	all := map[string]function{
		"_out":     m.out,
		"_keep":    m.keep,
		"_step":    func([]Value, map[string]Value) (Value, error) { return jinja.NewString(""), m.step(0) },
		"_enter":   m.enter,
		"_leave":   m.leave,
		"_items1":  m.items1,
		"_items2":  m.items2,
		"_member":  m.member,
		"_attr":    two(m.attr),
		"_item":    two(m.item),
		"_slice":   m.slice,
		"_method":  m.method,
		"_filter":  m.filter,
		"_test":    m.test,
		"_nottest": m.nottest,
		"_dict":    m.dict,
		"_tuple":   func(a []Value, _ map[string]Value) (Value, error) { return m.special(a, "tuple") },
		"_chain":   m.chain,
		"_true":    func(a []Value, _ map[string]Value) (Value, error) { return jinja.NewBool(truth(a[0])), m.step(0) },
		"_not":     func(a []Value, _ map[string]Value) (Value, error) { return jinja.NewBool(!truth(a[0])), m.step(0) },
		"_neg":     func(a []Value, _ map[string]Value) (Value, error) { return m.arithmetic("-", jinja.NewInt(0), a[0]) },
		"_pos":     func(a []Value, _ map[string]Value) (Value, error) { return m.arithmetic("+", jinja.NewInt(0), a[0]) },
		"_float":   func(a []Value, _ map[string]Value) (Value, error) { return parseFloat(a[0].AsString()), m.step(0) },
		"_cat":     two(m.concat),
		"_star":    m.unsupported("* before an argument"),
		"_empty":   func([]Value, map[string]Value) (Value, error) { return m.list(nil) },
		"_push":    m.push,

		"v_range":           m.rangeOf,
		"v_namespace":       m.namespace,
		"v_dict":            m.dictOf,
		"v_raise_exception": m.raise,
		"v_strftime_now":    m.strftimeNow,
		"v_joiner":          m.joiner,
		"v_cycler":          m.unsupported("cycler"),
		"v_lipsum":          m.unsupported("lipsum"),
	}
	for op, name := range arithmetic {
		if op != "~" {
			all[name] = two(func(a, b Value) (Value, error) { return m.arithmetic(op, a, b) })
		}
	}
	for op, name := range comparisons {
		all[name] = two(func(a, b Value) (Value, error) {
			ok, err := m.compare(op, a, b)
			if err == nil {
				err = m.step(0)
			}
			return jinja.NewBool(ok), err
		})
	}
	return all
}

func two(f func(a, b Value) (Value, error)) function {
	return func(args []Value, _ map[string]Value) (Value, error) { return f(args[0], args[1]) }
}

func (m *machine) unsupported(name string) function {
	return func([]Value, map[string]Value) (Value, error) {
		return jinja.Undefined(), fmt.Errorf("%s is not supported", name)
	}
}

// out prints a value.
func (m *machine) out(args []Value, _ map[string]Value) (Value, error) {
	s, err := m.str(args[0])
	if err != nil {
		return jinja.Undefined(), err
	}
	if m.output += len(s); m.output > 4*maxOutput { // what macros print is printed again
		return jinja.Undefined(), fmt.Errorf("makes more than %d MiB of text", maxOutput>>20)
	}
	return jinja.NewString(s), m.step(len(s))
}

// keep is what set assigns.
func (m *machine) keep(args []Value, _ map[string]Value) (Value, error) { return args[0], m.step(0) }

func (m *machine) enter([]Value, map[string]Value) (Value, error) {
	if m.macros++; m.macros > maxMacros {
		return jinja.Undefined(), fmt.Errorf("calls macros more than %d deep", maxMacros)
	}
	return jinja.NewString(""), m.step(0)
}

func (m *machine) leave([]Value, map[string]Value) (Value, error) {
	m.macros--
	return jinja.NewString(""), m.step(0)
}

// iterate lists what a loop goes through.
func (m *machine) iterate(v Value) ([]Value, error) {
	switch {
	case v.IsUndefined():
		return nil, nil
	case v.IsList():
		return v.AsList().Items, m.step(0)
	case isGenerator(v):
		all, _ := v.AsCallable().Fn(nil, nil)
		return all.AsList().Items, m.step(0)
	case m.isDict(v):
		return keys(v.AsDict()), m.step(24 * v.AsDict().Len())
	case v.IsString():
		var out []Value
		err := m.step(24 * len(v.AsString()))
		if err != nil {
			return nil, err
		}
		for _, r := range v.AsString() {
			out = append(out, jinja.NewString(string(r)))
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s cannot be looped over", typeName(v))
}

func keys(d *jinja.Dict) []Value {
	out := make([]Value, 0, d.Len())
	for _, k := range d.Keys {
		out = append(out, jinja.NewString(k))
	}
	return out
}

func (m *machine) items1(args []Value, _ map[string]Value) (Value, error) {
	items, err := m.iterate(args[0])
	if err != nil {
		return jinja.Undefined(), err
	}
	return jinja.NewList(items), nil
}

// items2 is items1 for a loop over two names.
func (m *machine) items2(args []Value, _ map[string]Value) (Value, error) {
	items, err := m.iterate(args[0])
	if err != nil {
		return jinja.Undefined(), err
	}
	for _, item := range items {
		if !item.IsList() || item.AsList().Len() != 2 {
			return jinja.Undefined(), fmt.Errorf("a loop over two names has an item that is not a pair")
		}
	}
	return jinja.NewList(items), nil
}

// push adds a pair to a list of ours.
func (m *machine) push(args []Value, _ map[string]Value) (Value, error) {
	pair, err := m.special(args[1:], "tuple")
	if err == nil {
		args[0].AsList().Append(pair)
	}
	return jinja.NewString(""), err
}

// member checks {% set namespace.name = value %} and returns the value.
func (m *machine) member(args []Value, _ map[string]Value) (Value, error) {
	if !args[0].IsDict() || !m.spaces[args[0].AsDict()] {
		return jinja.Undefined(), fmt.Errorf("cannot set a member of anything but a namespace")
	}
	return args[1], m.step(0)
}

func (m *machine) namespace(args []Value, named map[string]Value) (Value, error) {
	v, err := m.dictOf(args, named)
	if err == nil {
		m.spaces[v.AsDict()] = true
	}
	return v, err
}

func (m *machine) dictOf(args []Value, named map[string]Value) (Value, error) {
	v := jinja.NewDict()
	if len(args) > 1 || len(args) == 1 && !args[0].IsDict() {
		return v, fmt.Errorf("dict and namespace take one dictionary and named values")
	}
	if len(args) == 1 {
		for _, k := range args[0].AsDict().Keys {
			v.AsDict().Set(k, args[0].AsDict().Data[k])
		}
	}
	for _, k := range sortedKeys(named) {
		v.AsDict().Set(strings.TrimPrefix(k, "v_"), named[k])
	}
	return v, m.step(48 * v.AsDict().Len())
}

func (m *machine) dict(args []Value, _ map[string]Value) (Value, error) {
	v := jinja.NewDict()
	for i := 0; i+1 < len(args); i += 2 {
		if !args[i].IsString() {
			return v, fmt.Errorf("a dictionary with a key that is not a string is not supported")
		}
		v.AsDict().Set(args[i].AsString(), args[i+1])
	}
	return v, m.step(24 * len(args))
}

// rangeOf is range(stop), range(start, stop) and range(start, stop, step).
func (m *machine) rangeOf(args []Value, _ map[string]Value) (Value, error) {
	n := [3]int64{0, 0, 1}
	for i, a := range args {
		if i == 3 || !a.IsInt() {
			return jinja.Undefined(), fmt.Errorf("range takes one to three whole numbers")
		}
		n[i] = a.AsInt()
	}
	switch len(args) {
	case 0:
		return jinja.Undefined(), fmt.Errorf("range takes one to three whole numbers")
	case 1:
		n[0], n[1] = 0, n[0]
	}
	if n[2] == 0 {
		return jinja.Undefined(), fmt.Errorf("range with step 0")
	}
	var out []Value
	for i := n[0]; n[2] > 0 && i < n[1] || n[2] < 0 && i > n[1]; i += n[2] {
		if m.numbers++; m.numbers > maxRange {
			return jinja.Undefined(), fmt.Errorf("asks range for more than %d numbers", maxRange)
		}
		out = append(out, jinja.NewInt(i))
		if n[2] > 0 && i > math.MaxInt64-n[2] || n[2] < 0 && i < math.MinInt64-n[2] {
			break
		}
	}
	kind := fmt.Sprintf("range(%d, %d, %d)", n[0], n[1], n[2])
	return m.special(out, strings.Replace(kind, ", 1)", ")", 1))
}

func (m *machine) raise(args []Value, _ map[string]Value) (Value, error) {
	m.raised = &RaisedError{}
	if len(args) > 0 {
		m.raised.Message, _ = m.str(args[0])
	}
	return jinja.Undefined(), m.raised
}

func (m *machine) joiner(args []Value, named map[string]Value) (Value, error) {
	sep := jinja.NewString(", ")
	if v, ok := named["v_sep"]; ok {
		sep = v
	} else if len(args) > 0 {
		sep = args[0]
	}
	used := false
	return jinja.NewCallable("joiner", func([]Value, map[string]Value) (Value, error) {
		if !used {
			used = true
			return jinja.NewString(""), m.step(0)
		}
		return sep, m.step(0)
	}), m.step(0)
}

func (m *machine) strftimeNow(args []Value, _ map[string]Value) (Value, error) {
	if len(args) != 1 || !args[0].IsString() {
		return jinja.Undefined(), fmt.Errorf("strftime_now takes a format")
	}
	s, err := strftime(m.now, args[0].AsString())
	if err != nil {
		return jinja.Undefined(), err
	}
	return m.text(s)
}

// strftime writes a time by the directives of C.
func strftime(t time.Time, format string) (string, error) {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002",
		'B': "January", 'b': "Jan", 'h': "Jan", 'A': "Monday", 'a': "Mon", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'R': "15:04", 'e': "_2",
	}
	short := map[byte]string{'d': "2", 'm': "1", 'I': "3", 'M': "4", 'S': "5", 'y': "06"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		table := layouts
		if i < len(format) && format[i] == '-' {
			i++
			table = short
		}
		switch {
		case i < len(format) && table[format[i]] != "":
			b.WriteString(t.Format(table[format[i]]))
		case i < len(format) && format[i-1] == '-' && format[i] == 'H':
			fmt.Fprintf(&b, "%d", t.Hour())
		case i < len(format) && format[i] == '%':
			b.WriteByte('%')
		case i < len(format) && format[i] == 'f':
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		default:
			return "", fmt.Errorf("strftime_now: %q is not supported", format[i-1:])
		}
	}
	return b.String(), nil
}
