// Package jsonx reads and writes JSON as Python's json module does: the order of keys is kept, numbers keep their text, NaN and infinities are allowed, and of a key that is
// there twice the last value counts, at the first place. config.json has to come out byte for byte as Python writes it.
package jsonx

import (
	"math"
	"strconv"
	"strings"
)

// Number is a number as it was written: "1e6", "-0", "NaN".
type Number string

// Object keeps its keys in order. Values are nil, bool, Number, string, []any and *Object.
type Object struct {
	keys   []string
	values map[string]any
}

// NewObject is an empty object.
func NewObject() *Object { return &Object{values: map[string]any{}} }

// Keys in order.
func (o *Object) Keys() []string { return append([]string{}, o.keys...) }

// Len is the number of keys.
func (o *Object) Len() int { return len(o.keys) }

// Get a value.
func (o *Object) Get(key string) (any, bool) {
	v, ok := o.values[key]
	return v, ok
}

// Set a value; a new key goes to the end.
func (o *Object) Set(key string, v any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// Delete a key.
func (o *Object) Delete(key string) {
	if _, ok := o.values[key]; !ok {
		return
	}
	delete(o.values, key)
	for i, k := range o.keys {
		if k == key {
			o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
			return
		}
	}
}

// Clone copies an object and everything in it.
func (o *Object) Clone() *Object {
	c := NewObject()
	for _, k := range o.keys {
		c.Set(k, clone(o.values[k]))
	}
	return c
}

func clone(v any) any {
	switch v := v.(type) {
	case *Object:
		return v.Clone()
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = clone(e)
		}
		return list
	}
	return v
}

// Object reads a value that is an object.
func (o *Object) Object(key string) (*Object, bool) {
	v, ok := o.values[key].(*Object)
	return v, ok
}

// String reads a value that is a string.
func (o *Object) String(key string) (string, bool) {
	v, ok := o.values[key].(string)
	return v, ok
}

// Bool reads a value that is true or false.
func (o *Object) Bool(key string) (bool, bool) {
	v, ok := o.values[key].(bool)
	return v, ok
}

// Int reads a value that is written as an integer and fits int64.
func (o *Object) Int(key string) (int64, bool) {
	n, ok := o.values[key].(Number)
	if !ok {
		return 0, false
	}
	return n.Int()
}

// Float reads a number.
func (o *Object) Float(key string) (float64, bool) {
	n, ok := o.values[key].(Number)
	if !ok {
		return 0, false
	}
	return n.Float(), true
}

// Int is the value of a number that is written as an integer and fits int64.
func (n Number) Int() (int64, bool) {
	if !n.IsInt() {
		return 0, false
	}
	v, err := strconv.ParseInt(string(n), 10, 64)
	return v, err == nil
}

// Float is the nearest float64, as Python's float() reads it: what is too large is infinite.
func (n Number) Float() float64 {
	switch n {
	case "NaN":
		return math.NaN()
	case "Infinity":
		return math.Inf(1)
	case "-Infinity":
		return math.Inf(-1)
	}
	v, _ := strconv.ParseFloat(string(n), 64) // out of range gives an infinity, which is what is wanted
	return v
}

// IsInt reports whether Python reads the number as an int: no point, no exponent.
func (n Number) IsInt() bool { return !strings.ContainsAny(string(n), ".eEIN") }

// IntNumber and FloatNumber are the Number of a value.
func IntNumber(v int64) Number { return Number(strconv.FormatInt(v, 10)) }

// FloatNumber writes a float64 as Python's repr does.
func FloatNumber(v float64) Number { return Number(reprFloat(v)) }

// reprFloat is Python's repr of a float: the shortest digits that read back the same, with an exponent only below 1e-4 or from 1e16.
func reprFloat(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	case v == 0:
		if math.Signbit(v) {
			return "-0.0"
		}
		return "0.0"
	}
	if a := math.Abs(v); a >= 1e-4 && a < 1e16 {
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	return strconv.FormatFloat(v, 'e', -1, 64) // 1e-05, 1e+16: two digits of exponent at least, as Python
}

// reprInt is Python's str of an int literal. JSON has no leading zeros and no plus, so the text is its own value, but for -0.
func reprInt(n Number) string {
	if n == "-0" {
		return "0"
	}
	return string(n)
}
