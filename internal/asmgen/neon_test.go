package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// TestWords holds instructions of arm64 that are written as words to what a real assembler makes of their text.
func TestWords(t *testing.T) {
	assembler, objcopy := oracle.Program(t, "aarch64-linux-gnu-as"), oracle.Program(t, "aarch64-linux-gnu-objcopy")
	found := map[string]string{}
	for _, f := range files() {
		if f.arch == "arm64" {
			maps.Copy(found, words(string(f.outputs()[f.base()+".s"])))
		}
	}
	if len(found) < 100 {
		t.Fatalf("only %d words", len(found))
	}
	instructions := slices.Sorted(maps.Keys(found))
	dir := t.TempDir()
	source, object, code := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	if err := os.WriteFile(source, []byte(".arch armv8.2-a+dotprod\n"+strings.Join(instructions, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{assembler, "-o", object, source}, {objcopy, "-O", "binary", "-j", ".text", object, code}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd[0], err, out)
		}
	}
	raw, err := os.ReadFile(code)
	if err != nil || len(raw) != 4*len(instructions) {
		t.Fatalf("%d instructions are %d bytes: %v", len(instructions), len(raw), err)
	}
	for i, instruction := range instructions {
		if want := fmt.Sprintf("%08x", binary.LittleEndian.Uint32(raw[4*i:])); found[instruction] != want {
			t.Errorf("%s is 0x%s, not 0x%s", instruction, want, found[instruction])
		}
	}
}

// TestWordsOf holds words to finding what kernels write.
func TestWordsOf(t *testing.T) {
	f := newFile("pkg", "name", "arm64", "")
	f.fn("f", "does nothing.", "dst *byte").sdotLane(1, 2, 3, 3)
	if out := f.outputs()["pkg/name_arm64.s"]; !bytes.Contains(out, []byte("WORD $0x4fa3e841")) || words(string(out))["sdot v1.4s, v2.16b, v3.4b[3]"] != "4fa3e841" {
		t.Errorf("%s", out)
	}
}

// words are the instructions of an assembly file that are written as words, by their text.
func words(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if code, instruction, ok := strings.Cut(strings.TrimSpace(line), " // "); ok && strings.HasPrefix(code, "WORD $0x") {
			out[instruction] = strings.TrimPrefix(code, "WORD $0x")
		}
	}
	return out
}
