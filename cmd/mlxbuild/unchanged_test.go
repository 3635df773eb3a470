//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/term"
)

// yard is a folder with recipes, models and a cache of its own.
type yard struct {
	dir  string
	long bool // without snapshots
}

func (y yard) at(name string) string    { return filepath.Join(y.dir, filepath.FromSlash(name)) }
func (y yard) cache(name string) string { return filepath.Join(y.dir, ".cache", name) }

// run the program in the yard. What differs from run to run, times and names of folders, is taken out of what it said.
func (y yard) run(t *testing.T, args ...string) string {
	t.Helper()
	t.Chdir(y.dir)
	t.Setenv("MLXBUILD_CACHE", y.cache(""))
	if y.long {
		must(t, os.RemoveAll(y.cache("snapshots")))
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), args, &out, &errs)
	// conversions of one source share a pass over it and end in any order, whatever -j says: events are compared as a set
	events, words := y.plain(errs.String()), y.plain(out.String())
	if slices.Contains(args, "--json") {
		words = sorted(words)
	}
	return fmt.Sprintf("exit code %d\n%s\n%s", code, words, sorted(events))
}

// plain leaves out what differs from run to run: times, and how often progress is told.
func (y yard) plain(said string) string {
	said = strings.ReplaceAll(said, y.dir, "YARD")
	said = regexp.MustCompile(`(?m)^.*"event":"progress".*\n`).ReplaceAllString(said, "") // ten a second
	said = regexp.MustCompile(`"(t|seconds)":("[^"]*"|[0-9.e+-]+),?`).ReplaceAllString(said, "")
	return regexp.MustCompile(`[0-9.]+ m?s\b`).ReplaceAllString(said, "TIME")
}

func sorted(lines string) string {
	return strings.Join(slices.Sorted(strings.Lines(lines)), "")
}

// hits reports whether a build with these words would be answered by a snapshot.
func (y yard) hits(t *testing.T, args ...string) bool {
	t.Chdir(y.dir)
	t.Setenv("MLXBUILD_CACHE", y.cache(""))
	_, ok := sameAs((&app{began: time.Now(), term: term.New(io.Discard, os.Getenv)}).snapshotPath(args))
	return ok
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// smallModel writes a llama of one layer that only has to be converted and run.
func smallModel(t testing.TB, dir string, first uint16) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	tiny := oracle.TinyStories(t)
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(tiny, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	var config map[string]any
	data, err := os.ReadFile(filepath.Join(tiny, "config.json"))
	must(t, err)
	must(t, json.Unmarshal(data, &config))
	for key, v := range map[string]int{"hidden_size": 32, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 32} {
		config[key] = v
	}
	data, err = json.Marshal(config)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644))
	shapes := map[string][]int{"model.embed_tokens.weight": {1024, 32}, "model.norm.weight": {32}, "model.layers.0.input_layernorm.weight": {32}, "model.layers.0.post_attention_layernorm.weight": {32},
		"model.layers.0.mlp.gate_proj.weight": {64, 32}, "model.layers.0.mlp.up_proj.weight": {64, 32}, "model.layers.0.mlp.down_proj.weight": {32, 64}}
	for _, p := range []string{"q", "k", "v", "o"} {
		shapes["model.layers.0.self_attn."+p+"_proj.weight"] = []int{32, 32}
	}
	header, end := map[string]any{}, 0
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		shape, size := shapes[name], 2
		for _, n := range shape {
			size *= n
		}
		header[name] = map[string]any{"dtype": "BF16", "shape": shape, "data_offsets": []int{end, end + size}}
		end += size
	}
	text, err := json.Marshal(header)
	must(t, err)
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	random := rand.New(rand.NewPCG(1, uint64(first)))
	for range end / 2 {
		file = binary.LittleEndian.AppendUint16(file, 0x3c00|uint16(random.Uint32())&0x80ff)
	}
	must(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), file, 0o644))
}

// plot is a random set of recipes: a graph of a few dozen steps.
func plot(random *rand.Rand) map[string]string {
	models := "  a: {source: \"path:models/a\"}\n"
	if random.IntN(2) == 0 {
		models += "  b: {source: \"path:models/b\"}\n"
	}
	var q strings.Builder
	for _, bits := range []int{2, 3, 4, 5, 6, 8} {
		if random.IntN(3) == 0 {
			fmt.Fprintf(&q, "  q%d: {bits: %d, group_size: 32}\n", bits, bits)
		}
	}
	files := map[string]string{"mlxbuild.yaml": "version: 1\ninclude: [parts/q.yaml]\nmodels:\n" + models, "parts/q.yaml": "version: 1\nquantizations:\n  bf16: {quantize: false}\n" + q.String(),
		"prompts.jsonl": "{\"prompt\": \"Once upon\"}\n", "words.txt": strings.Repeat("Once upon a time there was a fox. ", 40)}
	text := "prompts: {p: {file: prompts.jsonl}, r: [The fox]}\n"
	if random.IntN(4) > 0 {
		text += "generate:\n  g: {targets: [\"*/*\"], prompts: p, max_tokens: 2}\n  h: {targets: [\"a/bf16\"], prompts: r, max_tokens: 1}\n"
	}
	if random.IntN(2) == 0 {
		text += "corpora: {c: {source: \"path:words.txt\", context: 8, chunks: 2}}\nvalidate: {v: {kind: fidelity, targets: [\"a/*\"], corpus: c, expect: [{for: {}, " +
			[]string{"kld_mean: {max: 100}", "top1_agreement: {min: 50%}", "top1_agreement: {min: 1%}"}[random.IntN(3)] + "}]}}\n"
	}
	if random.IntN(2) == 0 {
		text += "report: [md, csv]\n"
	}
	files["mlxbuild.yaml"] += text
	return files
}

func newYards(t *testing.T, files map[string]string) (short, long yard) {
	short, long = yard{dir: t.TempDir()}, yard{dir: t.TempDir(), long: true}
	for _, y := range []yard{short, long} {
		smallModel(t, y.at("models/a"), 1)
		smallModel(t, y.at("models/b"), 2)
		must(t, os.MkdirAll(y.at("parts"), 0o755))
		for name, text := range files {
			must(t, os.WriteFile(y.at(name), []byte(text), 0o644))
		}
	}
	return short, long
}

// A happening is something that people, programs and disks do between two builds. pick is the same number in both yards.
var happenings = map[string]func(t *testing.T, y yard, pick int){
	"nothing":             func(*testing.T, yard, int) {},
	"a source is touched": func(t *testing.T, y yard, pick int) { touch(t, some(y, pick, "models/*/*")) },
	"a source is written": func(t *testing.T, y yard, pick int) { smallModel(t, y.at("models/a"), uint16(pick)) },
	"a source file comes": func(t *testing.T, y yard, pick int) { put(t, y.at("models/a/note.txt"), fmt.Sprint(pick)) },
	"a template comes": func(t *testing.T, y yard, pick int) {
		put(t, y.at("models/a/additional_chat_templates/x.jinja"), fmt.Sprint(pick))
	},
	"a source file goes":       func(t *testing.T, y yard, pick int) { remove(y.at("models/a/note.txt")) },
	"an output is touched":     func(t *testing.T, y yard, pick int) { touch(t, some(y, pick, "build/*/*/*.json")) },
	"an output goes":           func(t *testing.T, y yard, pick int) { remove(some(y, pick, "build/*/*/*")) },
	"an output comes":          func(t *testing.T, y yard, pick int) { add(y, some(y, pick, "build/*/*/config.json"), "more") },
	"an output is edited":      func(t *testing.T, y yard, pick int) { put(t, some(y, pick, "build/*/*/config.json"), "{}") },
	"a target goes":            func(t *testing.T, y yard, pick int) { remove(some(y, pick, "build/*/*/")) },
	"everything built goes":    func(t *testing.T, y yard, pick int) { remove(y.at("build")) },
	"results go":               func(t *testing.T, y yard, pick int) { remove(y.at("build/results.jsonl")) },
	"results are edited":       func(t *testing.T, y yard, pick int) { put(t, y.at("build/results.jsonl"), "{}\n") },
	"a report goes":            func(t *testing.T, y yard, pick int) { remove(y.at("build/report.md")) },
	"provenance goes":          func(t *testing.T, y yard, pick int) { remove(some(y, pick, "build/*/*.provenance.json")) },
	"a record goes":            func(t *testing.T, y yard, pick int) { remove(some(y, pick, ".cache/records/*/*")) },
	"a record is damaged":      func(t *testing.T, y yard, pick int) { turnBit(some(y, pick, ".cache/records/*/*"), pick) },
	"a blob goes":              func(t *testing.T, y yard, pick int) { remove(some(y, pick, ".cache/blobs/*/*")) },
	"the memo goes":            func(t *testing.T, y yard, pick int) { remove(y.cache("stat")) },
	"the memo is damaged":      func(t *testing.T, y yard, pick int) { turnBit(y.cache("stat"), pick) },
	"the recipe is touched":    func(t *testing.T, y yard, pick int) { touch(t, y.at("mlxbuild.yaml")) },
	"the recipe gets comments": func(t *testing.T, y yard, pick int) { add(y, y.at("mlxbuild.yaml"), "\n# more\n") },
	"the recipe is broken":     func(t *testing.T, y yard, pick int) { add(y, y.at("mlxbuild.yaml"), "\nbroken: [\n") },
	"the recipe is mended":     func(t *testing.T, y yard, pick int) { mend(t, y.at("mlxbuild.yaml")) },
	"a rule is edited": func(t *testing.T, y yard, pick int) {
		put(t, y.at("parts/q.yaml"), fmt.Sprintf("version: 1\nquantizations:\n  bf16: {quantize: false}\n  q: {bits: %d}\n", []int{3, 4, 6, 8}[pick%4]))
	},
	"prompts are edited": func(t *testing.T, y yard, pick int) {
		put(t, y.at("prompts.jsonl"), fmt.Sprintf("{\"prompt\": \"Take %d\"}\n", pick%3))
	},
	"the corpus is edited": func(t *testing.T, y yard, pick int) {
		put(t, y.at("words.txt"), strings.Repeat(fmt.Sprintf("Here are %d owls. ", pick%5), 40))
	},
	"a lock comes":             func(t *testing.T, y yard, pick int) { put(t, y.at("mlxbuild.lock"), "mlxbuild-lock 1\n") },
	"a lock of tomorrow comes": func(t *testing.T, y yard, pick int) { put(t, y.at("mlxbuild.lock"), "mlxbuild-lock 2\n") },
	"the lock goes":            func(t *testing.T, y yard, pick int) { remove(y.at("mlxbuild.lock")) },
	"accepted figures come":    func(t *testing.T, y yard, pick int) { put(t, y.at("mlxbuild.accepted.jsonl"), "") },
	"accepted figures are bad": func(t *testing.T, y yard, pick int) { put(t, y.at("mlxbuild.accepted.jsonl"), "{\n") },
	"accepted figures go":      func(t *testing.T, y yard, pick int) { remove(y.at("mlxbuild.accepted.jsonl")) },
	"the cache is newer":       func(t *testing.T, y yard, pick int) { put(t, y.cache("VERSION"), "2\n") },
	"the cache is of today":    func(t *testing.T, y yard, pick int) { put(t, y.cache("VERSION"), "1\n") },
	"a snapshot is damaged":    func(t *testing.T, y yard, pick int) { turnBit(some(y, pick, ".cache/snapshots/*"), pick) },
	"a snapshot is cut": func(t *testing.T, y yard, pick int) {
		if name := some(y, pick, ".cache/snapshots/*"); name != "" {
			must(t, os.Truncate(name, int64(pick%2000)))
		}
	},
	"the environment changes": func(t *testing.T, y yard, pick int) {
		t.Setenv("MLXBUILD_CACHE_SIZE", []string{"", "40GiB", "wrong"}[pick%3])
	},
}

// some file of a pattern, the same one in both yards; "" when there is none. Names in the cache are digests, and those of keys and contents are the same.
func some(y yard, pick int, pattern string) string {
	names, _ := filepath.Glob(y.at(pattern))
	if len(names) == 0 {
		return ""
	}
	return names[pick%len(names)]
}

func remove(name string) {
	if name != "" {
		_ = os.RemoveAll(name)
	}
}

func touch(t *testing.T, name string) {
	if name != "" {
		must(t, os.Chtimes(name, time.Time{}, time.Now()))
	}
}

func put(t *testing.T, name, text string) {
	if name != "" && os.MkdirAll(filepath.Dir(name), 0o755) == nil {
		_ = os.Remove(name) // it may be a link into the cache, or read-only
		must(t, os.WriteFile(name, []byte(text), 0o644))
	}
}

// add a file beside another, or text to it.
func add(_ yard, name, text string) {
	if name == "" {
		return
	}
	if !strings.HasPrefix(text, "\n") {
		name, text = filepath.Join(filepath.Dir(name), text), "x"
	}
	if f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		_, _ = f.WriteString(text)
		_ = f.Close()
	}
}

func mend(t *testing.T, name string) {
	data, err := os.ReadFile(name)
	must(t, err)
	put(t, name, strings.ReplaceAll(string(data), "\nbroken: [\n", ""))
}

func turnBit(name string, pick int) {
	if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
		data[pick%len(data)] ^= 1 << (pick % 8)
		_ = os.Chmod(name, 0o644)
		_ = os.WriteFile(name, data, 0o644)
	}
}

// TestUnchangedDecidesAsBefore runs the program with and without snapshots through the same lives of recipes, and wants the same words, exit codes and files of both.
func TestUnchangedDecidesAsBefore(t *testing.T) {
	names := slices.Sorted(maps.Keys(happenings))
	plain := []string{"build", "-j", "1"}
	others := [][]string{{"--json", "build", "-j", "1"}, {"build", "-j", "1", "--quiet"}, {"build", "-j", "1", "a/*"}, {"plan", "--check"}, {"explain", "a/bf16"}, {"build", "-j", "1", "-k"}, {"validate", "-j", "1"}}
	hits, seen := 0, map[string]bool{}
	for life := range 4 {
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(life), 7))
			short, long := newYards(t, plot(random))
			var story []string
			both := func(what string, args []string) {
				if short.hits(t, args...) {
					hits++
				}
				story = append(story, what+": "+strings.Join(args, " "))
				if got, want := short.run(t, args...), long.run(t, args...); got != want {
					t.Fatalf("after\n  %s\nit said\n%s\nand without snapshots\n%s", strings.Join(story, "\n  "), got, want)
				}
			}
			happens := func(what string, pick int) {
				seen[what] = true
				time.Sleep(15 * time.Millisecond) // a tick of the file system's clock
				for _, y := range []yard{short, long} {
					happenings[what](t, y, pick)
				}
				time.Sleep(40 * time.Millisecond) // so that files are old enough to be known by their metadata in both
			}
			for range 25 {
				what := names[random.IntN(len(names))]
				happens(what, random.IntN(1<<20))
				both(what, plain)
				both("again", others[random.IntN(len(others))])
				if undo := mended[what]; undo != "" {
					happens(undo, 0)
				}
				both("again", plain)
				time.Sleep(40 * time.Millisecond) // a snapshot is not taken of what is young
				both("later", plain)
				both("later", plain)
			}
			if got, want := tree(t, short), tree(t, long); got != want {
				t.Errorf("after\n  %s\nthere is\n%s\nand without snapshots\n%s", strings.Join(story, "\n  "), got, want)
			}
		})
	}
	if hits < 60 || len(seen) < len(happenings)/2 {
		t.Errorf("%d builds were answered by snapshots, and %d of %d things have happened: this proves little", hits, len(seen), len(happenings))
	}
}

// A build that repeats which validations are undecided, and one that looked for PyTorch in vain, are answered by snapshots, too: in the same words, until PyTorch comes.
func TestUnchangedRepeats(t *testing.T) {
	t.Setenv("MLXBUILD_PYTHON", "")
	t.Setenv("VIRTUAL_ENV", "")
	short, long := newYards(t, map[string]string{"words.txt": strings.Repeat("Once upon a time there was a fox. ", 40), "mlxbuild.yaml": "version: 1\nmodels: {a: \"path:models/a\"}\n" +
		"quantizations: {bf16: {quantize: false}, q2: {bits: 2, group_size: 32}, q4: {bits: 4, group_size: 32}}\nprompts: {p: [The fox]}\ncorpora: {c: {source: \"path:words.txt\", context: 8, chunks: 2}}\nvalidate:\n" +
		"  close: {kind: fidelity, targets: [\"a/*\"], corpus: c, expect: [{for: {}, kld_mean: {max: 2.29e-7}, top1_agreement: {min: 1%}}]}\n" +
		"  right: {kind: parity, targets: [a/bf16], prompts: p}\n"})
	args := []string{"build"}
	same := func() string {
		got, want := short.run(t, args...), long.run(t, args...)
		if got != want {
			t.Fatalf("it said\n%s\nand without snapshots\n%s", got, want)
		}
		time.Sleep(40 * time.Millisecond)
		return got
	}
	same()
	said := same()
	if !strings.Contains(said, "undecided a/q2: kld_mean") || !strings.Contains(said, "nothing to do") || !strings.Contains(said, "more validation") {
		t.Fatalf("this repeats nothing:\n%s", said)
	}
	if !short.hits(t, args...) {
		t.Error("no snapshot was left")
	}
	if again := same(); again != said {
		t.Errorf("a snapshot's answer is\n%s\nnot\n%s", again, said)
	}
	for _, y := range []yard{short, long} {
		t.Setenv("MLXBUILD_CACHE", y.cache(""))
		set := (&app{ctx: t.Context()}).openRuntimes("")
		if set.Has("torch") {
			t.Fatal("PyTorch is here")
		}
		files, ok := set.Absent()
		if !ok || len(files) != 1 {
			t.Fatal("it is not known when PyTorch comes", files)
		}
		put(t, files[0], "#!/bin/sh\necho broken >&2; exit 1\n")
		must(t, os.Chmod(files[0], 0o755))
	}
	if short.hits(t, args...) {
		t.Error("a snapshot answers although PyTorch has come")
	}
	if said := same(); !strings.Contains(said, "torch") {
		t.Errorf("PyTorch has come, and is broken, and it is\n%s", said)
	}
}

// mended says what ends a happening after which nothing can be built.
var mended = map[string]string{"the recipe is broken": "the recipe is mended", "a lock of tomorrow comes": "the lock goes", "accepted figures are bad": "accepted figures go", "the cache is newer": "the cache is of today"}

// tree lists what is in build/, with what it holds but for times.
func tree(t *testing.T, y yard) string {
	var b strings.Builder
	_ = filepath.WalkDir(y.at("build"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		must(t, err)
		if strings.HasSuffix(path, ".provenance.json") || strings.HasSuffix(path, "results.jsonl") || strings.Contains(path, "report.") {
			data = nil
		}
		fmt.Fprintf(&b, "%s %x\n", strings.TrimPrefix(path, y.dir), data[:min(len(data), 64)])
		return nil
	})
	return b.String()
}
