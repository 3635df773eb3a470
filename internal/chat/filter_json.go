package chat

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

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
