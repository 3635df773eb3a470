package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/prompt"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
)

// plainNumPy computes the figures of a quantized folder against its source from PyTorch's logits in double precision, as they are defined, in NumPy; mlx itself turns the codes into weights.
const plainNumPy = `
import json, sys
import mlx.core as mx, numpy as np, torch
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, dequantize_model
from pathlib import Path
from transformers import AutoModelForCausalLM

import transformers.models.llama.modeling_llama as llama

# transformers computes norms and angles in float32 whatever is asked for; here everything is double.
def norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

def rotary(self, x, position_ids):
    c = self.config
    dim = c.head_dim
    inverse = 1.0 / c.rope_parameters["rope_theta"] ** (torch.arange(0, dim, 2).double() / dim)
    angles = position_ids[:, :, None].double() * inverse[None, None]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()

llama.LlamaRMSNorm.forward, llama.LlamaRotaryEmbedding.forward = norm, rotary

source, folder, ids, start = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
torch.set_grad_enabled(False)
ref = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float64, attn_implementation="sdpa")
got = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float64, attn_implementation="sdpa")
model, _ = load_model(Path(folder))
model.set_dtype(mx.float32)
state = {k: torch.tensor(np.array(v.astype(mx.float32))).double() for k, v in tree_flatten(dequantize_model(model).parameters())}
missing, extra = got.load_state_dict(state, strict=False)
assert not extra and set(missing) <= {"lm_head.weight"}, (missing, extra)
kl, top1, top5, a_nll, b_nll = [], [], [], [], []
for chunk in ids:
    x = torch.tensor([chunk])
    a, b = ref(x).logits[0].double().numpy(), got(x).logits[0].double().numpy()
    for i in range(start, len(chunk) - 1):
        lp = a[i] - a[i].max(); lp -= np.log(np.exp(lp).sum())
        lq = b[i] - b[i].max(); lq -= np.log(np.exp(lq).sum())
        kl.append((np.exp(lp) * (lp - lq)).sum())
        top1.append(a[i].argmax() == b[i].argmax())
        top5.append(a[i].argmax() in np.argsort(-b[i], kind="stable")[:5])
        a_nll.append(-lp[chunk[i + 1]]); b_nll.append(-lq[chunk[i + 1]])
print(json.dumps({"kld_mean": np.mean(kl), "kld_median": np.median(kl), "kld_p99": np.quantile(kl, 0.99), "kld_max": max(kl), "top1_agreement": np.mean(top1), "top5_agreement": np.mean(top5),
  "perplexity": np.exp(np.mean(b_nll)), "reference_perplexity": np.exp(np.mean(a_nll)), "perplexity_ratio": np.exp(np.mean(b_nll) - np.mean(a_nll)), "n": len(kl)}))
`

// TestFiguresAreThoseOfNumPy holds KL divergence, agreement and perplexity against plain NumPy from PyTorch's logits, on the same tokens.
func TestFiguresAreThoseOfNumPy(t *testing.T) {
	oracle.Python(t)
	for _, c := range []struct {
		name, model    string
		context, count int
	}{{"tiny-stories", oracle.TinyStories(t), 96, 6}, {"SmolLM2", oracle.SmolLM2(t), 32, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
			dir := t.TempDir()
			text := corpusText(t, c.model)
			write(t, filepath.Join(dir, "corpus.txt"), text)
			write(t, filepath.Join(dir, "mlxbuild.yaml"), fmt.Sprintf(`version: 1
models: {m: {source: "path:%s"}}
quantizations: {bf16: {quantize: false}, q4: {bits: 4}, q8: {bits: 8}}
corpora: {c: {source: "path:corpus.txt", context: %d, chunks: %d}}
validate: {loss: {kind: fidelity, compute: float64, targets: [m/q4, m/q8], corpus: c, expect: [{for: {}, kld_mean: {max: 100}, top1_agreement: {min: 0}}]}}
`, c.model, c.context, c.count))
			reports := reportsOf(t, filepath.Join(dir, "mlxbuild.yaml"))
			ids := chunksOf(t, c.model, text, c.context, c.count)
			for _, q := range []string{"m/q4", "m/q8"} {
				var want map[string]float64
				if err := json.Unmarshal(oracle.Run(t, plainNumPy, c.model, filepath.Join(dir, "build", q), ids, fmt.Sprint(c.context/2-1)), &want); err != nil {
					t.Fatal(err)
				}
				r := reports["loss "+q]
				got := map[string]float64{"perplexity": float64(r.Perplexity), "reference_perplexity": float64(r.ReferencePerplexity), "n": float64(r.Metrics[metric.KLDMean].N)}
				for name, v := range r.Metrics {
					got[name] = float64(v.Value)
				}
				for name, w := range want {
					if g := got[name]; !(math.Abs(g-w) <= 1e-6*max(1, math.Abs(w))) {
						t.Errorf("%s: %s is %v, NumPy says %v", q, name, g, w)
					}
				}
				t.Logf("%s: kld_mean %.9f, NumPy %.9f; perplexity %.7f, NumPy %.7f", q, got["kld_mean"], want["kld_mean"], got["perplexity"], want["perplexity"])
			}
		})
	}
}

// TestSmolLM2IsRight is the real model: builtin and mlx against PyTorch in float32, and what each width costs.
func TestSmolLM2IsRight(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	dir := t.TempDir()
	model := oracle.SmolLM2(t)
	write(t, filepath.Join(dir, "corpus.txt"), corpusText(t, model))
	write(t, filepath.Join(dir, "mlxbuild.yaml"), fmt.Sprintf(`version: 1
models: {m: {source: "path:%s"}}
quantizations: {bf16: {quantize: false}, q8: {bits: 8}, q6: {bits: 6}, q4: {bits: 4}, q3: {bits: 3}, q2: {bits: 2}, mixed: {preset: mixed_4_6}, mxfp4: {mode: mxfp4}}
prompts: {smoke: ["The quick brown fox", "In a galaxy far far away", "def fibonacci(n):"]}
corpora: {c: {source: "path:corpus.txt", context: 64, chunks: 2}}
validate:
  builtin: {kind: parity, targets: [m/bf16], prompts: smoke, max_tokens: 16, reference: {runtime: torch}}
  mlx: {kind: parity, runtime: mlx, targets: [m/bf16], prompts: smoke, max_tokens: 2, reference: {runtime: torch}}
  q4: {kind: parity, targets: [m/q4], prompts: smoke, max_tokens: 4, reference: {runtime: torch}}
  loss: {kind: fidelity, targets: [m/*], corpus: c}
`, model))
	reports := reportsOf(t, filepath.Join(dir, "mlxbuild.yaml"))
	for _, name := range []string{"builtin m/bf16", "mlx m/bf16", "q4 m/q4"} {
		r := reports[name]
		if rel := float64(r.Metrics[metric.LogitErrorRel].Value); !(rel <= 1e-5) || r.Metrics[metric.TokenMismatches].Value != 0 {
			t.Errorf("%s: logit_error_rel %v, %v mismatches", name, rel, r.Metrics[metric.TokenMismatches].Value)
		}
		if want := map[bool]string{true: "target", false: "source"}[name == "q4 m/q4"]; r.Reference.Weights != want {
			t.Errorf("%s: the reference ran the %s's weights", name, r.Reference.Weights)
		}
		t.Logf("%s: logit_error_rel %.2g", name, float64(r.Metrics[metric.LogitErrorRel].Value))
	}
	before := 0.0
	for _, q := range []string{"q8", "q6", "mixed", "q4", "mxfp4", "q3", "q2"} {
		r := reports["loss m/"+q]
		kl := float64(r.Metrics[metric.KLDMean].Value)
		if kl <= before {
			t.Errorf("%s costs %v, less than what is wider", q, kl)
		}
		before = kl
		t.Logf("%s: kld_mean %.4f, top1 %.3f", q, kl, float64(r.Metrics[metric.Top1].Value))
	}
}

// reportsOf validates a recipe and returns the reports by validation and target.
func reportsOf(t *testing.T, recipe string) map[string]validate.Report {
	t.Helper()
	code, stdout, stderr := mlxbuild(t, "validate", "--json", recipe)
	if code != exitOK {
		t.Logf("exit %d\n%s", code, stderr)
	}
	var answer struct {
		Validations []struct {
			Name   string          `json:"name"`
			Target string          `json:"target"`
			Report validate.Report `json:"report"`
		} `json:"validations"`
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	out := map[string]validate.Report{}
	for _, v := range answer.Validations {
		out[v.Name+" "+v.Target] = v.Report
	}
	return out
}

// corpusText is a text that suits the model.
func corpusText(t *testing.T, model string) string {
	t.Helper()
	path := filepath.Join(oracle.TinyStories(t), "heldout.txt")
	if !strings.Contains(model, "tiny-stories") {
		path = filepath.Join(oracle.TinyStories(t), "../../DESIGN.md")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// chunksOf are the ids that a corpus is cut into, as JSON.
func chunksOf(t *testing.T, model, text string, context, count int) string {
	t.Helper()
	e, err := prompt.Load(model)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := e.Tokenizer.Encode(text, false)
	if err != nil {
		t.Fatal(err)
	}
	var chunks [][]int32
	for i := range count {
		chunks = append(chunks, stream[i*context:(i+1)*context])
	}
	data, err := json.Marshal(chunks)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRuntimesAgree measures one target in every runtime: what quantization cost is a property of the weights, not of the program.
func TestRuntimesAgree(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", oracle.Python(t))
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "corpus.txt"), corpusText(t, "tiny-stories"))
	write(t, filepath.Join(dir, "mlxbuild.yaml"), fmt.Sprintf(`version: 1
models: {m: {source: "path:%s"}}
quantizations: {f: {quantize: false}, q4: {bits: 4}}
corpora: {c: {source: "path:corpus.txt", context: 64, chunks: 6}}
validate:
  float64: {kind: fidelity, compute: float64, targets: [m/q4], corpus: c}
  builtin: {kind: fidelity, runtime: builtin, targets: [m/q4], corpus: c}
  torch: {kind: fidelity, runtime: torch, targets: [m/q4], corpus: c}
  mlx: {kind: fidelity, runtime: mlx, targets: [m/q4], corpus: c}
  other: {kind: parity, runtime: torch, targets: [m/q4], prompts: [Once upon a time], max_tokens: 8, reference: {runtime: mlx}}
  half: {kind: parity, runtime: torch, compute: bfloat16, targets: [m/f], prompts: [Once upon a time], max_tokens: 8}
`, oracle.TinyStories(t)))
	reports := reportsOf(t, filepath.Join(dir, "mlxbuild.yaml"))
	want := reports["float64 m/q4"].Metrics
	for _, name := range []string{"builtin", "torch", "mlx"} {
		got := reports[name+" m/q4"].Metrics
		for _, figure := range []string{metric.KLDMean, metric.KLDP99, metric.Top1, metric.PerplexityRatio} {
			if g, w := float64(got[figure].Value), float64(want[figure].Value); !(math.Abs(g-w) <= 1e-5) {
				t.Errorf("%s: %s is %v, in float64 %v", name, figure, g, w)
			}
		}
	}
	if rel := float64(reports["other m/q4"].Metrics[metric.LogitErrorRel].Value); !(rel <= 1e-5) {
		t.Errorf("torch against mlx: %v", rel)
	}
	if rel := float64(reports["half m/f"].Metrics[metric.LogitErrorRel].Value); !(rel > 1e-5 && rel < 0.1) {
		t.Errorf("bfloat16 against float32: %v", rel)
	}
}
