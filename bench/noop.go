package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// noop: the recipe of SmolLM2 when everything is made. Beside it the same binary's `version`, which is what starting a process costs.
func (b *bench) noop() error {
	if err := b.needModel(); err != nil {
		return err
	}
	dir, err := b.scratch("noop")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(b.root, "recipes", "smollm2.yaml"))
	if err != nil {
		return err
	}
	source, err := b.copyOfModel(dir)
	if err != nil {
		return err
	}
	recipe, cache := filepath.Join(dir, "smollm2.yaml"), filepath.Join(dir, "cache")
	text, _, _ = bytes.Cut(text, []byte("\n    expect:")) // what it says there at its end is expected of one model only
	text = []byte(strings.NewReplacer("path:../models/SmolLM2-135M-Instruct", "path:"+filepath.ToSlash(source), "path:../", "path:"+filepath.ToSlash(b.root)+"/").Replace(string(text)))
	if err := os.WriteFile(recipe, text, 0o666); err != nil {
		return err
	}
	fmt.Println("  building the recipe for the first time ...")
	if _, err := once(b.tool(cache, "build", recipe)); err != nil {
		return err
	}
	if _, err := once(b.tool(cache, "plan", "--check", recipe)); err != nil {
		return fmt.Errorf("there is still something to do after a build: %w", err)
	}
	ours := &side{name: "mlxbuild build, nothing to do", command: func(int) *exec.Cmd { return b.tool(cache, "build", recipe) }}
	start := &side{name: "mlxbuild version", command: func(int) *exec.Cmd { return b.tool(cache, "version") }}
	if err := b.takeTurns(b.turns(40), ours, start); err != nil {
		return err
	}
	printTable(ours, start)
	atMost("median wall time", median(ours.walls()).Seconds(), 0.010, seconds)
	return b.readNothing(b.tool(cache, "build", recipe), dir)
}
