package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// peerTokenize encodes the same documents with Hugging Face tokenizers, by the call that keeps no offsets, for as long as the Go benchmark does. It prints for each tokenizer and text megabytes a second and
// a checksum of the ids.
const peerTokenize = `
import array, json, os, sys, time, zlib
from tokenizers import Tokenizer
texts, rates = json.load(open(sys.argv[1], encoding="utf-8")), []
def window(run):
    start, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - start < 0.1:
        out, n = run(), n + 1
    return n / (time.perf_counter() - start) / 1e6, out
for dir in sys.argv[2:]:
    file = os.path.join(dir, "tokenizer.json")
    name = os.path.basename(dir)
    per, t = window(lambda: Tokenizer.from_file(file))
    rates.append([name + "/load", os.path.getsize(file) * per, 0])
    t.no_truncation(); t.no_padding()
    for text in texts:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if text["threads"] > 1 else "false"
        size = sum(len(d.encode()) for d in text["documents"])
        per, out = window(lambda: t.encode_batch_fast(text["documents"], add_special_tokens=False))
        rates.append([name + "/" + text["name"], size * per, zlib.crc32(array.array("i", [i for e in out for i in e.ids]).tobytes())])
print(json.dumps(rates))
`

// encodedText is what both sides read. Everything is encoded again and again, so caches are as full as they get.
type encodedText struct {
	Name      string   `json:"name"`
	Threads   int      `json:"threads"`
	Documents []string `json:"documents"`
}

// textSize is about the size of each text, too large for all its words to be in a cache of ten thousand.
const textSize = 400 << 10

// tokenizeVar and tokenizersVar tell the tokenizer's benchmark what to encode, by which tokenizers.
const (
	tokenizeVar   = "MLXBUILD_BENCH_TEXTS"
	tokenizersVar = "MLXBUILD_BENCH_TOKENIZERS"
)

// tokenize: Encode as its Go benchmark reports it, and Hugging Face tokenizers, on texts that everybody has who has Go, with the tokenizers that are there.
func (b *bench) tokenize() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("tokenize")
	if err != nil {
		return err
	}
	all, err := b.texts()
	if err != nil {
		return err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	texts := filepath.Join(dir, "texts.json")
	if err := os.WriteFile(texts, data, 0o666); err != nil {
		return err
	}
	folders := []string{b.model}
	found, err := filepath.Glob(filepath.Join(os.Getenv("MLXBUILD_ORACLE_TOKENIZERS"), "*", "tokenizer.json"))
	if err != nil {
		return err
	}
	for _, file := range found {
		folders = append(folders, filepath.Dir(file))
	}
	if len(found) == 0 {
		fmt.Println("  without the tokenizers of other models: MLXBUILD_ORACLE_TOKENIZERS names no folder of them (scripts/oracle_tokenizers.sh makes one)")
	}
	test := filepath.Join(dir, "tokenizer.test"+exeSuffix)
	build := b.command("go", "test", "-c", "-o", test, "./internal/tokenizer")
	build.Dir = b.root
	if _, err := once(build); err != nil {
		return err
	}
	ours := &side{name: "mlxbuild", command: func(int) *exec.Cmd {
		cmd := b.command(test, "-test.run", "^$", "-test.bench", "^Benchmark(Encode|Load)$", "-test.benchtime", "100ms")
		cmd.Dir = filepath.Join(b.root, "internal", "tokenizer")
		cmd.Env = append(os.Environ(), tokenizeVar+"="+texts, tokenizersVar+"="+strings.Join(folders, string(os.PathListSeparator)))
		return cmd
	}}
	sides := []*side{ours}
	peer := &side{name: "Hugging Face tokenizers", peer: true, command: func(int) *exec.Cmd { return b.py(append([]string{"-c", peerTokenize, texts}, folders...)...) }}
	if b.hasPython() {
		sides = append(sides, peer)
	}
	if err := b.takeTurns(b.turns(4), sides...); err != nil {
		return err
	}
	return compareRates(folders, all, ours, peer)
}

// compareRates prints the best rate of each side that took part for each tokenizer and text, and holds that both came to the same ids.
func compareRates(folders []string, texts []encodedText, ours, peer *side) error {
	mine, err := ourEncoding(ours.samples)
	if err != nil {
		return err
	}
	its, err := peerEncoding(peer.samples)
	if err != nil {
		return err
	}
	names := []string{"load"}
	for _, t := range texts {
		names = append(names, t.Name)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmlxbuild\ttokenizers\tratio\t")
	slowest, where := 0.0, ""
	for _, folder := range folders {
		for _, name := range names {
			key := filepath.Base(folder) + "/" + name
			m, p := mine[key], its[key]
			if m.rate == 0 || p.rate == 0 && len(its) > 0 {
				return fmt.Errorf("%s was not measured", key)
			}
			if len(its) == 0 {
				fmt.Fprintf(w, "  %s\t%.1f MB/s\t\t\t\n", key, m.rate)
				continue
			}
			if m.ids != p.ids {
				return fmt.Errorf("%s: the ids differ", key)
			}
			r := m.rate / p.rate
			fmt.Fprintf(w, "  %s\t%.1f MB/s\t%.1f MB/s\t%.1f\t\n", key, m.rate, p.rate, r)
			if where == "" || r < slowest {
				slowest, where = r, key
			}
		}
	}
	w.Flush()
	fmt.Println()
	if len(its) == 0 {
		return nil
	}
	atLeast("slowest of all ("+where+"), of tokenizers' speed", slowest, 1, ratio)
	return nil
}

// encoding is the best rate of a text, and what came out.
type encoding struct {
	rate float64 // MB/s
	ids  uint32  // CRC-32
}

type encodings map[string]encoding

func (e encodings) add(key string, rate float64, ids uint32) {
	e[key] = encoding{max(rate, e[key].rate), ids}
}

var encodeLine = regexp.MustCompile(`(?m)^Benchmark(Encode|Load)/(\S+?)(?:-\d+)?\s+\d+\s+\S+ ns/op\s+(\S+) MB/s(?:\s+(\d+) crc32)?`)

// ourEncoding reads the lines of the Go benchmarks.
func ourEncoding(samples []sample) (encodings, error) {
	all := encodings{}
	for _, s := range samples {
		for _, m := range encodeLine.FindAllStringSubmatch(string(s.out), -1) {
			key, ids := m[2], uint64(0)
			rate, err := strconv.ParseFloat(m[3], 64)
			if err != nil {
				return nil, err
			}
			if m[1] == "Load" {
				key += "/load"
			} else if ids, err = strconv.ParseUint(m[4], 10, 32); err != nil {
				return nil, err
			}
			all.add(key, rate, uint32(ids))
		}
	}
	return all, nil
}

// peerEncoding reads the lists of the Python script.
func peerEncoding(samples []sample) (encodings, error) {
	all := encodings{}
	for _, s := range samples {
		var list [][3]any
		if err := json.Unmarshal(s.out, &list); err != nil {
			return nil, err
		}
		for _, v := range list {
			key, _ := v[0].(string)
			rate, _ := v[1].(float64)
			ids, _ := v[2].(float64)
			all.add(key, rate, uint32(ids))
		}
	}
	return all, nil
}

// texts are natural ones that came with Go and with the modules of this repository, and two that are not natural.
func (b *bench) texts() ([]encodedText, error) {
	goroot, err := b.output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	module, err := b.output("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/text")
	if err != nil {
		return nil, err
	}
	packages, err := b.output("go", "list", "-json", "std")
	if err != nil {
		return nil, err
	}
	prose, err := readAll(filepath.Join(goroot, "src", "testdata", "Isaac.Newton-Opticks.txt"))
	if err != nil {
		return nil, err
	}
	code, err := readAll(filepath.Join(goroot, "src", "net", "http", "*.go"))
	if err != nil {
		return nil, err
	}
	languages, err := readAll(filepath.Join(module, "encoding", "testdata", "*-utf-8.txt")) // Chinese, French, Japanese, Korean
	if err != nil {
		return nil, err
	}
	emoji := []string{"😀", "👩🏽‍💻", "❤️", "🇯🇵", "🏳️‍🌈"}
	var mixed strings.Builder
	for line := range strings.Lines(languages) {
		mixed.WriteString(emoji[mixed.Len()%len(emoji)] + line)
	}
	return []encodedText{
		{"prose", 1, []string{prose}},
		{"code", 1, []string{code}},
		{"languages", 1, []string{mixed.String()}},
		{"json", 1, []string{packages[:min(len(packages), textSize)]}},
		{"repeated", 1, []string{strings.Repeat("The cat sat on the mat. ", textSize/24)}},
		{"noblanks", 1, []string{strings.Join(strings.Fields(prose), "")}},
		{"prompts", 1, strings.SplitAfter(prose, "\n\n")},
		{"batch", runtime.NumCPU(), strings.SplitAfter(code, "\n}\n")},
	}, nil
}

// readAll joins the files of a pattern, up to textSize.
func readAll(pattern string) (string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text.Write(data)
	}
	if text.Len() == 0 {
		return "", fmt.Errorf("there is no text at %s", pattern)
	}
	s := text.String()
	return strings.ToValidUTF8(s[:min(len(s), textSize)], ""), nil
}

// output is what a command prints, run in the checkout.
func (b *bench) output(name string, args ...string) (string, error) {
	cmd := b.command(name, args...)
	cmd.Dir = b.root
	out, err := once(cmd)
	return strings.TrimSpace(string(out)), err
}
