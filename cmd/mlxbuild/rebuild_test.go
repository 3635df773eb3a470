package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// output runs a command that may fail and returns what it said and its exit code.
func output(t *testing.T, cmd *exec.Cmd) (text string, code int) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// A record that was not made by this program, or by a machine that computes wrongly: everything in the cache is consistent, and only making it again shows it.
func TestRebuildFindsAPoisonedRecord(t *testing.T) {
	cacheDir := filepath.Join(t.TempDir(), "cache")
	dir, mlxbuild := program(t, cacheDir)
	mustRun(t, mlxbuild("build", "r.yaml", "m/q4", "m/q8"))
	tensor := poison(t, cacheDir, "convert m/q4")
	mustRun(t, mlxbuild("cache", "verify"))
	if err := os.RemoveAll(filepath.Join(dir, "build")); err != nil {
		t.Fatal(err)
	}
	mustRun(t, mlxbuild("build", "r.yaml", "m/q4", "m/q8"))

	text, code := output(t, mlxbuild("verify", "--rebuild", "r.yaml", "m/q*"))
	want := regexp.MustCompile(`(?m)^differs +convert m/q4\n +- model\.safetensors: sha256 [0-9a-f]{64}, recorded [0-9a-f]{64}; first tensor ` + regexp.QuoteMeta(tensor) + ` \(U32\): 3 of its [0-9]+ bytes differ$`)
	if code != exitFailed || !want.MatchString(text) || !regexp.MustCompile(`(?m)^equal +convert m/q8 `).MatchString(text) {
		t.Errorf("exit code %d, and %q does not match\n%s", code, want, text)
	}
	if strings.Contains(text, "build/m/q4") {
		t.Errorf("the folder is as the record says:\n%s", text)
	}
	text, code = output(t, mlxbuild("verify", "--rebuild", "--json", "r.yaml", "m/q4"))
	if code != exitFailed || !strings.Contains(text, `"name": "`+tensor+`"`) || !strings.Contains(text, `"ok": false`) {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// poison changes three bytes of one tensor of a step's weights, and record and blob so that they fit each other. It returns the tensor's name.
func poison(t *testing.T, cacheDir, step string) (tensor string) {
	t.Helper()
	c, err := cache.Open(cacheDir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var rec *cache.Record
	if err := c.Records(func(r *cache.Record) bool {
		if r.Step == step {
			rec = r
		}
		return true
	}); err != nil || rec == nil {
		t.Fatalf("no record of %s: %v", step, err)
	}
	for i, o := range rec.Outputs {
		if o.Path != "model.safetensors" {
			continue
		}
		data, err := c.ReadBlob(o.Digest, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		h, err := safetensors.ParseHeader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range h.Tensors {
			if tensor = s.Name; s.DType == "U32" && strings.Contains(s.Name, "layers.2.") {
				for k := range 3 {
					data[s.Begin+int64(40*k)] ^= 0x10
				}
				break
			}
		}
		stage, err := c.NewStage()
		if err != nil {
			t.Fatal(err)
		}
		defer stage.Remove()
		if err := os.WriteFile(stage.Path("w"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		rec.Outputs[i].Digest = cache.SumBytes(data)
		if err := c.AddFile(stage.Path("w"), rec.Outputs[i].Digest); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.AddRecord(rec); err != nil {
		t.Fatal(err)
	}
	return tensor
}

// Interrupted, the separate place is gone at once; killed, it goes when the next one is made.
func TestRebuildLeavesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "Windows has no SIGINT to send")
	}
	cacheDir := filepath.Join(t.TempDir(), "cache")
	_, mlxbuild := program(t, cacheDir)
	mustRun(t, mlxbuild("build", "r.yaml"))
	caught := func(signal os.Signal) (code int, left []string) {
		for range 50 {
			cmd := mlxbuild("verify", "--rebuild", "r.yaml")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
				if found, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*", "rebuild", "cache", "tmp", "*")); len(found) > 0 {
					break
				}
			}
			if err := cmd.Process.Signal(signal); err != nil {
				_ = cmd.Wait()
				continue
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				left, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*"))
				return code, left
			}
		}
		t.Fatal("it was never caught at work")
		return 0, nil
	}
	if code, left := caught(os.Interrupt); code != exitInterrupted || left != nil {
		t.Errorf("interrupted: exit code %d, left %v", code, left)
	}
	_, left := caught(os.Kill)
	if left == nil {
		t.Fatal("killed, it had nothing to leave")
	}
	for _, path := range left {
		old := time.Now().Add(-time.Minute)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, mlxbuild("verify", "--rebuild", "r.yaml", "m/q4"))
	if left, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*")); left != nil {
		t.Errorf("after the next run there is still %v", left)
	}
}

// What mlx computes is left out, and made again when that is asked for; what the built-in runtime made of it is checked on what mlx once made.
func TestRebuildOfOtherPrograms(t *testing.T) {
	python := oracle.Python(t)
	dir, mlxbuild := program(t, filepath.Join(t.TempDir(), "cache"))
	recipe := "version: 1\nmodels: {m: \"path:m\"}\nquantizations: {q4: {bits: 4}}\nconvert: {runtime: mlx}\nprompts: {p: [Once upon a time]}\n" +
		"generate:\n  here: {targets: [m/q4], prompts: p, max_tokens: 4, runtime: builtin}\n  there: {targets: [m/q4], prompts: p, max_tokens: 4, runtime: mlx}\n"
	if err := os.WriteFile(filepath.Join(dir, "r.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, mlxbuild("--python", python, "build", "r.yaml"))
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{`^not checked  convert m/q4: its last bits may differ`, `^equal        generate here m/q4$`, `^not checked  generate there m/q4: its last bits may differ`, `^1 equal, 2 not checked in `}},
		{[]string{"--inexact"}, []string{`^(equal|may differ) +convert m/q4`, `^(equal|unjudged) +generate here m/q4`, `^(equal|may differ|unjudged) +generate there m/q4`}},
	} {
		text, code := output(t, mlxbuild(append([]string{"--python", python, "verify", "--rebuild", "r.yaml"}, c.args...)...))
		if code != 0 {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		for _, w := range c.want {
			if !regexp.MustCompile("(?m)" + w).MatchString(text) {
				t.Errorf("%v: %q does not match\n%s", c.args, w, text)
			}
		}
	}
}
