package tokenizer

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// benchText is about a megabyte of prose, code and other scripts.
func benchText() string {
	rng := rand.New(rand.NewPCG(3, 4))
	words := strings.Fields("the of and to in a is that for it was on with as his they be at one have this from by hot word but what some we can out other were all there when up use your how said an each she which do their time if will way about many then them write would like so these her long make thing see him two has look more day could go come did number sound no most people my over know water than call first who may down side been now find")
	other := handMade()
	var b strings.Builder
	for b.Len() < 1<<20 {
		switch rng.IntN(20) {
		case 0:
			b.WriteString(randomCode(rng))
		case 1:
			if s := other[rng.IntN(len(other))]; len(s) < 300 {
				b.WriteString(s)
			}
		default:
			for range 12 {
				w := words[rng.IntN(len(words))]
				if rng.IntN(8) == 0 {
					w += words[rng.IntN(len(words))] + "ing"
				}
				b.WriteString(w + " ")
			}
			b.WriteString(".\n")
		}
	}
	return b.String()
}

func BenchmarkEncode(b *testing.B) {
	text := benchText()
	for name, dir := range benchFolders(b) {
		tok, err := Load(dir)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := tok.Encode(text, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for name, dir := range benchFolders(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Load(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchFolders are the tokenizers that are there.
func benchFolders(b *testing.B) map[string]string {
	folders := map[string]string{"tiny-stories": oracle.TinyStories(b)}
	paths, _ := filepath.Glob(filepath.Join(os.Getenv("MLXBUILD_ORACLE_TOKENIZERS"), "*", "tokenizer.json"))
	if smol := filepath.Join(oracle.TinyStories(b), "..", "SmolLM2-135M-Instruct", "tokenizer.json"); exists(smol) {
		paths = append(paths, smol)
	}
	for _, path := range paths {
		folders[filepath.Base(filepath.Dir(path))] = filepath.Dir(path)
	}
	return folders
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// speedScript prints how many seconds Hugging Face takes to load a tokenizer and to encode a text, the best of three.
const speedScript = `
import json, sys, time
from tokenizers import Tokenizer
def best(f):
    out = []
    for _ in range(3):
        start = time.perf_counter(); f(); out.append(time.perf_counter() - start)
    return min(out)
load = best(lambda: Tokenizer.from_file(sys.argv[1]))
t = Tokenizer.from_file(sys.argv[1])
text = open(sys.argv[2], encoding="utf-8", newline="").read()
json.dump([load, best(lambda: t.encode(text, add_special_tokens=False))], sys.stdout)
`

// BenchmarkOracle prints the ratio to Hugging Face tokenizers, in one run on one machine.
func BenchmarkOracle(b *testing.B) {
	text := benchText()
	path := filepath.Join(b.TempDir(), "text")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	for name, dir := range benchFolders(b) {
		b.Run(name, func(b *testing.B) {
			var theirs [2]float64
			if err := json.Unmarshal(oracle.Run(b, speedScript, filepath.Join(dir, "tokenizer.json"), path), &theirs); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
			}
			var tok *Tokenizer
			load := best(func() { tok, _ = Load(dir) })
			encode := best(func() { _, _ = tok.Encode(text, false) })
			b.ReportMetric(theirs[0]/load, "load-ratio")
			b.ReportMetric(theirs[1]/encode, "encode-ratio")
			fmt.Printf("%-24s load %6.1f ms (Hugging Face %7.1f ms)   encode %6.1f MB/s (Hugging Face %5.1f MB/s): %.1f times as fast\n", name,
				1e3*load, 1e3*theirs[0], float64(len(text))/encode/1e6, float64(len(text))/theirs[1]/1e6, theirs[1]/encode)
		})
	}
}

func best(f func()) float64 {
	out := time.Hour
	for range 3 {
		start := time.Now()
		f()
		out = min(out, time.Since(start))
	}
	return out.Seconds()
}
