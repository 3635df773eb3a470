package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
)

// What plain scripts of the peers measure: random ids of a length, so many new tokens, once to be warm and three times more. They print tokens a second of decoding, (N - 1) over the time from the first
// new token to the last, for each of the three.
const torchGenerate = `
import json, sys, time, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
p, n = int(sys.argv[2]), int(sys.argv[3])
rates = []
for run in range(4):
    torch.manual_seed(run)
    ids, at = torch.randint(0, model.config.vocab_size, (1, p)), []
    tick = lambda ids, scores, **_: torch.tensor([bool(at.append(time.perf_counter()))])
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=n, max_new_tokens=n, do_sample=False, pad_token_id=0, stopping_criteria=[tick])
    rates.append((len(at) - 1) / (at[-1] - at[0]))
print(json.dumps(rates[1:]))
`

// mlx_lm counts N tokens over N - 1 gaps; the factor takes that out.
const mlxGenerate = `
import json, sys
import mlx.core as mx
from mlx_lm import load, stream_generate
model, tokenizer = load(sys.argv[1])
tokenizer.eos_token_ids = set()
p, n = int(sys.argv[2]), int(sys.argv[3])
rates = []
for run in range(4):
    mx.random.seed(run)
    ids = mx.random.randint(0, model.args.vocab_size, (p,)).tolist()
    for last in stream_generate(model, tokenizer, ids, max_tokens=n):
        pass
    rates.append(last.generation_tps * (n - 1) / n)
print(json.dumps(rates[1:]))
`

// findPeers says which module is missing, without the seconds that importing takes.
const findPeers = `
import importlib.util, sys
sys.exit(next((f"there is no module {name}" for name in ("torch", "transformers", "mlx_lm") if not importlib.util.find_spec(name)), 0))
`

// agree: mlxbuild's figures of PyTorch and of mlx-lm beside those of plain scripts, in turns.
func (b *bench) agree() error {
	if err := b.needModel(); err != nil {
		return err
	}
	if !b.hasPython() {
		return fmt.Errorf("set MLXBUILD_ORACLE_PYTHON")
	}
	if _, err := once(b.py("-c", findPeers)); err != nil {
		return errors.New(reason(err))
	}
	dir, err := b.scratch("agree")
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name, runtime, quantization, script string
		prompt, tokens                      int
	}{
		{"PyTorch float32", "torch", "bf16", torchGenerate, 128, 64},
		{"mlx-lm, 4 bits", "mlx", "q4", mlxGenerate, 32, 12},
	} {
		if err := b.agreeOn(dir, c.name, c.runtime, c.quantization, c.script, c.prompt, c.tokens); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) agreeOn(dir, name, runtime, quantization, script string, prompt, tokens int) error {
	dir = filepath.Join(dir, runtime)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	recipe := filepath.Join(dir, "mlxbuild.yaml")
	text := fmt.Sprintf("version: 1\nmodels: {m: {source: %q}}\nquantizations: {bf16: {quantize: false}, q4: {bits: 4}}\nbenchmark: {b: {matrix: {target: m/%s, runtime: %s, shape: %d+%d}, runs: {min: 3, max: 3, processes: 1}}}\n",
		"path:"+b.model, quantization, runtime, prompt, tokens)
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		return err
	}
	cache := func(round int) string { return filepath.Join(dir, fmt.Sprint("cache", round)) }
	ours := &side{name: "mlxbuild, " + name, command: func(round int) *exec.Cmd {
		return b.tool(cache(round), "--json", "--python", b.python, "benchmark", recipe)
	}}
	plain := &side{name: "a plain script", command: func(round int) *exec.Cmd {
		return b.py("-c", script, filepath.Join(dir, "build", "m", quantization), fmt.Sprint(prompt), fmt.Sprint(tokens))
	}}
	if _, err := once(b.tool(cache(-1), "build", recipe, "kind=convert")); err != nil {
		return err
	}
	if err := b.takeTurns(b.turns(4), ours, plain); err != nil {
		return err
	}
	var a, p []float64
	for i := range ours.samples {
		var answer struct {
			Benchmarks []struct {
				Report struct {
					Side struct {
						Samples map[string][]float64 `json:"samples"`
					} `json:"side"`
				} `json:"report"`
			} `json:"benchmarks"`
		}
		var rates []float64
		if err := json.Unmarshal(ours.samples[i].out, &answer); err != nil || len(answer.Benchmarks) != 1 {
			return fmt.Errorf("mlxbuild's answer: %v", err)
		}
		if err := json.Unmarshal(plain.samples[i].out, &rates); err != nil {
			return fmt.Errorf("the script's answer: %w", err)
		}
		a, p = append(a, median(answer.Benchmarks[0].Report.Side.Samples["decode_tok_s"])), append(p, median(rates))
	}
	ratio := median(a) / median(p)
	fmt.Printf("  %-34s %6.2f tok/s %v\n  %-34s %6.2f tok/s %v\n", ours.name, median(a), rounded(a), plain.name, median(p), rounded(p))
	atMost(name+": off by", math.Abs(ratio-1), 0.05, func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) })
	return nil
}

func rounded(values []float64) (out []string) {
	for _, v := range values {
		out = append(out, fmt.Sprintf("%.2f", v))
	}
	return out
}
