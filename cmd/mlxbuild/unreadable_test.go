package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/term"
)

// A result that cannot be read when it is to be judged is an error. Left out, its expectations would be met.
func TestUnreadableResult(t *testing.T) {
	t.Setenv("MLXBUILD_CACHE", t.TempDir())
	recipe := filepath.Join(t.TempDir(), "r.yaml")
	text := "version: 1\nmodels: {m: \"path:" + filepath.ToSlash(oracle.TinyStories(t)) + "\"}\nquantizations: {q4: {bits: 4}}\nprompts: {p: [Once]}\n" +
		"validate: {v: {kind: parity, targets: [m/q4], prompts: p, reference: {runtime: builtin, compute: float64}}}\n" +
		"benchmark: {b: {matrix: {target: [m/q4], shape: [8+8]}}}\n"
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	a := &app{ctx: t.Context(), stdout: &said, stderr: &said, term: term.New(&said, os.Getenv)}
	a.runtimes = a.openRuntimes("")
	defer a.runtimes.Close()
	p, err := a.open([]string{recipe})
	if err != nil {
		a.sayError(err)
		t.Fatal(said.String())
	}
	defer p.close()
	outcomes := make([]executor.Outcome, len(p.graph.Steps))
	for id := range outcomes {
		outcomes[id].Key = cache.SumBytes([]byte("a record that has gone"))
	}
	for _, state := range []executor.State{executor.UpToDate, executor.Restored, executor.Done, executor.Skipped} {
		for id := range outcomes {
			outcomes[id].State = state
		}
		_, judged := p.validations(outcomes)
		_, timed := p.benchmarks(outcomes)
		for what, err := range map[string]error{"validate v": judged, "benchmark b": timed} {
			if state == executor.Skipped {
				if err != nil {
					t.Errorf("%s, %v: %v", what, state, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "the record of "+what) || len(hintsOf(err)) == 0 {
				t.Errorf("%s, %v: %v", what, state, err)
			}
		}
	}
}
