package main

import (
	"encoding/hex"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// TestBytes holds instructions of amd64 that are written as bytes to what a real assembler makes of their text.
func TestBytes(t *testing.T) {
	assembler, objdump := oracle.Program(t, "x86_64-linux-gnu-as"), oracle.Program(t, "x86_64-linux-gnu-objdump")
	f := panelAMX()
	found := byteInstructions(string(f.outputs()[f.base()+".s"]))
	others := newFile("pkg", "name", "amd64", "")
	a := others.fn("f", "has each register once.", "dst *byte")
	for i, g := range general {
		base, _, _ := strings.Cut(g, ":")
		stride, _, _ := strings.Cut(general[15-i], ":")
		if i&7 == 5 || 15-i == 4 {
			continue
		}
		a.loadTile(byte(i&7), base, stride)
		a.storeTile(byte(i&7), base, stride)
		a.zeroTile(byte(i & 7))
		a.dot(byte(i&7), byte((i+1)&7), byte((i+2)&7), i&1 == 0, i&2 == 0)
		if i&7 != 4 {
			a.configure(base)
		}
	}
	maps.Copy(found, byteInstructions(string(others.outputs()["pkg/name_amd64.s"])))
	if len(found) < 60 {
		t.Fatalf("only %d instructions", len(found))
	}
	instructions := slices.Sorted(maps.Keys(found))
	dir := t.TempDir()
	source, object := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o")
	if err := os.WriteFile(source, []byte(".intel_syntax noprefix\n"+strings.Join(instructions, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(assembler, "-o", object, source).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", assembler, err, out)
	}
	out, err := exec.Command(objdump, "-d", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for line := range strings.Lines(string(out)) {
		if parts := strings.Split(line, "\t"); len(parts) == 3 {
			made = append(made, strings.ReplaceAll(parts[1], " ", ""))
		}
	}
	if len(made) != len(instructions) {
		t.Fatalf("%d instructions became %d", len(instructions), len(made))
	}
	for i, instruction := range instructions {
		if found[instruction] != made[i] {
			t.Errorf("%s is %s, not %s", instruction, made[i], found[instruction])
		}
	}
}

// byteInstructions are the instructions of an assembly file that are written as bytes, in hexadecimal, by their text.
func byteInstructions(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		code, instruction, ok := strings.Cut(strings.TrimSpace(line), " // ")
		if !ok || !strings.HasPrefix(code, "BYTE $0x") {
			continue
		}
		digits := strings.ReplaceAll(strings.ReplaceAll(code, "BYTE $0x", ""), "; ", "")
		if _, err := hex.DecodeString(digits); err == nil {
			out[instruction] = digits
		}
	}
	return out
}
