package builtin

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/quant"
)

var someTokens = []int32{5, 9, 12, 700, 3, 3, 41, 1000, 77, 8}

// TestHeadIsTheModels: logits from stored hidden states are those of the model, bit for bit in float32, and to float32's rounding of the states in float64.
func TestHeadIsTheModels(t *testing.T) {
	src := oracle.TinyStories(t)
	digests := map[[32]byte]bool{}
	for _, dir := range []string{src, quantized(t, src, uniform(quant.Scheme{Mode: quant.Affine, Bits: 4, GroupSize: 64})), quantized(t, src, mixed)} {
		for _, compute := range []backend.Compute{backend.Float32, backend.Float64} {
			m, err := New().Load(t.Context(), dir, compute)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			h, err := OpenHead(dir, compute)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			digests[h.Digest()] = true
			hidden, err := m.Hidden(t.Context(), someTokens)
			if err != nil {
				t.Fatal(err)
			}
			want, err := m.Logits(t.Context(), someTokens, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(someTokens)*h.Vocabulary())
			if err := h.Logits(got, hidden); err != nil {
				t.Fatal(err)
			}
			for i, row := range want {
				have := got[i*h.Vocabulary():][:h.Vocabulary()]
				if compute == backend.Float32 && !slices.Equal(have, row) || distanceOf(have, row) > 1e-6 {
					t.Errorf("%s: row %d of the head is not the model's", compute, i)
				}
			}
		}
	}
	if len(digests) != 3 {
		t.Errorf("%d digests for 3 matrices", len(digests))
	}
}

// distanceOf is max|a-b| / max|b|.
func distanceOf(a, b []float32) float64 {
	var off, largest float64
	for i := range b {
		off = max(off, math.Abs(float64(a[i])-float64(b[i])))
		largest = max(largest, math.Abs(float64(b[i])))
	}
	return off / largest
}

// TestFloat64IsExact holds the float64 mode against PyTorch in double precision: what is left is the rounding of the answer to float32.
func TestFloat64IsExact(t *testing.T) {
	m, err := New().Load(t.Context(), oracle.TinyStories(t), backend.Float64)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := m.Logits(t.Context(), someTokens, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]float64
	if err := json.Unmarshal(oracle.Run(t, `
import json, sys, torch
import transformers.models.llama.modeling_llama as llama
from transformers import AutoModelForCausalLM

# transformers computes norms and angles in float32 whatever is asked for; here everything is double.
def norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

def rotary(self, x, position_ids):
    inverse = 1.0 / self.config.rope_parameters["rope_theta"] ** (torch.arange(0, self.config.head_dim, 2).double() / self.config.head_dim)
    angles = position_ids[:, :, None].double() * inverse[None, None]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()

llama.LlamaRMSNorm.forward, llama.LlamaRotaryEmbedding.forward = norm, rotary
torch.set_grad_enabled(False)
m = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float64, attn_implementation="sdpa")
print(json.dumps(m(torch.tensor([json.loads(sys.argv[2])])).logits[0].tolist()))
`, oracle.TinyStories(t), fmt.Sprint(jsonOf(t, someTokens))), &want); err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for i, row := range want {
		var off, largest float64
		for j, w := range row {
			off, largest = max(off, math.Abs(float64(got[i][j])-w)), max(largest, math.Abs(w))
		}
		worst = max(worst, off/largest)
	}
	if worst > 1.5e-7 {
		t.Errorf("the largest error is %.2g of the largest logit; rounding to float32 is 6e-8", worst)
	}
	t.Logf("against PyTorch in double: %.2g", worst)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
