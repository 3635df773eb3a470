package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The scripts in testdata/script run the program itself. Each begins with what it proves.
func TestMain(m *testing.M) {
	program := func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	}
	if len(os.Args) == 3 && os.Args[1] == "worker" { // the program starts itself to time the built-in runtime
		program()
	}
	testscript.Main(m, map[string]func(){"mlxbuild": program})
}

func TestScripts(t *testing.T) {
	tiny := oracle.TinyStories(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("MLXBUILD_CACHE", filepath.Join(e.WorkDir, ".cache"))
			e.Setenv("TINY", tiny)
			e.Setenv("ROOT", filepath.Dir(filepath.Dir(tiny)))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("NO_COLOR", "1")
			e.Setenv("GITHUB_ACTIONS", "")
			e.Setenv("CI", "")
			hubEnv(e)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"model": copyModel, "status": status, "setjson": setJSON, "cut": cutFile, "flip": flipByte, "same": sameFile, "replace": replaceBytes, "hub": hubCommand,
		},
	})
}

// model DIR copies the tiny model there.
func copyModel(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	entries, err := os.ReadDir(ts.Getenv("TINY"))
	ts.Check(err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(ts.Getenv("TINY"), e.Name()))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, e.Name()), data, 0o644))
	}
}

// status CODE mlxbuild ARGS... runs the program and compares its exit code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != want {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, want)
	}
}

// setjson FILE KEY JSON sets a key of a JSON object; without JSON it takes it out.
func setJSON(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	var m map[string]json.RawMessage
	ts.Check(json.Unmarshal(data, &m))
	delete(m, args[1])
	if len(args) > 2 {
		m[args[1]] = json.RawMessage(args[2])
	}
	data, err = json.MarshalIndent(m, "", "  ")
	ts.Check(err)
	ts.Check(os.WriteFile(path, data, 0o644))
}

// cut FILE N leaves the first N bytes, or with -N takes N from the end.
func cutFile(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if n < 0 {
		info, err := os.Stat(path)
		ts.Check(err)
		n += info.Size()
	}
	ts.Check(os.Truncate(path, n))
}

// flip FILE OFFSET VALUE writes a byte; a negative offset counts from the end.
func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	value, err := strconv.ParseUint(args[2], 0, 8)
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] = byte(value)
	ts.Check(os.Chmod(path, 0o644))
	ts.Check(os.WriteFile(path, data, 0o644))
}

// replace FILE OLD NEW replaces every OLD, of which there must be one.
func replaceBytes(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("%s has no %s", args[0], args[1])
	}
	ts.Check(os.Chmod(path, 0o644))
	ts.Check(os.WriteFile(path, bytes.ReplaceAll(data, []byte(args[1]), []byte(args[2])), 0o644))
}

// same A B compares two files.
func sameFile(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if (string(a) == string(b)) == neg {
		ts.Fatalf("%s and %s: equal is %v", args[0], args[1], !neg)
	}
}

// Every command's help names its flags and has no unexpanded variable.
func TestHelp(t *testing.T) {
	for _, args := range []string{"", "build", "plan", "check", "explain", "show", "list", "init", "convert", "generate", "verify", "benchmark", "report", "diff", "accept", "validate", "llama convert", "llama validate", "llama benchmark", "llama list", "cache stats", "cache gc",
		"cache verify", "cache repair", "schema", "completion", "version", "lock", "fetch"} {
		var out, errs strings.Builder
		code := run(context.Background(), append(strings.Fields(args), "--help"), &out, &errs)
		if code != 0 || errs.String() != "" || !strings.Contains(out.String(), "Usage: mlxbuild") || strings.Contains(out.String(), "${") {
			t.Errorf("%s --help: code %d\n%s%s", args, code, out.String(), errs.String())
		}
		for i, line := range strings.Split(out.String(), "\n") {
			if len([]rune(line)) > 120 {
				t.Errorf("%s --help: line %d has %d characters", args, i+1, len(line))
			}
		}
	}
}
