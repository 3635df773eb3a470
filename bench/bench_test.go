package main

import (
	"os"
	"path/filepath"
	"reflect"
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
