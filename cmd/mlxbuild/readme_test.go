package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// Every command of the README's console blocks is run, in order, in a copy of the repository, and every line that is shown below it comes out. Times differ and the order of parallel steps may; nothing else.
func TestREADME(t *testing.T) {
	root := filepath.Dir(filepath.Dir(oracle.TinyStories(t)))
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, sub := range []string{"recipes", "models/tiny-stories"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(root, sub))); err != nil {
			t.Fatal(err)
		}
	}
	os.RemoveAll(filepath.Join(dir, "recipes", "build"))
	t.Chdir(dir)
	t.Setenv("MLXBUILD_CACHE", filepath.Join(dir, "cache"))
	t.Setenv("GITHUB_ACTIONS", "")
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			command, shown, _ := strings.Cut(part, "\n")
			out := runShown(t, command)
			if out == nil {
				continue
			}
			ran++
			for _, line := range shownLines(shown) {
				if !slices.Contains(out, line) {
					t.Errorf("$ %s\nthe README shows\n  %s\nand what came was\n  %s", command, line, strings.Join(out, "\n  "))
				}
			}
		}
	}
	if ran < 4 {
		t.Errorf("only %d commands of the README were run", ran)
	}
}

// runShown runs a command of the README; nil for what is not mlxbuild's.
func runShown(t *testing.T, command string) []string {
	t.Helper()
	args, ours := strings.CutPrefix(command, "go run ./cmd/mlxbuild ")
	if strings.HasPrefix(command, "sed ") {
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("$ %s: %v\n%s", command, err, out)
		}
	}
	if !ours {
		return nil
	}
	var out bytes.Buffer
	if code := run(context.Background(), strings.Fields(args), &out, &out); code != 0 {
		t.Fatalf("$ %s: exit code %d\n%s", command, code, out.String())
	}
	return shownLines(out.String())
}

var (
	someTime = regexp.MustCompile(`\b[0-9.]+ (ms|s)\b`)
	timing   = regexp.MustCompile(`^(measured .* \d+\+\d+ |speed: |\S+ +builtin \w+ +\d+ +\d+\+\d+ |TARGET +RUNTIME ).*`) // figures of this machine
)

func shownLines(text string) (lines []string) {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "note: ") {
			continue // what to think of before believing a timing, where there is something
		}
		line = someTime.ReplaceAllString(timing.ReplaceAllString(line, "$1"), "TIME")
		if line = strings.TrimRight(line, " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
