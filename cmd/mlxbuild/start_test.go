package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// What packages do before main, every command waits for, and most of a build with nothing to do is that. Time says little on a busy machine; what is allocated is the same each time.
func TestStartsLean(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "mlxbuild")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(bin, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes, \d+ allocs$`).FindAllSubmatch(out, -1)
	if len(lines) < 10 {
		t.Fatalf("only %d packages say what they do:\n%s", len(lines), out)
	}
	const each, together = 32_000, 300_000
	total := 0
	for _, l := range lines {
		n, err := strconv.Atoi(string(l[2]))
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n > each {
			t.Errorf("%s allocates %d bytes before main, more than %d", l[1], n, each)
		}
	}
	if total > together {
		t.Errorf("packages allocate %d bytes before main, more than %d", total, together)
	}
}
