package builtin

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/tokenizer"
)

// torchScript runs a folder in PyTorch, float32, eager, on ids and writes all logits; and greedy continuations.
const torchScript = `
import json, sys, torch, numpy as np
from transformers import AutoModelForCausalLM
folder, out, prompts, steps = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
texts = []
with torch.no_grad():
    for i, ids in enumerate(prompts):
        x = torch.tensor([ids])
        model(x).logits[0].numpy().astype("<f4").tofile(f"{out}/{i}.logits")
        if steps:
            y = model.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=steps, do_sample=False, temperature=None, top_p=None)
            texts.append(y[0, len(ids):].tolist())
json.dump(texts, sys.stdout)
`

// readLogits reads rows of float32.
func readLogits(t testing.TB, path string, vocab int) (rows [][]float32) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		row := make([]float32, vocab)
		if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, row); err != nil {
			t.Fatal(err)
		}
		rows, data = append(rows, row), data[4*vocab:]
	}
	return rows
}

// relative is max|got-want| / max|want|, of the worst row.
func relative(got, want [][]float32) (worst float64) {
	for i := range want {
		var d, size float64
		for j := range want[i] {
			d = max(d, math.Abs(float64(got[i][j])-float64(want[i][j])))
			size = max(size, math.Abs(float64(want[i][j])))
		}
		if r := d / size; !(r <= worst) {
			worst = r
		}
	}
	return worst
}

// squareError is the sum of the squares of all differences.
func squareError(got, want [][]float32) (sum float64) {
	for i := range want {
		for j := range want[i] {
			d := float64(got[i][j]) - float64(want[i][j])
			sum += d * d
		}
	}
	return sum
}

func jsonText(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// smolPrompts are the ids of "The quick brown fox", "In a galaxy far far away" and "def fibonacci(n):".
var smolPrompts = [][]int32{{504, 2365, 6354, 16438}, {788, 253, 13247, 1869, 1869, 2025}, {1604, 3987, 46477, 24, 94, 727}}

// TestSmolLM2AgainstPyTorch is the promise of accuracy: logits of the real model within 1e-5 of PyTorch's float32, and the same greedy tokens.
func TestSmolLM2AgainstPyTorch(t *testing.T) {
	oracle.Python(t)
	dir := oracle.SmolLM2(t)
	out := t.TempDir()
	var texts [][]int32
	if err := json.Unmarshal(oracle.Run(t, torchScript, dir, out, jsonText(t, smolPrompts), "64"), &texts); err != nil {
		t.Fatal(err)
	}
	m := mustLoad(t, New(), dir)
	for i, prompt := range smolPrompts {
		got, err := m.Logits(context.Background(), prompt, nil)
		if err != nil {
			t.Fatal(err)
		}
		torch := readLogits(t, filepath.Join(out, fmt.Sprintf("%d.logits", i)), m.Info().VocabSize)
		worst := relative(got, torch)
		t.Logf("prompt %d: logit_error_rel %.2e", i, worst)
		if worst > 1e-5 {
			t.Errorf("prompt %d: logit_error_rel %.2e, more than 1e-5", i, worst)
		}
	}
	results, err := m.Generate(context.Background(), smolPrompts, backend.GenerateOptions{MaxTokens: 64}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if fmt.Sprint(r.Tokens) != fmt.Sprint(texts[i]) {
			t.Errorf("prompt %d is continued with\n%v, by PyTorch with\n%v", i, r.Tokens, texts[i])
		}
	}
}

// TestFloat32IsNearerThanPyTorch compares errors against float64 on a text. Its length matters: the few positions of a short prompt are off in the same direction, so that chance decides between two right programs.
func TestFloat32IsNearerThanPyTorch(t *testing.T) {
	oracle.Python(t)
	dir := oracle.SmolLM2(t)
	tk, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tk.Encode(mustRead(t, "../../corpora/english.txt")[:1000], false)
	if err != nil {
		t.Fatal(err)
	}
	texts, out := [][]int32{ids[:64], ids[64:128]}, t.TempDir()
	oracle.Run(t, torchScript, dir, out, jsonText(t, texts), "0")
	var ours, theirs float64 // squares of all errors
	for i, text := range texts {
		exact, got := logitsIn(t, dir, text, backend.Float64), logitsIn(t, dir, text, backend.Float32)
		torch := readLogits(t, filepath.Join(out, fmt.Sprintf("%d.logits", i)), len(exact[0]))
		t.Logf("text %d: against float64 %.2e of the largest logit, PyTorch's %.2e", i, relative(got, exact), relative(torch, exact))
		ours, theirs = ours+squareError(got, exact), theirs+squareError(torch, exact)
	}
	t.Logf("the mean square of errors is %.2f of PyTorch's", ours/theirs) // 0.26 of seven texts, 520 tokens together
	if !(ours <= theirs) {
		t.Errorf("the mean square of errors is %.2f of PyTorch's", ours/theirs)
	}
}

func mustLoad(t testing.TB, r backend.Runtime, dir string) backend.Model {
	t.Helper()
	return mustLoadIn(t, r, dir, backend.Float32)
}

func mustLoadIn(t testing.TB, r backend.Runtime, dir string, compute backend.Compute) backend.Model {
	t.Helper()
	m, err := r.Load(context.Background(), dir, compute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Weights that were laid out are not in memory twice, and what they were laid out from can still be read.
func TestLaidWeightsAreLetGo(t *testing.T) {
	dir := quantized(t, oracle.SmolLM2(t), uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64}))
	m := mustLoadIn(t, New(), dir, backend.Fast).(*model)
	var texts []string
	for range 2 {
		r, err := m.Generate(context.Background(), smolPrompts[:1], backend.GenerateOptions{MaxTokens: 4}, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, fmt.Sprint(r[0].Tokens))
	}
	if texts[0] != texts[1] {
		t.Errorf("the second text is %s, the first %s", texts[1], texts[0])
	}
	whole := m.info.WeightsBytes
	if left := m.weights.bytes; left > idleBytes+whole/20 {
		t.Errorf("%d of %d bytes are still mapped", left, whole)
	}
	if used := m.Memory(backend.PhaseDecode); used > whole+whole/3 {
		t.Errorf("decode takes %d bytes, of weights that have %d", used, whole)
	}
	if resident := residentOf(t, dir); resident > whole/3 {
		t.Errorf("%d bytes of the model's files are mapped in memory", resident)
	}
}

// residentOf is how much of the files in a folder is in this process's memory, as Linux counts it; 0 elsewhere.
func residentOf(t *testing.T, dir string) (bytes int64) {
	maps, err := os.ReadFile("/proc/self/smaps")
	if runtime.GOOS != "linux" {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(maps)) {
		if fields := strings.Fields(line); strings.Contains(fields[0], "-") {
			inside = strings.Contains(line, dir)
		} else if inside && fields[0] == "Rss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			bytes += n << 10
		}
	}
	return bytes
}
