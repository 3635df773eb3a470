package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// TestBitsDoNotDependOnWorkers computes the same on 1, 2, 3, 4 and 7 workers, on as many processors, whole and token by token.
func TestBitsDoNotDependOnWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	src := oracle.TinyStories(t)
	ids := someIDs(150, 1024)
	for name, dir := range map[string]string{"bf16": src, "mixed": quantized(t, src, mixed), "affine4": quantized(t, src, uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))} {
		var want [][]float32
		for _, workers := range []int{1, 2, 3, 4, 7} {
			runtime.GOMAXPROCS(min(workers, 4))
			m := mustLoad(t, Runtime{workers: workers}, dir)
			got, err := m.Logits(t.Context(), ids, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if !sameBits(got, want) {
				t.Errorf("%s: on %d workers the bits are others than on 1", name, workers)
			}
		}
		m := mustLoad(t, New(), dir).(*model)
		if got := oneByOne(t, m, ids[:70]); !sameBits(got, want[:70]) {
			t.Errorf("%s: token by token the bits are others than in blocks", name)
		}
	}
}

func sameBits(a, b [][]float32) bool {
	return slices.EqualFunc(a, b, func(a, b []float32) bool {
		return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
	})
}

// oneByOne reads a text in blocks of one token.
func oneByOne(t *testing.T, m *model, ids []int32) (rows [][]float32) {
	t.Helper()
	s := newSequence(m, nil)
	for i := range ids {
		s.prompt = ids[:i+1]
		hidden, err := m.readBlock(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		row := make([]float32, m.info.VocabSize)
		m.network.Logits(row, hidden)
		rows = append(rows, row)
	}
	return rows
}

// TestManyTexts continues more texts than a block has places, of which some end early.
func TestManyTexts(t *testing.T) {
	m := mustLoad(t, New(), oracle.TinyStories(t))
	var prompts [][]int32
	for i := range block + 9 {
		prompts = append(prompts, someIDs(2+i%5, 1000)[:1+i%5])
		prompts[i][0] = int32(i * 13 % 1000)
	}
	o := backend.GenerateOptions{MaxTokens: 12, Temperature: 1.2, Seed: 5}
	all, err := m.Generate(t.Context(), prompts, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[int]bool{}
	for i, p := range prompts {
		lengths[len(all[i].Tokens)] = true
		alone, err := m.Generate(t.Context(), [][]int32{p}, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[0].Tokens, all[i].Tokens) {
			t.Errorf("prompt %d: %v, with others %v", i, alone[0].Tokens, all[i].Tokens)
		}
	}
	if len(lengths) < 3 {
		t.Errorf("the texts have the lengths %v: none ended early", lengths)
	}
}

// TestDecodeAllocatesNothing counts allocations of a step that makes one token for each of two texts, sampling included.
func TestDecodeAllocatesNothing(t *testing.T) {
	m := mustLoad(t, Runtime{workers: 2}, quantized(t, oracle.TinyStories(t), mixed)).(*model)
	for _, temperature := range []float64{0, 0.7} {
		o := backend.GenerateOptions{MaxTokens: 200, Temperature: temperature, TopP: 0.9, MinP: 0.05, IgnoreEOS: true}
		g := m.newGeneration(time.Now(), [][]int32{{1, 2, 3}, {4}}, o, func(backend.Event) error { return nil })
		if err := g.prefill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			if err := g.step(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("temperature %v: a step allocates %v times", temperature, n)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	m, err := Runtime{workers: 3}.Load(t.Context(), oracle.TinyStories(t), backend.Float32)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCancelBetweenBlocks stops while a prompt of several blocks is read.
func TestCancelBetweenBlocks(t *testing.T) {
	m := mustLoad(t, New(), oracle.TinyStories(t)).(*model)
	ctx := &countdown{Context: t.Context(), left: 3}
	_, err := m.Generate(ctx, [][]int32{someIDs(3*block+1, 1024)}, backend.GenerateOptions{MaxTokens: 1}, nil)
	if !errors.Is(err, context.Canceled) || ctx.left != 0 {
		t.Errorf("error %v, %d looks left", err, ctx.left)
	}
}

// countdown is cancelled after it was looked at some times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left <= 0 {
		c.left = 0
		return context.Canceled
	}
	return nil
}

// TestNotFinite has weights of which one is NaN, or infinite.
func TestNotFinite(t *testing.T) {
	for _, bits := range []uint16{0x7FC0, 0x7F80} {
		config, tensors := backendtest.Read(t, oracle.TinyStories(t))
		data := slices.Clone(tensors["model.norm.weight"].Data)
		data[6], data[7] = byte(bits), byte(bits>>8)
		tensors["model.norm.weight"] = backendtest.Tensor{DType: "BF16", Shape: tensors["model.norm.weight"].Shape, Data: data}
		dir := t.TempDir()
		backendtest.Write(t, dir, config, tensors)
		m := mustLoad(t, New(), dir)
		var want *NotFiniteError
		_, err := m.Generate(t.Context(), [][]int32{{1, 2}}, backend.GenerateOptions{MaxTokens: 3}, nil)
		if !errors.As(err, &want) || want.Position != 1 {
			t.Errorf("%#x: Generate says %v", bits, err)
		}
		if _, err := m.Logits(t.Context(), []int32{1, 2}, nil); !errors.As(err, &want) {
			t.Errorf("%#x: Logits says %v", bits, err)
		}
	}
}

// TestTooLargeForFloat16 has keys that float32 holds and float16 does not.
func TestTooLargeForFloat16(t *testing.T) {
	config, tensors := backendtest.Read(t, oracle.TinyStories(t))
	for name, w := range tensors {
		if !strings.HasSuffix(name, "k_proj.weight") {
			continue
		}
		w.Data = slices.Clone(w.Data)
		for i := 0; i < len(w.Data); i += 2 { // times 2^20
			if bits := uint16(w.Data[i]) | uint16(w.Data[i+1])<<8; bits&0x7F80 != 0 {
				bits += 20 << 7
				w.Data[i], w.Data[i+1] = byte(bits), byte(bits>>8)
			}
		}
		tensors[name] = w
	}
	dir := t.TempDir()
	backendtest.Write(t, dir, config, tensors)
	for compute, fits := range map[backend.Compute]bool{backend.Float32: true, backend.Int8: true, backend.Fast: false} {
		_, err := mustLoadIn(t, New(), dir, compute).Generate(t.Context(), [][]int32{{1, 2}}, backend.GenerateOptions{MaxTokens: 3}, nil)
		var large *NotFiniteError
		if fits && err != nil || !fits && (!errors.As(err, &large) || !strings.Contains(err.Error(), "too large for float16") || !strings.Contains(large.Hint(), "--compute float32")) {
			t.Errorf("%s: %v", compute, err)
		}
	}
}

func TestPromptThatFillsTheContext(t *testing.T) {
	m := mustLoad(t, New(), oracle.TinyStories(t))
	n := m.Info().ContextLength
	_, err := m.Generate(t.Context(), [][]int32{make([]int32, n)}, backend.GenerateOptions{MaxTokens: 1}, nil)
	if want := fmt.Sprintf("%d tokens, and 1 to follow, do not fit the model's context of %d", n, n); err == nil || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
}

func TestEOS(t *testing.T) {
	for _, c := range []struct {
		config, generation string
		want               []int32
	}{
		{`2`, ``, []int32{2}}, {`[1,2]`, ``, []int32{1, 2}}, {`null`, ``, nil}, {`2`, `{"eos_token_id":[5,6]}`, []int32{5, 6}}, {`2`, `{"eos_token_id":7}`, []int32{7}},
		{`2`, `{"eos_token_id":0}`, []int32{2}}, {`2`, `{"eos_token_id":[]}`, []int32{2}}, {`2`, `{}`, []int32{2}}, {`2`, `{"eos_token_id":null}`, []int32{2}}, {`2`, `not json`, []int32{2}},
	} {
		o, err := jsonx.ParseObject([]byte(`{"eos_token_id":` + c.config + `}`))
		if err != nil {
			t.Fatal(err)
		}
		var generation []byte
		if c.generation != "" {
			generation = []byte(c.generation)
		}
		if got, err := parseEOS(o, generation); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s with %s: %v, %v, want %v", c.config, c.generation, got, err, c.want)
		}
	}
	for _, bad := range []string{`"2"`, `-1`, `[1,"x"]`, `1.5`, `99999999999`} {
		o, _ := jsonx.ParseObject([]byte(`{"eos_token_id":` + bad + `}`))
		if got, err := parseEOS(o, nil); err == nil {
			t.Errorf("%s: %v and no error", bad, got)
		}
	}
}

// TestFolderRefusals breaks a good folder in one way each, and reads what the error says.
func TestFolderRefusals(t *testing.T) {
	affine4 := quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}
	good := quantized(t, oracle.TinyStories(t), uniform(affine4))
	const module = "model.layers.1.mlp.up_proj"
	settings := func(c *jsonx.Object) *jsonx.Object { q, _ := c.Object("quantization"); return q }
	for _, c := range []struct {
		name  string
		spoil func(c *jsonx.Object, tensors map[string]backendtest.Tensor)
		want  string
	}{
		{"missing tensor", func(_ *jsonx.Object, ts map[string]backendtest.Tensor) { delete(ts, "model.norm.weight") }, "tensor model.norm.weight is missing"},
		{"missing scales", func(_ *jsonx.Object, ts map[string]backendtest.Tensor) { delete(ts, module+".scales") }, "tensor " + module + ".scales is missing"},
		{"extra tensor", func(_ *jsonx.Object, ts map[string]backendtest.Tensor) { ts["model.extra"] = ts["model.norm.weight"] }, "tensor model.extra is not one"},
		{"wrong shape", func(_ *jsonx.Object, ts map[string]backendtest.Tensor) {
			ts["model.norm.weight"] = ts["model.layers.0.self_attn.q_proj.scales"]
		}, "has the shape [128 2]; by config.json it is [128]"},
		{"other size in config", func(c *jsonx.Object, _ map[string]backendtest.Tensor) {
			c.Set("intermediate_size", jsonx.IntNumber(512))
		}, "has the shape"},
		{"other bits in config", func(c *jsonx.Object, _ map[string]backendtest.Tensor) {
			e, _ := settings(c).Object(module)
			e.Set("bits", jsonx.IntNumber(8))
		}, module + ".weight has the shape [256 16]; by config.json it is [256 32]"},
		{"false for a quantized module", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { settings(c).Set(module, false) }, module + ".weight has the shape"},
		{"no quantization at all", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { c.Delete("quantization") }, "has the shape"},
		{"quantization without bits", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { settings(c).Delete("bits") }, "quantization has no bits"},
		{"7 bits", func(c *jsonx.Object, _ map[string]backendtest.Tensor) {
			e, _ := settings(c).Object(module)
			e.Set("bits", jsonx.IntNumber(7))
		}, "quantization of " + module + ": bits must be one of"},
		{"unknown mode", func(c *jsonx.Object, _ map[string]backendtest.Tensor) {
			e, _ := settings(c).Object(module)
			e.Set("mode", "fp3")
		}, "mode must be one of"},
		{"only quantization_config", func(c *jsonx.Object, _ map[string]backendtest.Tensor) {
			c.Delete("quantization")
			c.Set("quantization_config", jsonx.NewObject())
		}, "not in MLX format, convert it first"},
		{"activations", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { c.Set("quantize_activations", true) }, "quantize_activations is not supported"},
		{"code", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { c.Set("model_file", "evil.py") }, "model_file wants code"},
		{"other model", func(c *jsonx.Object, _ map[string]backendtest.Tensor) { c.Set("model_type", "gpt9") }, `model_type "gpt9" is not supported; supported are llama`},
		{"integer weights", func(_ *jsonx.Object, ts map[string]backendtest.Tensor) {
			w := ts["model.norm.weight"]
			w.DType = "I16"
			ts["model.norm.weight"] = w
		}, "is I16; it must be F32, F16 or BF16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, tensors := backendtest.Read(t, good)
			c.spoil(config, tensors)
			dir := t.TempDir()
			backendtest.Write(t, dir, config, tensors)
			_, err := New().Load(t.Context(), dir, backend.Float32)
			var folder *FolderError
			if !errors.As(err, &folder) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, which does not say %q", err, c.want)
			}
		})
	}
	t.Run("no config", func(t *testing.T) {
		_, err := New().Load(t.Context(), t.TempDir(), backend.Float32)
		if err == nil || !strings.Contains(err.Error(), "no config.json") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no weights", func(t *testing.T) {
		dir := t.TempDir()
		config, _ := backendtest.Read(t, good)
		if err := os.WriteFile(filepath.Join(dir, "config.json"), jsonx.Python(config, 4), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := New().Load(t.Context(), dir, backend.Float32); err == nil || !strings.Contains(err.Error(), "no model*.safetensors") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestSchemesAreInferred has mlx-lm's rule for modules that config.json does not name: what the shapes say, whatever the top level says.
func TestSchemesAreInferred(t *testing.T) {
	src := oracle.TinyStories(t)
	dir := quantized(t, src, mixed)
	want := continuation(t, dir)
	config, tensors := backendtest.Read(t, dir)
	q, _ := config.Object("quantization")
	for _, key := range q.Keys()[2:] {
		q.Delete(key)
	}
	bare := t.TempDir()
	backendtest.Write(t, bare, config, tensors)
	if got := continuation(t, bare); !slices.Equal(got, want) {
		t.Errorf("without entries it goes on with %v, with them %v", got, want)
	}
}

func continuation(t *testing.T, dir string) []int32 {
	t.Helper()
	r, err := mustLoad(t, New(), dir).Generate(t.Context(), [][]int32{{5, 9, 12}}, backend.GenerateOptions{MaxTokens: 12, IgnoreEOS: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r[0].Tokens
}

// TestKnownText pins the tiny model's greedy and sampled tokens, so that a change of any bit that matters shows on every machine.
func TestKnownText(t *testing.T) {
	m := mustLoad(t, New(), oracle.TinyStories(t))
	for _, c := range []struct {
		o    backend.GenerateOptions
		want string
	}{
		{backend.GenerateOptions{MaxTokens: 24, IgnoreEOS: true}, knownGreedy},
		{backend.GenerateOptions{MaxTokens: 24, IgnoreEOS: true, Temperature: 0.9, TopP: 0.95, MinP: 0.01, Seed: 7}, knownSampled},
	} {
		r, err := m.Generate(t.Context(), [][]int32{{5, 9, 12, 300}}, c.o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r[0].Tokens); got != c.want {
			t.Errorf("temperature %v: %s, want %s", c.o.Temperature, got, c.want)
		}
	}
}

const (
	knownGreedy  = "[16 274 306 16 0 439 692 694 565 765 757 263 696 563 16 274 563 313 644 291 263 565 763 273]"
	knownSampled = "[713 711 710 33 2 201 1 552 201 43 714 681 712 16 2 0 702 667 10 80 699 647 772 286]"
)

// TestLongTextsGrow goes over the end of a page of keys and values.
func TestLongTextsGrow(t *testing.T) {
	m := mustLoad(t, New(), oracle.TinyStories(t))
	prompt := someIDs(250, 1024)
	r, err := m.Generate(t.Context(), [][]int32{prompt}, backend.GenerateOptions{MaxTokens: 20, IgnoreEOS: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := m.Logits(t.Context(), append(slices.Clone(prompt), r[0].Tokens...), []int{249, 256, 262, 268})
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []int{0, 7, 13, 19} {
		if got, _ := tensor.Largest(rows[i]); int32(got) != r[0].Tokens[at] {
			t.Errorf("token %d is %d, by the whole text %d", at, r[0].Tokens[at], got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{oracle.TinyStories(f)} {
		config, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(config, []byte(`{"eos_token_id": [1, 2]}`))
	}
	f.Add([]byte(`{"model_type":"llama","hidden_size":64,"num_hidden_layers":1,"intermediate_size":8,"num_attention_heads":4,"rms_norm_eps":1e-5,"vocab_size":9,"max_position_embeddings":64,
"rope_scaling":{"type":"longrope","original_max_position_embeddings":32,"short_factor":[1],"long_factor":[1,2,3,4,5,6,7,8]},"quantization":{"group_size":64,"bits":4,"a":false,"b":{"bits":8}}}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, config, generation []byte) {
		s, err := parseConfig(config, generation)
		if err != nil {
			return
		}
		if s.model.Layers() > 64 {
			return
		}
		for _, p := range s.model.Params() {
			for _, d := range p.Shape {
				if d < 1 || d > 1<<24 {
					t.Fatalf("%s has the shape %v", p.Name, p.Shape)
				}
			}
		}
	})
}
