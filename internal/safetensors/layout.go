package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
)

// Spec is a tensor to be written.
type Spec struct {
	Name, DType string
	Shape       []int64
}

func (s Spec) bytes() (int64, error) {
	width, ok := dtypeBits[s.DType]
	if !ok {
		return 0, bad("tensor %s has the unknown dtype %q", s.Name, s.DType)
	}
	n := int64(width)
	for _, d := range s.Shape {
		if d < 0 || d > 0 && n > maxElements*64/d {
			return 0, bad("tensor %s has a shape that cannot be: %v", s.Name, s.Shape)
		}
		n *= d
	}
	return (n + 7) / 8, nil
}

// Shard is one file to be written: its whole header, and where each tensor goes.
type Shard struct {
	Name    string
	Header  []byte   // with the 8 length bytes
	Tensors []Tensor // in file order; offsets in the file
	Size    int64
}

// alignment of the data's start, so that tensors of a mapped file lie well for vector loads.
const alignment = 64

// Layout places tensors in files: by dtype size descending, then by name bytewise; shards greedy in that order, at most shardSize bytes of data each, a larger tensor alone. The same
// tensors give the same bytes on every machine.
func Layout(specs []Spec, shardSize int64) ([]Shard, error) {
	ordered := append([]Spec{}, specs...)
	sort.Slice(ordered, func(i, j int) bool {
		a, b := dtypeBits[ordered[i].DType], dtypeBits[ordered[j].DType]
		if a != b {
			return a > b
		}
		return ordered[i].Name < ordered[j].Name
	})
	var groups [][]Spec
	var room int64
	for i, s := range ordered {
		if i > 0 && s.Name == ordered[i-1].Name {
			return nil, bad("tensor %s is there twice", s.Name)
		}
		n, err := s.bytes()
		if err != nil {
			return nil, err
		}
		if groups == nil || n > room {
			groups, room = append(groups, nil), shardSize
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], s)
		room -= n
	}
	shards := make([]Shard, len(groups))
	for i, g := range groups {
		name := "model.safetensors"
		if len(groups) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(groups))
		}
		shards[i] = layoutOne(name, g)
	}
	return shards, nil
}

func layoutOne(name string, specs []Spec) Shard {
	s := Shard{Name: name}
	var text bytes.Buffer
	text.WriteString(`{"__metadata__":{"format":"mlx"}`)
	var at int64
	for _, spec := range specs {
		n, _ := spec.bytes() // checked by Layout
		t := Tensor{Name: spec.Name, DType: spec.DType, Shape: spec.Shape, Begin: at, End: at + n}
		fmt.Fprintf(&text, `,%s:{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`, quoted(t.Name), t.DType, joined(t.Shape), t.Begin, t.End)
		s.Tensors = append(s.Tensors, t)
		at += n
	}
	text.WriteByte('}')
	for (8+text.Len())%alignment != 0 {
		text.WriteByte(' ')
	}
	s.Header = append(binary.LittleEndian.AppendUint64(nil, uint64(text.Len())), text.Bytes()...)
	start := int64(len(s.Header))
	for i := range s.Tensors {
		s.Tensors[i].Begin += start
		s.Tensors[i].End += start
	}
	s.Size = start + at
	return s
}

func quoted(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // text always encodes
		panic(err)
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func joined(shape []int64) string {
	var b []byte
	for i, d := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	return string(b)
}
