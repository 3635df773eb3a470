package backendtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Tensor is a tensor of a folder for tests.
type Tensor struct {
	DType string
	Shape []int64
	Data  []byte
}

// Write writes a model folder of one shard, over what is there.
func Write(t testing.TB, dir string, config *jsonx.Object, tensors map[string]Tensor) {
	t.Helper()
	var specs []safetensors.Spec
	for name, tensor := range tensors {
		specs = append(specs, safetensors.Spec{Name: name, DType: tensor.DType, Shape: tensor.Shape})
	}
	shards, err := safetensors.Layout(specs, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	data := append(make([]byte, 0, shards[0].Size), shards[0].Header...)
	for _, place := range shards[0].Tensors {
		data = append(data, tensors[place.Name].Data...)
	}
	for name, content := range map[string][]byte{"config.json": jsonx.Python(config, 4), shards[0].Name: data} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// Read reads a folder whole.
func Read(t testing.TB, dir string) (*jsonx.Object, map[string]Tensor) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := jsonx.ParseObject(text)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := safetensors.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Tensor{}
	for _, file := range folder.Files {
		data, err := os.ReadFile(file.Path)
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range file.Header.Tensors {
			out[place.Name] = Tensor{place.DType, place.Shape, data[place.Begin:place.End]}
		}
	}
	return config, out
}

// Quantize writes dst from src, an unquantized folder, with the matrices quantized that scheme returns a Mode for. It is the least that makes a folder in MLX format, so that runtimes can be
// tested without a converter: config.json has an entry for every quantized module.
func Quantize(t testing.TB, dst, src string, scheme func(module string, cols int64) quant.Scheme) {
	t.Helper()
	config, tensors := Read(t, src)
	settings := jsonx.NewObject()
	settings.Set("group_size", jsonx.IntNumber(64))
	settings.Set("bits", jsonx.IntNumber(4))
	out := map[string]Tensor{}
	for name, tensor := range tensors {
		module, isWeight := strings.CutSuffix(name, ".weight")
		var s quant.Scheme
		if isWeight && len(tensor.Shape) == 2 {
			s = scheme(module, tensor.Shape[1])
		}
		if s.Mode == "" {
			out[name] = tensor
			continue
		}
		quantizeTensor(t, out, module, tensor, s)
		entry := jsonx.NewObject()
		entry.Set("group_size", jsonx.IntNumber(int64(s.GroupSize)))
		entry.Set("bits", jsonx.IntNumber(int64(s.Bits)))
		entry.Set("mode", string(s.Mode))
		settings.Set(module, entry)
	}
	config.Set("quantization", settings)
	Write(t, dst, config, out)
}

func quantizeTensor(t testing.TB, out map[string]Tensor, module string, tensor Tensor, s quant.Scheme) {
	t.Helper()
	float, ok := quant.ParseFloat(tensor.DType)
	if !ok {
		t.Fatalf("%s is %s", module, tensor.DType)
	}
	rows, cols := tensor.Shape[0], tensor.Shape[1]
	weight, scales, biases := s.Sizes(int(rows), int(cols), float)
	p := quant.Packed{Weight: make([]byte, weight), Scales: make([]byte, scales), Biases: make([]byte, biases)}
	if err := s.Quantize(p, tensor.Data, float, int(rows), int(cols)); err != nil {
		t.Fatal(err)
	}
	weightShape, scaleShape := s.Shapes(rows, cols)
	out[module+".weight"] = Tensor{"U32", weightShape, p.Weight}
	if !s.HasBiases() {
		out[module+".scales"] = Tensor{"U8", scaleShape, p.Scales}
		return
	}
	out[module+".scales"] = Tensor{tensor.DType, scaleShape, p.Scales}
	out[module+".biases"] = Tensor{tensor.DType, scaleShape, p.Biases}
}
