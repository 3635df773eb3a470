package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

func TestMain(m *testing.M) {
	copyIfAsked()
	os.Exit(m.Run())
}

// Two threads read one file: one call is cut in two by the other's, reads go on where the last one ended, and what is written does not count. Of mappings counts what is asked for while they are there.
const traced = `100 openat(AT_FDCWD</tmp>, "m.safetensors", O_RDONLY|O_CLOEXEC) = 3</tmp/m.safetensors>
100 read(3</tmp/m.safetensors>, ""..., 8) = 8
101 pread64(3</tmp/m.safetensors>, ""..., 4096, 1024 <unfinished ...>
100 read(3</tmp/m.safetensors>, ""..., 92) = 92
101 <... pread64 resumed>) = 1000
100 openat(AT_FDCWD</tmp>, "none", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)
100 read(4<socket:[77]>, ""..., 512) = 12
100 mmap(NULL, 8192, PROT_READ, MAP_SHARED, 3</tmp/m.safetensors>, 0) = 0x7f25d1800000
100 mmap(NULL, 1048576, PROT_READ, MAP_SHARED, 3</tmp/m.safetensors>, 4096) = 0x7f25d0000000
101 madvise(0x7f25d0002000, 8192, MADV_WILLNEED) = 0
101 madvise(0x7f25d0002000, 8192, MADV_POPULATE_READ) = 0
101 madvise(0x7f25d0010000, 8192, MADV_DONTNEED) = 0
101 madvise(0x7f25d0010000, 4096, MADV_WILLNEED) = -1 EIO (Input/output error)
100 madvise(0x7f25d1801000, 1048576, MADV_WILLNEED <unfinished ...>
101 getpid() = 100
100 <... madvise resumed>) = 0
100 munmap(0x7f25d0000000, 1048576) = 0
101 madvise(0x7f25d0002000, 8192, MADV_WILLNEED) = 0
100 sendfile(5</tmp/copy>, 3</tmp/m.safetensors>, NULL, 50) = 50
100 copy_file_range(3</tmp/m.safetensors>, NULL, 5</tmp/copy>, NULL, 70, 0) = 70
101 +++ exited with 0 +++
`

func TestParseTrace(t *testing.T) {
	seen, err := parseTrace(strings.NewReader(traced))
	if err != nil {
		t.Fatal(err)
	}
	want := accesses{"/tmp/m.safetensors": {opens: 1, read: 1220, mapped: 8192 + 1<<20, parts: []part{{0, 8}, {8, 100}, {1024, 2024}, {100, 150}, {150, 220}},
		asked: []part{{12288, 20480}, {12288, 20480}, {4096, 8192}}}}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("got %+v", seen["/tmp/m.safetensors"])
	}
	if other := seen.of(func(path string) bool { return strings.HasSuffix(path, "/copy") }); len(other) > 0 {
		t.Errorf("a file that was only written counts as read: %v", other)
	}
}

func TestParts(t *testing.T) {
	parts := []part{{200, 300}, {400, 500}}
	for p, want := range map[part]int64{{0, 1000}: 200, {250, 450}: 100, {300, 400}: 0, {210, 220}: 10} {
		if got := overlap(parts, []part{p}); got != want {
			t.Errorf("%v overlaps %d bytes, want %d", p, got, want)
		}
	}
	if got := union([]part{{5, 9}, {0, 3}, {8, 12}, {3, 4}, {20, 21}}); !slices.Equal(got, []part{{0, 4}, {5, 12}, {20, 21}}) {
		t.Errorf("union: %v", got)
	}
	page := int64(os.Getpagesize())
	if got := pages([]part{{page - 1, page + 1}, {2 * page, 3 * page}, {5*page + 1, 5*page + 2}}); !slices.Equal(got, []part{{0, 3 * page}, {5 * page, 6 * page}}) {
		t.Errorf("pages: %v", got)
	}
}

// What a peer that cannot be run says is one line: the last that it wrote, or why there was no process.
func TestLeaveOut(t *testing.T) {
	b := &bench{ctx: t.Context()}
	sides := []*side{
		{name: "ours", command: func(int) *exec.Cmd { return b.command("go", "version") }},
		{name: "no such program", peer: true, command: func(int) *exec.Cmd { return b.command("/no/such/program", "-c", "a\nb") }},
		{name: "one that fails", peer: true, command: func(int) *exec.Cmd { return b.command("go", "no\nsuch\ncommand") }},
	}
	said := output(t, func() {
		if err := b.takeTurns(2, sides...); err != nil {
			t.Error(err)
		}
		printTable(sides...)
	})
	if lines := strings.Count(said, "without "); lines != 2 || !strings.Contains(said, "  without no such program: fork/exec /no/such/program: ") || strings.Contains(said, "SCRIPT") {
		t.Errorf("said\n%s", said)
	}
	if len(sides[0].samples) != 2 || !slices.Equal(b.without, []string{"no such program", "one that fails"}) {
		t.Errorf("%d of ours, without %v", len(sides[0].samples), b.without)
	}
	sides[1].peer = false
	if err := b.takeTurns(1, sides[1]); err == nil || !strings.HasSuffix(err.Error(), "/no/such/program -c SCRIPT") {
		t.Errorf("our own failure is %v", err)
	}
}

// An interrupted command takes with it what it started, and is not waited for.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // there are no groups of processes
	}
	ctx, interrupt := context.WithCancel(t.Context())
	b := &bench{ctx: ctx}
	marker := filepath.Join(t.TempDir(), "still there")
	time.AfterFunc(200*time.Millisecond, interrupt)
	err := b.takeTurns(1, &side{name: "a shell", command: func(int) *exec.Cmd { return b.command("sh", "-c", `(sleep 2; touch "$1") & wait`, "sh", marker) }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(marker); err == nil {
		t.Error("what the shell started went on")
	}
}

// programs that a benchmark cannot do without, or is not to do without in a test.
var programs = map[string][]string{
	"convert": {"sh", "cp", "cat", "wc", "dd", "sha256sum"}, "variants": {"dd"}, "noop": {"strace", "fincore"}, "override": {"strace", "fincore"}, "ninja": {"strace", "fincore", "ninja", "make"},
}

// Every benchmark runs to its end on the smallest model, and what it counts, other than time and memory, is as it should be.
func TestEachBenchmark(t *testing.T) {
	tiny := oracle.TinyStories(t)
	b := &bench{ctx: t.Context(), python: os.Getenv("MLXBUILD_ORACLE_PYTHON"), model: tiny, large: tiny, rounds: 1, graphs: []graph{{2, 1}}, rows: 64, readEach: 1 << 20}
	if err := b.prepare(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			for _, program := range programs[m.name] {
				oracle.Program(t, program)
			}
			if m.name == "agree" {
				oracle.Python(t)
			}
			var err error
			said := output(t, func() { err = m.run(b) })
			t.Log("\n" + said)
			if err != nil {
				t.Error(err)
			}
			if counted := regexp.MustCompile(`(?m)^  MISSED  bytes of .*`).FindAllString(said, -1); counted != nil {
				t.Error(counted)
			}
			if b.without != nil {
				t.Errorf("without %v", b.without)
			}
			b.without = nil
		})
	}
	oracle.Python(t) // without it the peers were left out
}

// output is what is printed meanwhile.
func output(t *testing.T, do func()) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	os.Stdout = f
	do()
	said, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

// The graph must be the one whose figures are known: 43 steps and 47 files a model.
func TestGraph(t *testing.T) {
	dir := t.TempDir()
	steps, err := writeGraph(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "build.ninja"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\nbuild "); steps != 3*43 || got != steps {
		t.Errorf("%d steps said, %d written, want %d", steps, got, 3*43)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "m*", "src*")); len(files) != 3*4 {
		t.Errorf("%d source files", len(files))
	}
	rules, err := os.ReadFile(filepath.Join(dir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(rules), "touch $@"); got != steps {
		t.Errorf("make has %d steps, ninja %d", got, steps)
	}
	for i, want := range []int{989, 10019, 100018} {
		if got := sizes[i].models * perModel; got != want {
			t.Errorf("%d steps, want %d", got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	if m := median([]time.Duration{5, 1, 3}); m != 3 {
		t.Errorf("median of 5, 1, 3 is %d", m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2 {
		t.Errorf("lower median of 4, 1, 3, 2 is %g", m)
	}
}

func TestNoopTimes(t *testing.T) {
	out := "goos: linux\nBenchmarkNoOp-2   \t       5\t  21345678 ns/op\t  100 B/op\nPASS\n"
	times, err := noopTimes([]sample{{out: []byte(out)}})
	if err != nil || times[0] != 21345678 {
		t.Errorf("%v, %v", times, err)
	}
	if _, err := noopTimes([]sample{{out: []byte("PASS\n")}}); err == nil {
		t.Error("a benchmark that printed nothing was taken for one")
	}
}

func TestBestOfGo(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	var out strings.Builder
	for _, ns := range []string{"2500", "2000.5", "3000"} {
		for _, threads := range []int{1, runtime.NumCPU()} {
			fmt.Fprintf(&out, "BenchmarkMatrix/affine-4-64/threads=%d-2 \t 5\t %s ns/op\t 3210.40 MB/s\n--- BENCH: BenchmarkMatrix/affine-4-64\n    bench_test.go:75: sha256 %s\n", threads, ns, digest)
		}
	}
	one, all, err := bestOfGo([]sample{{out: []byte(out.String())}})
	want := quantized{"affine-4-64", 2.0005e-6, digest}
	if err != nil || one["affine-4-64"] != want || all["affine-4-64"] != want {
		t.Errorf("%v, %v, %v", one, all, err)
	}
	if _, _, err := bestOfGo([]sample{{out: []byte("PASS\n")}}); err == nil {
		t.Error("a benchmark that printed nothing was taken for one")
	}
}

func TestBestOfPython(t *testing.T) {
	best, err := bestOfPython([]sample{{out: []byte(`{"scheme": "mxfp4-4-32", "seconds": 0.25, "sha256": "cd"}`)}, {out: []byte(`{"scheme": "mxfp4-4-32", "seconds": 0.5, "sha256": "cd"}`)}})
	if want := (quantized{"mxfp4-4-32", 0.25, "cd"}); err != nil || best["mxfp4-4-32"] != want {
		t.Errorf("%v, %v", best, err)
	}
	if _, err := bestOfPython([]sample{{out: []byte("Traceback\n")}}); err == nil {
		t.Error("a traceback was taken for a result")
	}
}

func TestEncodings(t *testing.T) {
	out := "BenchmarkEncode/llama3_1/prose-2 \t 10\t 6000000 ns/op\t  66.60 MB/s\t4294967295 crc32\nBenchmarkEncode/llama3_1/prose \t 10\t 5000000 ns/op\t  80.10 MB/s\t4294967295 crc32\nBenchmarkLoad/llama3_1-2 \t 1\t 100 ns/op\t  59.00 MB/s\nPASS\n"
	got, err := ourEncoding([]sample{{out: []byte(out)}})
	want := encodings{"llama3_1/prose": {80.1, 1<<32 - 1}, "llama3_1/load": {59, 0}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ours: %v, %v", got, err)
	}
	got, err = peerEncoding([]sample{{out: []byte(`[["llama3_1/prose", 80.1, 4294967295]]`)}, {out: []byte(`[["llama3_1/load", 59, 0], ["llama3_1/prose", 7, 4294967295]]`)}})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the peer's: %v, %v", got, err)
	}
}
