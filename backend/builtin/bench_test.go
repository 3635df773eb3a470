package builtin

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/spec"
)

// BenchmarkDecode makes 32 tokens with the real model after a short prompt, and prints tokens a second after the first, and the time to the first.
func BenchmarkDecode(b *testing.B) {
	src := oracle.SmolLM2(b)
	for _, compute := range []backend.Compute{backend.Float32, backend.Fast, backend.Int8} {
		b.Run(string(compute), func(b *testing.B) { benchmarkDecode(b, src, compute) })
	}
}

// storedAs are ways in which the real model's weights can be stored.
var storedAs = []struct {
	name  string
	write func(b *testing.B, src string) string
}{
	{"affine4", quantizedTo(quant.Affine, 4, 64)},
	{"affine8", quantizedTo(quant.Affine, 8, 64)},
	{"affine6", quantizedTo(quant.Affine, 6, 64)},
	{"mxfp4", quantizedTo(quant.MXFP4, 4, 32)},
	{"mxfp8", quantizedTo(quant.MXFP8, 8, 32)},
	{"bf16", func(_ *testing.B, src string) string { return src }},
	{"f16", inF16},
}

func quantizedTo(mode quant.Mode, bits, group int) func(b *testing.B, src string) string {
	return func(b *testing.B, src string) string {
		return quantized(b, src, uniform(quant.Scheme{Mode: mode, Bits: bits, GroupSize: group}))
	}
}

func benchmarkDecode(b *testing.B, src string, compute backend.Compute) {
	for _, c := range storedAs {
		b.Run(c.name, func(b *testing.B) {
			dir := c.write(b, src)
			m := mustLoadIn(b, New(), dir, compute)
			const tokens = 32
			var first, rest float64
			for b.Loop() {
				r, err := m.Generate(context.Background(), smolPrompts[:1], backend.GenerateOptions{MaxTokens: tokens, IgnoreEOS: true}, nil)
				if err != nil {
					b.Fatal(err)
				}
				first += r[0].At[0].Seconds()
				rest += (r[0].At[tokens-1] - r[0].At[0]).Seconds()
			}
			b.ReportMetric(float64(b.N*(tokens-1))/rest, "tok/s")
			b.ReportMetric(first/float64(b.N)*1000, "ttft_ms")
		})
	}
}

// inF16 copies a model of bfloat16 weights to one of float16.
func inF16(b *testing.B, src string) string {
	config, tensors := backendtest.Read(b, src)
	for name, t := range tensors {
		values := make([]float32, len(t.Data)/2)
		quant.BF16.Decode(values, t.Data)
		t.DType, t.Data = "F16", make([]byte, len(t.Data))
		quant.F16.Encode(t.Data, values)
		tensors[name] = t
	}
	dir := b.TempDir()
	backendtest.Write(b, dir, config, tensors)
	return dir
}

// BenchmarkPrefill reads a prompt of 512 tokens.
func BenchmarkPrefill(b *testing.B) {
	src := oracle.SmolLM2(b)
	for _, c := range storedAs {
		for _, compute := range []backend.Compute{backend.Float32, backend.Fast, backend.Int8} {
			b.Run(c.name+"/"+string(compute), func(b *testing.B) {
				m := mustLoadIn(b, New(), c.write(b, src), compute)
				prompt := make([]int32, 512)
				for i := range prompt {
					prompt[i] = int32(100 + i)
				}
				for b.Loop() {
					if _, err := m.Logits(context.Background(), prompt, []int{511}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*len(prompt))/b.Elapsed().Seconds(), "tok/s")
			})
		}
	}
}

// BenchmarkLongContext makes tokens behind texts of some lengths, and prints the time of the fastest.
func BenchmarkLongContext(b *testing.B) {
	dir := quantized(b, oracle.SmolLM2(b), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	for _, compute := range []backend.Compute{backend.Float32, backend.Fast, backend.Int8} {
		m := mustLoadIn(b, New(), dir, compute)
		for _, length := range []int{64, 1024, 4096, 8000} {
			b.Run(fmt.Sprintf("%s/%d", compute, length), func(b *testing.B) {
				prompt := make([]int32, length)
				for i := range prompt {
					prompt[i] = int32(100 + i)
				}
				fastest := time.Hour
				for b.Loop() {
					r, err := m.Generate(context.Background(), [][]int32{prompt}, backend.GenerateOptions{MaxTokens: 160, IgnoreEOS: true}, nil)
					if err != nil {
						b.Fatal(err)
					}
					for i, at := range r[0].At[1:] {
						fastest = min(fastest, at-r[0].At[i])
					}
				}
				b.ReportMetric(float64(fastest.Microseconds())/1000, "ms/token")
			})
		}
	}
}

// BenchmarkFirstToken opens the real model at 4 bits and makes one token after a short prompt: all that a user waits for who starts the program with its files in memory.
func BenchmarkFirstToken(b *testing.B) {
	dir := quantized(b, oracle.SmolLM2(b), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	for b.Loop() {
		m, err := New().Load(b.Context(), dir, backend.Fast)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Generate(b.Context(), smolPrompts[:1], backend.GenerateOptions{MaxTokens: 1, IgnoreEOS: true}, nil); err != nil {
			b.Fatal(err)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatch makes 32 tokens for eight texts at once, and for one.
func BenchmarkBatch(b *testing.B) {
	dir := quantized(b, oracle.SmolLM2(b), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	m := mustLoadIn(b, New(), dir, backend.Fast)
	for _, texts := range []int{1, 8} {
		b.Run(fmt.Sprint(texts), func(b *testing.B) {
			prompts := slices.Repeat(smolPrompts[:1], texts)
			const tokens = 32
			var seconds float64
			for b.Loop() {
				r, err := m.Generate(b.Context(), prompts, backend.GenerateOptions{MaxTokens: tokens, IgnoreEOS: true}, nil)
				if err != nil {
					b.Fatal(err)
				}
				seconds += (r[texts-1].At[tokens-1] - r[texts-1].At[0]).Seconds()
			}
			b.ReportMetric(float64(b.N*texts*(tokens-1))/seconds, "tok/s")
		})
	}
}

// BenchmarkSpeculation makes 128 tokens with drafts and without, in turns, after prompts that are told again, after a question and after two prompts whose answers repeat little. It prints tokens a second of the fastest of both,
// and their ratio.
func BenchmarkSpeculation(b *testing.B) {
	src := oracle.SmolLM2(b)
	dir := quantized(b, src, uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	encoder, err := prompt.Load(src)
	if err != nil {
		b.Fatal(err)
	}
	prose, code := mustRead(b, "../../corpora/english.txt")[:2400], mustRead(b, "gate.go")
	for _, compute := range []backend.Compute{backend.Fast, backend.Int8, backend.Float32} {
		m := mustLoadIn(b, New(), dir, compute)
		for _, c := range []struct {
			name, text string
			chat       bool
		}{
			{"prose again", prose + "\n\nThe same again:\n\n" + prose[:200], false},
			{"code again", code + "\n// The same file with the type renamed to door:\n\n" + strings.ReplaceAll(code[:500], "gate", "door"), false},
			{"question", "Why is the sky blue?", true},
			{"story", "Write a story about a dragon who learns to paint.", true},
			{"function", "def fibonacci(n):", false},
		} {
			doc, err := encoder.Render(spec.Prompt{Text: c.text}, prompt.Options{Chat: c.chat})
			if err != nil {
				b.Fatal(err)
			}
			ids, err := encoder.Encode(doc)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%s", compute, c.name), func(b *testing.B) { benchmarkSpeculation(b, m, ids) })
		}
	}
}

func benchmarkSpeculation(b *testing.B, m backend.Model, prompt []int32) {
	var best [2]float64 // without, with
	for turn := 0; b.Loop(); turn++ {
		for i := range best {
			with := (turn + i) % 2
			r, err := m.Generate(b.Context(), [][]int32{prompt}, backend.GenerateOptions{MaxTokens: 128, Speculate: with == 1}, nil)
			if err != nil {
				b.Fatal(err)
			}
			at := r[0].At
			best[with] = max(best[with], float64(len(at)-1)/(at[len(at)-1]-at[0]).Seconds())
		}
	}
	b.ReportMetric(best[0], "plain_tok/s")
	b.ReportMetric(best[1], "drafts_tok/s")
	b.ReportMetric(best[1]/best[0], "ratio")
}

func mustRead(b testing.TB, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}
