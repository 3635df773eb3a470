package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// file makes a safetensors file of a header and n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

func parse(data []byte) (*safetensors.Header, error) {
	return safetensors.ParseHeader(bytes.NewReader(data), int64(len(data)))
}

// Every way in which a header can lie has a rule that finds it.
func TestHostileHeaders(t *testing.T) {
	huge := binary.LittleEndian.AppendUint64(nil, 1<<40)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":            {nil, "too few for a safetensors file"},
		"short":            {[]byte("1234567"), "too few"},
		"huge header":      {huge, "the format allows 100000000"},
		"cut header":       {binary.LittleEndian.AppendUint64(nil, 100), "it is cut off"},
		"not JSON":         {file("{nonsense", 0), "not the JSON"},
		"not an object":    {file("[]", 0), "its header has [ where { is expected"},
		"trailing":         {file(`{}{}`, 0), "something stands behind"},
		"not UTF-8":        {file("{\"\xff\":1}", 0), "not UTF-8"},
		"twice":            {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "tensor a is in its header twice"},
		"inner twice":      {file(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "dtype is there twice"},
		"no shape":         {file(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1), "tensor a has no shape"},
		"upper case key":   {file(`{"a":{"DTYPE":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "tensor a has no dtype"},
		"unknown dtype":    {file(`{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}`, 1), `unknown dtype "F7"`},
		"negative":         {file(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1), "is not a number that can be there"},
		"float":            {file(`{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1), "is not a number that can be there"},
		"exponent":         {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1e0]}}`, 1), "is not a number that can be there"},
		"three offsets":    {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), "are not two numbers"},
		"backwards":        {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "ends before it begins"},
		"beyond":           {file(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 1), "it is cut off"},
		"overflow":         {file(`{"a":{"dtype":"F32","shape":[9007199254740992,9007199254740992],"data_offsets":[0,4]}}`, 4), "more elements than can be"},
		"size":             {file(`{"a":{"dtype":"BF16","shape":[2049],"data_offsets":[0,4096]}}`, 4096), "tensor a: its 4096 bytes do not match shape [2049] of BF16 (4098)"},
		"half byte":        {file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), "do not match"},
		"overlap":          {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), "tensor b overlaps"},
		"hole":             {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), "1 bytes before tensor b belong to no tensor"},
		"bytes at the end": {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2), "1 bytes at its end"},
		"metadata":         {file(`{"__metadata__":{"format":1}}`, 0), "is not text"},
		"metadata list":    {file(`{"__metadata__":[]}`, 0), "is not an object"},
		"deep":             {file(strings.Repeat(`{"a":`, 20000)+strings.Repeat("}", 20000), 0), "header"},
	} {
		_, err := parse(c.data)
		var fe *safetensors.FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestGoodHeaders(t *testing.T) {
	h, err := parse(file(` {"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[2,6]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"extra":{"x":[1]}},`+
		`"e":{"dtype":"F16","shape":[0,3],"data_offsets":[6,6]}}   `, 6))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Tensors) != 3 || h.Tensors[0].Name != "a" || h.Tensors[1].Elements() != 1 || h.Metadata["format"] != "pt" || len(h.Warnings) != 1 {
		t.Errorf("%+v", h)
	}
	if _, err := parse(file(`{"__metadata__":null}`, 0)); err != nil {
		t.Errorf("null metadata, as mlx writes: %v", err)
	}
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func one(name string) []byte {
	return file(fmt.Sprintf(`{%q:{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, name), 1)
}

func TestOpenFolder(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string // "" = opens
	}{
		"single":            {map[string][]byte{"model.safetensors": one("a")}, ""},
		"two without index": {map[string][]byte{"model-1.safetensors": one("a"), "model-2.safetensors": one("b")}, ""},
		"twice":             {map[string][]byte{"model-1.safetensors": one("a"), "model-2.safetensors": one("a")}, "tensor a is also in model-1.safetensors"},
		"index":             {map[string][]byte{"x.safetensors": one("a"), "model.safetensors.index.json": []byte(`{"weight_map":{"a":"x.safetensors"}}`)}, ""},
		"missing shard":     {map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}`)}, "this shard is missing; model.safetensors.index.json says that it holds 2 tensors"},
		"outside":           {map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"../x.safetensors"}}`)}, "not a plain file name"},
		"absolute":          {map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"/etc/x.safetensors"}}`)}, "not a plain file name"},
		"backslash":         {map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"..\\x.safetensors"}}`)}, "not a plain file name"},
		"device":            {map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"nul.safetensors"}}`)}, "not a plain file name"},
		"not there":         {map[string][]byte{"x.safetensors": one("b"), "model.safetensors.index.json": []byte(`{"weight_map":{"a":"x.safetensors"}}`)}, "tensor a is not in it"},
		"not named":         {map[string][]byte{"x.safetensors": file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "model.safetensors.index.json": []byte(`{"weight_map":{"a":"x.safetensors"}}`)}, "does not name tensor b"},
		"no map":            {map[string][]byte{"model.safetensors.index.json": []byte(`{}`)}, "has no weight_map"},
		"gguf only":         {map[string][]byte{"model.gguf": nil}, "only model.gguf, which this version does not read"},
		"nothing":           {nil, "there is no model*.safetensors"},
	} {
		dir := t.TempDir()
		write(t, dir, c.files)
		_, err := safetensors.OpenFolder(dir)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// The Hugging Face cache is made of symbolic links.
func TestLinkedShard(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"blob": one("a")})
	if err := os.Symlink("blob", filepath.Join(dir, "model.safetensors")); err != nil {
		oracle.Missing(t, "this system has no symbolic links: "+err.Error())
	}
	if f, err := safetensors.OpenFolder(dir); err != nil || len(f.Tensors()) != 1 {
		t.Error(err)
	}
}

// Layout's files are what it says: data aligned, in its order, read back by our reader; with shards, none above the size but single tensors.
func TestLayout(t *testing.T) {
	specs := []safetensors.Spec{{"b", "U8", []int64{3}}, {"ü<&\"", "BF16", []int64{5}}, {"a", "U32", []int64{2, 3}}, {"z", "U32", []int64{100}}, {"s", "F32", nil}, {"e", "F16", []int64{0}}}
	for _, size := range []int64{1 << 40, 30, 1} {
		shards, err := safetensors.Layout(specs, size)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for i, s := range shards {
			if want := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards)); len(shards) > 1 && s.Name != want {
				t.Errorf("shard %s, want %s", s.Name, want)
			}
			h, err := parse(append(bytes.Clone(s.Header), make([]byte, s.Size-int64(len(s.Header)))...))
			if err != nil || len(s.Header)%64 != 0 || h.Metadata["format"] != "mlx" {
				t.Fatalf("%v, header of %d bytes", err, len(s.Header))
			}
			if s.Size-int64(len(s.Header)) > size && len(s.Tensors) > 1 {
				t.Errorf("shard %s has %d bytes of data", s.Name, s.Size-int64(len(s.Header)))
			}
			seen += len(h.Tensors)
		}
		if seen != len(specs) {
			t.Errorf("size %d: %d tensors in %d files", size, seen, len(shards))
		}
	}
	shards, _ := safetensors.Layout(specs, 1<<40)
	var order []string
	for _, x := range shards[0].Tensors {
		order = append(order, x.Name)
	}
	if fmt.Sprint(order) != "[a s z e ü<&\" b]" {
		t.Errorf("order %v", order)
	}
	if _, err := safetensors.Layout([]safetensors.Spec{{"a", "U8", nil}, {"a", "U8", nil}}, 1); err == nil {
		t.Error("a tensor twice")
	}
}

// mlx reads what we lay out, in every dtype it has.
func TestMLXReads(t *testing.T) {
	var specs []safetensors.Spec
	for _, d := range strings.Fields("BOOL U8 I8 U16 I16 U32 I32 U64 I64 F16 BF16 F32 C64") {
		specs = append(specs, safetensors.Spec{Name: "t." + d, DType: d, Shape: []int64{3, 5}})
	}
	shards, err := safetensors.Layout(specs, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	data := shards[0].Header
	for i := int64(len(data)); i < shards[0].Size; i++ {
		data = append(data, byte(i%2))
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out := oracle.Run(t, `
import sys, mlx.core as mx, numpy as np
w, raw = mx.load(sys.argv[1]), open(sys.argv[1], "rb").read()
import json, struct
n = struct.unpack("<Q", raw[:8])[0]; h = json.loads(raw[8:8+n])
for k, v in w.items():
    b, e = h[k]["data_offsets"]
    a = v.view(mx.uint16) if v.dtype == mx.bfloat16 else v
    assert v.shape == (3, 5) and np.array(a).tobytes() == raw[8+n+b:8+n+e], k
print(len(w))`, path)
	if strings.TrimSpace(string(out)) != fmt.Sprint(len(specs)) {
		t.Errorf("mlx read %s tensors of %d", out, len(specs))
	}
}

// A header that parses is laid out and parsed again to the same tensors; none costs more memory than it has bytes.
func FuzzParseHeader(f *testing.F) {
	f.Add(one("a"))
	f.Add(file(`{"__metadata__":{"a":"b"},"x":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}`, 4))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<62))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := safetensors.ParseHeader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			return
		}
		var specs []safetensors.Spec
		for _, x := range h.Tensors {
			specs = append(specs, safetensors.Spec{Name: x.Name, DType: x.DType, Shape: x.Shape})
		}
		shards, err := safetensors.Layout(specs, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		if len(shards) == 0 {
			return
		}
		again, err := parse(append(bytes.Clone(shards[0].Header), make([]byte, shards[0].Size-int64(len(shards[0].Header)))...))
		if err != nil || len(again.Tensors) != len(h.Tensors) {
			t.Fatalf("%v: %d tensors became %d", err, len(h.Tensors), len(again.Tensors))
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"model.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := safetensors.ParseIndex(data)
		if err != nil {
			return
		}
		for _, file := range m {
			if strings.ContainsAny(file, "/\\") || !filepath.IsLocal(file) {
				t.Fatalf("%q leaves the folder", file)
			}
		}
	})
}

func BenchmarkParseHeader(b *testing.B) {
	var specs []safetensors.Spec
	for i := range 20_000 {
		specs = append(specs, safetensors.Spec{Name: fmt.Sprintf("model.layers.%d.weight", i), DType: "BF16", Shape: []int64{1, 1}})
	}
	shards, err := safetensors.Layout(specs, 1<<40)
	if err != nil {
		b.Fatal(err)
	}
	data := append(shards[0].Header, make([]byte, 40_000)...)
	for b.Loop() {
		if _, err := parse(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/tensor")
}
