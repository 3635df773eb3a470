// Package safetensors reads and writes the safetensors format: strict reading of headers from anywhere, one canonical layout of our own.
//
// A file is 8 bytes N (little-endian), N bytes of JSON that name each tensor's dtype, shape and place, then the data. Reading refuses what the format's description forbids, also
// where other readers are lenient: duplicate names, holes, overlaps, trailing bytes, sizes that do not follow from dtype and shape. Nothing is allocated that the file does not hold.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"sort"
	"strconv"
	"unicode/utf8"
)

// MaxHeader is the largest header that the format allows.
const MaxHeader = 100_000_000

// maxElements is the largest number of elements that a tensor may name.
const maxElements = 1 << 53

// Tensor is one entry of a header. Begin and End are offsets in the file.
type Tensor struct {
	Name       string
	DType      string
	Shape      []int64
	Begin, End int64
}

// Bytes of the tensor's data.
func (t Tensor) Bytes() int64 { return t.End - t.Begin }

// Elements is the product of the shape; 1 for a scalar.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Header is what a file says of itself.
type Header struct {
	Tensors  []Tensor // in file order
	Metadata map[string]string
	Raw      []byte   // the 8 length bytes and the JSON, as in the file
	Warnings []string // harmless oddities
}

// FormatError says what is wrong with a file or folder, in plain words.
type FormatError struct{ File, What string }

func (e *FormatError) Error() string {
	if e.File == "" {
		return e.What
	}
	return e.File + ": " + e.What
}

// dtypeBits are the sizes of elements.
var dtypeBits = map[string]int{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}

// DTypeSize is the size of an element in bits.
func DTypeSize(dtype string) (bits int, ok bool) {
	bits, ok = dtypeBits[dtype]
	return bits, ok
}

// ParseHeader reads the header of a file of this size. It reads nothing else.
func ParseHeader(r io.ReaderAt, size int64) (*Header, error) {
	if size < 8 {
		return nil, bad("it has %d bytes, too few for a safetensors file", size)
	}
	var prefix [8]byte
	if _, err := r.ReadAt(prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	switch {
	case n > MaxHeader:
		return nil, bad("its header claims %d bytes; the format allows %d (is it a safetensors file?)", n, MaxHeader)
	case int64(n) > size-8:
		return nil, bad("its header claims %d bytes, and the file has only %d: it is cut off", n, size)
	}
	raw := make([]byte, 8+n)
	copy(raw, prefix[:])
	if _, err := r.ReadAt(raw[8:], 8); err != nil && err != io.EOF {
		return nil, err
	}
	h := &Header{Raw: raw}
	if err := h.parse(raw[8:]); err != nil {
		return nil, err
	}
	return h, h.check(int64(8+n), size)
}

func bad(format string, args ...any) error { return &FormatError{What: fmt.Sprintf(format, args...)} }

// parse walks the JSON by tokens, because a map would hide repeated keys.
func (h *Header) parse(text []byte) error {
	if !utf8.Valid(text) {
		return bad("its header is not UTF-8")
	}
	d := decoder{json.NewDecoder(bytes.NewReader(text))}
	d.UseNumber()
	seen := map[string]bool{}
	err := d.object(func(name string) error {
		if seen[name] {
			return bad("tensor %s is in its header twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			return h.metadata(d)
		}
		t, err := h.tensor(d, name)
		h.Tensors = append(h.Tensors, t)
		return err
	})
	if err != nil {
		return words(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("something stands behind the JSON of its header")
	}
	return nil
}

func words(err error) error {
	if _, ok := err.(*FormatError); ok {
		return err
	}
	return bad("its header is not the JSON that the format describes: %v", err)
}

type decoder struct{ *json.Decoder }

// object reads {...}, calling value at each key; value must read the key's value.
func (d decoder) object(value func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if err := value(key.(string)); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d decoder) delim(want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return bad("its header has %v where %v is expected", t, want)
	}
	return nil
}

func (h *Header) metadata(d decoder) error {
	h.Metadata = map[string]string{}
	if next, err := d.Token(); err != nil || next == nil { // null, as MLX writes when there is none
		return err
	} else if next != json.Delim('{') {
		return bad("its __metadata__ is not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		v, err := d.Token()
		if err != nil {
			return err
		}
		text, ok := v.(string)
		if !ok {
			return bad("__metadata__ %v is not text", key)
		}
		h.Metadata[key.(string)] = text
	}
	return d.delim('}')
}

func (h *Header) tensor(d decoder, name string) (Tensor, error) {
	t := Tensor{Name: name, Begin: -1}
	seen := map[string]bool{}
	err := d.object(func(key string) (err error) {
		if seen[key] {
			return bad("tensor %s: %s is there twice", name, key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			v, err := d.Token()
			if text, ok := v.(string); ok {
				t.DType = text
				return nil
			}
			return orBad(err, "tensor %s: its dtype is not text", name)
		case "shape":
			t.Shape, err = d.numbers(name, key)
		case "data_offsets":
			var at []int64
			if at, err = d.numbers(name, key); err == nil && len(at) != 2 {
				err = bad("tensor %s: its data_offsets are not two numbers", name)
			}
			if err == nil {
				t.Begin, t.End = at[0], at[1]
			}
		default:
			h.Warnings = append(h.Warnings, fmt.Sprintf("tensor %s has an unknown key %q in its header", name, key))
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		return err
	})
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if err == nil && !seen[key] {
			err = bad("tensor %s has no %s", name, key)
		}
	}
	return t, err
}

func orBad(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return bad(format, args...)
}

// numbers reads a list of integers that are not negative.
func (d decoder) numbers(name, key string) ([]int64, error) {
	if err := d.delim('['); err != nil {
		return nil, bad("tensor %s: its %s is not a list", name, key)
	}
	out := []int64{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		n, ok := t.(json.Number)
		v, err := strconv.ParseInt(string(n), 10, 64)
		if !ok || err != nil || v < 0 || v > maxElements {
			return nil, bad("tensor %s: %v in its %s is not a number that can be there", name, t, key)
		}
		out = append(out, v)
	}
	return out, d.delim(']')
}

// check judges every tensor's size and that together they cover the data without holes or overlaps. Offsets become absolute.
func (h *Header) check(data, size int64) error {
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if err := t.check(size - data); err != nil {
			return err
		}
		t.Begin += data
		t.End += data
	}
	sort.SliceStable(h.Tensors, func(i, j int) bool {
		a, b := h.Tensors[i], h.Tensors[j]
		if a.Begin != b.Begin {
			return a.Begin < b.Begin
		}
		if a.End != b.End {
			return a.End < b.End
		}
		return a.Name < b.Name
	})
	at := data
	for _, t := range h.Tensors {
		switch {
		case t.Begin < at:
			return bad("tensor %s overlaps the one before it", t.Name)
		case t.Begin > at:
			return bad("%d bytes before tensor %s belong to no tensor", t.Begin-at, t.Name)
		}
		at = t.End
	}
	if at != size {
		return bad("%d bytes at its end belong to no tensor", size-at)
	}
	return nil
}

func (t Tensor) check(room int64) error {
	width, ok := dtypeBits[t.DType]
	if !ok {
		return bad("tensor %s has the unknown dtype %q", t.Name, t.DType)
	}
	if t.End < t.Begin {
		return bad("tensor %s ends before it begins", t.Name)
	}
	if t.End > room {
		return bad("tensor %s ends at byte %d of the data, and the file has only %d: it is cut off", t.Name, t.End, room)
	}
	elements := uint64(1)
	for _, d := range t.Shape {
		high, low := bits.Mul64(elements, uint64(d))
		if high != 0 || low > maxElements {
			return bad("tensor %s has a shape of more elements than can be", t.Name)
		}
		elements = low
	}
	total := elements * uint64(width)
	if total%8 != 0 || total/8 > math.MaxInt64 || int64(total/8) != t.Bytes() {
		return bad("tensor %s: its %d bytes do not match shape %v of %s (%d)", t.Name, t.Bytes(), t.Shape, t.DType, total/8)
	}
	return nil
}
