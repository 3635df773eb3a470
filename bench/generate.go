package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	prompt    = "The quick brown fox"
	newTokens = 64
	mlxTokens = 16 // mlx-lm takes a second for each on the CPU
)

// mlxLM and torch go on from the prompt, greedily, and print when each token came, from the start of the prompt's evaluation. End-of-text tokens stop nobody early
// with this prompt.
const mlxLM = `
import json, sys, time
from mlx_lm import load, stream_generate
model, tokenizer = load(sys.argv[1])
ids = tokenizer.encode(sys.argv[2])
start = time.perf_counter()
times = [time.perf_counter() - start for _ in stream_generate(model, tokenizer, ids, max_tokens=int(sys.argv[3]))]
print(json.dumps(times))
`

const torchScript = `
import json, sys, time, torch
from transformers import AutoModelForCausalLM
from tokenizers import Tokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager")
ids = torch.tensor([Tokenizer.from_file(sys.argv[1] + "/tokenizer.json").encode(sys.argv[2]).ids])
times, cache = [], None
start = time.perf_counter()
with torch.inference_mode():
    for _ in range(int(sys.argv[3])):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        ids.item()
        times.append(time.perf_counter() - start)
print(json.dumps(times))
`

// generate: one process per answer, 64 tokens but where it says otherwise. The wall time has loading in it; the rates have not.
func (b *bench) generate() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("generate")
	if err != nil {
		return err
	}
	cache, q4 := filepath.Join(dir, "cache"), filepath.Join(dir, "q4")
	if _, err := once(b.tool(cache, "convert", "--hf-path", b.model, "--mlx-path", q4, "-q", "--q-bits", "4")); err != nil {
		return err
	}
	n := strconv.Itoa(newTokens)
	ours := &side{name: "mlxbuild, 4 bits", command: func(int) *exec.Cmd {
		return b.tool(cache, "--json", "generate", q4, "--raw", "--no-speculate", "-n", n, "-p", prompt)
	}}
	sides := []*side{ours}
	if b.hasPython() {
		sides = append(sides,
			&side{name: "mlx-lm, 4 bits, CPU, 16 tokens", peer: true, command: func(int) *exec.Cmd { return b.py("-c", mlxLM, q4, prompt, strconv.Itoa(mlxTokens)) }},
			&side{name: "PyTorch, float32, CPU", peer: true, command: func(int) *exec.Cmd { return b.py("-c", torchScript, b.model, prompt, n) }})
	}
	if err := b.takeTurns(b.turns(4), sides...); err != nil {
		return err
	}
	printTable(sides...)
	rate, first, err := ourRates(ours.samples)
	if err != nil {
		return err
	}
	fmt.Printf("  %-30s %6.1f tok/s (median %.1f), first token %s\n", ours.name, slices.Max(rate), median(rate), seconds(slices.Min(first)))
	for _, s := range sides[1:] {
		if len(s.samples) == 0 {
			continue
		}
		rate, first, err := peerRates(s.samples)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("  %-30s %6.1f tok/s (median %.1f), first token %s\n", s.name, slices.Max(rate), median(rate), seconds(slices.Min(first)))
	}
	fmt.Println()
	atLeast("decoding, median", median(rate), 10, perSecond)
	atMost("first token, median", median(first), 1, seconds)
	return nil
}

// ourRates reads what generate --json says: tokens after the first over the time after it, and seconds to the first.
func ourRates(samples []sample) (rate, first []float64, err error) {
	for _, s := range samples {
		var answer struct {
			Answers []struct {
				First float64 `json:"ttft_ms"`
				Rate  float64 `json:"decode_tok_s"`
			} `json:"answers"`
		}
		if err := json.Unmarshal(s.out, &answer); err != nil {
			return nil, nil, err
		}
		if len(answer.Answers) != 1 {
			return nil, nil, fmt.Errorf("%d answers to one prompt", len(answer.Answers))
		}
		rate, first = append(rate, answer.Answers[0].Rate), append(first, answer.Answers[0].First/1000)
	}
	return rate, first, nil
}

// peerRates computes the same from the times of tokens in the last line that a peer printed.
func peerRates(samples []sample) (rate, first []float64, err error) {
	for _, s := range samples {
		var at []float64
		if err := json.Unmarshal(s.out, &at); err != nil {
			return nil, nil, err
		}
		if len(at) < 2 {
			return nil, nil, fmt.Errorf("only %d tokens", len(at))
		}
		rate, first = append(rate, float64(len(at)-1)/(at[len(at)-1]-at[0])), append(first, at[0])
	}
	return rate, first, nil
}
