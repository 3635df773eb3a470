package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Two threads read one file: one call is cut in two by the other's, reads go on where the last one ended, and what is written does not count.
const traced = `100 openat(AT_FDCWD</tmp>, "m.safetensors", O_RDONLY|O_CLOEXEC) = 3</tmp/m.safetensors>
100 read(3</tmp/m.safetensors>, ""..., 8) = 8
101 pread64(3</tmp/m.safetensors>, ""..., 4096, 1024 <unfinished ...>
100 read(3</tmp/m.safetensors>, ""..., 92) = 92
101 <... pread64 resumed>) = 1000
100 openat(AT_FDCWD</tmp>, "none", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)
100 read(4<socket:[77]>, ""..., 512) = 12
100 mmap(NULL, 8192, PROT_READ, MAP_SHARED, 3</tmp/m.safetensors>, 0) = 0x7f25d1800000
100 sendfile(5</tmp/copy>, 3</tmp/m.safetensors>, NULL, 50) = 50
100 copy_file_range(3</tmp/m.safetensors>, NULL, 5</tmp/copy>, NULL, 70, 0) = 70
101 +++ exited with 0 +++
`

func TestParseTrace(t *testing.T) {
	seen, err := parseTrace(strings.NewReader(traced))
	if err != nil {
		t.Fatal(err)
	}
	want := accesses{"/tmp/m.safetensors": {opens: 1, read: 1220, mapped: 8192, parts: []part{{0, 8}, {8, 100}, {1024, 2024}, {100, 150}, {150, 220}}}}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("got %+v", seen["/tmp/m.safetensors"])
	}
	if other := seen.of(func(path string) bool { return strings.HasSuffix(path, "/copy") }); len(other) > 0 {
		t.Errorf("a file that was only written counts as read: %v", other)
	}
}

func TestOverlap(t *testing.T) {
	h := header{data: 100, layer: []part{{200, 300}, {400, 500}}}
	for p, want := range map[part]int64{{0, 1000}: 200, {250, 450}: 100, {300, 400}: 0, {210, 220}: 10} {
		if got := h.overlap(p); got != want {
			t.Errorf("%v overlaps %d bytes, want %d", p, got, want)
		}
	}
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
