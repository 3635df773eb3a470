//go:build unix

package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The test binary plays the worker: MLXBUILD_FAKE_WORKER would not reach it through the clean environment, so a shell script stands for Python and passes the part on.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "fake-worker" {
		fake(os.Args[2])
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := Serve(context.Background(), os.Stdin, os.Stdout, builtin.New()); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "parent" {
		parent(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const hello = `{"hello":1,"runtime":"fake","versions":{"fake":"1"},"device":{"kind":"cpu","name":"none"},"path":[]}`

// fake behaves badly in one way.
func fake(part string) {
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	switch part {
	case "silent":
		time.Sleep(time.Hour)
	case "garbage":
		say("Python 3.11 says: DeprecationWarning")
		time.Sleep(time.Hour)
	case "other version":
		say(`{"hello":7,"runtime":"fake"}`)
		time.Sleep(time.Hour)
	case "other runtime":
		say(`{"hello":1,"runtime":"torch"}`)
		time.Sleep(time.Hour)
	case "missing":
		say(`{"fatal":{"class":"missing","message":"No module named 'torch'"}}`)
		return
	case "dies at start":
		fmt.Fprintln(os.Stderr, "Segmentation fault in libfoo")
		os.Exit(3)
	case "long line":
		say("%s", strings.Repeat("x", 2<<20))
		time.Sleep(time.Hour)
	}
	say(hello)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r struct {
			ID  int    `json:"id"`
			Op  string `json:"op"`
			Out string `json:"out"`
		}
		_ = json.Unmarshal(in.Bytes(), &r)
		switch {
		case r.Op == "bye":
			say(`{"id":%d,"ok":true}`, r.ID)
			return
		case r.Op == "cancel":
			if part != "deaf" && part != "deaf to SIGTERM" {
				say(`{"id":%d,"ok":false,"error":{"class":"cancelled","message":"cancelled"}}`, -r.ID)
			}
			continue
		case r.Op == "load" || r.Op == "unload":
			say(`{"id":%d,"ok":true,"vocab":8,"context":64,"hidden":2,"eos":[],"weights_bytes":10}`, r.ID)
			continue
		}
		switch part {
		case "beats":
			for range 20 { // longer than the silence that is allowed
				say(`{"beat":1}`)
				time.Sleep(100 * time.Millisecond)
			}
			os.WriteFile(r.Out, make([]byte, 16), 0o600)
			say(`{"id":%d,"ok":true,"shape":[2,2],"dtype":"float32"}`, r.ID)
		case "dies":
			fmt.Fprintln(os.Stderr, "the last words")
			os.Exit(9)
		case "killed":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "hangs":
			time.Sleep(time.Hour)
		case "deaf", "listens":
			continue
		case "deaf to SIGTERM":
			signal.Ignore(syscall.SIGTERM)
		case "other id":
			say(`{"id":%d,"ok":true}`, r.ID+5)
		case "no answer":
			say(`{"hm":1}`)
		case "error without one":
			say(`{"id":%d,"ok":false}`, r.ID)
		case "oom":
			say(`{"id":%d,"ok":false,"error":{"class":"oom","message":"out of memory"}}`, r.ID)
		case "bad input":
			say(`{"id":%d,"ok":false,"error":{"class":"bad_input","message":"no"}}`, r.ID)
		case "other shape":
			say(`{"id":%d,"ok":true,"shape":[3,2],"dtype":"float32"}`, r.ID)
		case "no file":
			say(`{"id":%d,"ok":true,"shape":[2,2],"dtype":"float32"}`, r.ID)
		case "short file":
			os.WriteFile(r.Out, make([]byte, 15), 0o600)
			say(`{"id":%d,"ok":true,"shape":[2,2],"dtype":"float32"}`, r.ID)
		case "floods stderr":
			for i := range 20_000 {
				fmt.Fprintln(os.Stderr, "warning", i)
			}
			say(`{"id":%d,"ok":false,"error":{"class":"internal","message":"gave up"}}`, r.ID)
		case "stray in answer":
			say(`{"id":%d,"ok":true,"shape":"what","dtype":7}`, r.ID)
		}
	}
}

var quick = Limits{Start: 10 * time.Second, Silence: 1500 * time.Millisecond, Term: 200 * time.Millisecond, Kill: 400 * time.Millisecond, Line: 1 << 20, Words: 64 << 10}

// fakeRuntime runs the fake instead of Python: a script stands where the interpreter would.
func fakeRuntime(t *testing.T, part string) (*Runtime, string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "the fake needs a shell")
	}
	dir, model := t.TempDir(), t.TempDir()
	python := filepath.Join(dir, "python")
	script := fmt.Sprintf("#!/bin/sh\nexec %q fake-worker %q\n", os.Args[0], part)
	if err := os.WriteFile(python, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(model, "config.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Name: "fake", Script: "", Compute: []backend.Compute{backend.Float32}, Limits: quick, Find: Finder{Flag: python, Dir: dir, Module: "fake", Env: func(string) string { return "" }}})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, model
}

func TestBadStarts(t *testing.T) {
	for part, want := range map[string]string{
		"silent":        "nothing was heard of it for 1.5s",
		"garbage":       `it sent "Python 3.11 says: DeprecationWarning\n", which is no message`,
		"other version": "it speaks version 7 of the protocol, and mlxbuild version 1",
		"other runtime": `it says that it is "torch"`,
		"dies at start": "exit status 3\n  | Segmentation fault in libfoo",
		"long line":     "a line of more than 1048576 bytes",
	} {
		t.Run(part, func(t *testing.T) {
			r, model := fakeRuntime(t, part)
			_, err := r.Load(t.Context(), model, backend.Float32)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want %q", err, want)
			}
			if _, err := r.ID(t.Context()); err == nil {
				t.Error("it has an ID")
			}
		})
	}
	r, _ := fakeRuntime(t, "missing")
	var missing *backend.MissingError
	if _, err := r.ID(t.Context()); !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "mlxbuild runtime install") {
		t.Errorf("error is %v", err)
	}
}

func TestBadCalls(t *testing.T) {
	for part, want := range map[string]string{
		"dies":              "exit status 9\n  | the last words",
		"killed":            "most likely because memory ran out",
		"hangs":             "nothing was heard of it",
		"other id":          "instead of",
		"no answer":         `it sent "{\"hm\":1}\n", which is no answer`,
		"error without one": "an error without one",
		"oom":               "out of memory",
		"bad input":         "no",
		"other shape":       "float32 of [3 2] where [2 2] was expected",
		"no file":           "its array is not there",
		"short file":        "its array has 15 bytes, not 16",
		"floods stderr":     "gave up\n  | warning 1",
		"stray in answer":   "cannot be read",
	} {
		t.Run(part, func(t *testing.T) {
			r, model := fakeRuntime(t, part)
			m, err := r.Load(t.Context(), model, backend.Float32)
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Hidden(t.Context(), []int32{1, 2})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want %q", err, want)
			}
			var input *backend.InputError
			if errors.As(err, &input) != (part == "bad input") {
				t.Errorf("%T", err)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			if again, err := r.Load(t.Context(), model, backend.Float32); err != nil { // another process
				t.Error(err)
			} else {
				again.Close()
			}
		})
	}
}

func TestBeatsAreLife(t *testing.T) {
	r, model := fakeRuntime(t, "beats")
	m, err := r.Load(t.Context(), model, backend.Float32)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Hidden(t.Context(), []int32{1, 2}); err != nil || len(got) != 4 {
		t.Error(got, err)
	}
}

func TestCancel(t *testing.T) {
	for _, part := range []string{"listens", "deaf", "deaf to SIGTERM"} {
		t.Run(part, func(t *testing.T) {
			r, model := fakeRuntime(t, part)
			r.config.Limits.Silence = time.Minute
			m, err := r.Load(t.Context(), model, backend.Float32)
			if err != nil {
				t.Fatal(err)
			}
			pid := r.process.cmd.Process.Pid
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err = m.Hidden(ctx, []int32{1})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if alive := syscall.Kill(pid, 0) == nil; alive != (part == "listens") {
				t.Errorf("alive is %v", alive)
			}
		})
	}
}

func TestModelFileIsRefused(t *testing.T) {
	r, model := fakeRuntime(t, "listens")
	if err := os.WriteFile(filepath.Join(model, "config.json"), []byte(`{"model_file":"x.py"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load(t.Context(), model, backend.Float32); err == nil || !strings.Contains(err.Error(), "which mlxbuild never does") || r.process != nil {
		t.Error(err)
	}
}

// TestIdentityIsRemembered asks twice; the second time starts nothing, until the environment changes.
func TestIdentityIsRemembered(t *testing.T) {
	first, _ := fakeRuntime(t, "listens")
	id, err := first.ID(t.Context())
	if err != nil || !strings.HasPrefix(id, "fake/") || !strings.Contains(id, "fake 1 on cpu none") {
		t.Fatal(id, err)
	}
	second := New(first.config)
	if again, err := second.ID(t.Context()); err != nil || again != id || second.process != nil {
		t.Errorf("%q, %v, started %v", again, err, second.process != nil)
	}
	for _, damage := range []string{"", "{", `{"fake ` + first.config.Find.Flag + `":{"print":"x"}}`} {
		if err := os.WriteFile(filepath.Join(first.config.Find.Dir, knownFile), []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		third := New(first.config)
		if again, err := third.ID(t.Context()); err != nil || again != id || third.process == nil {
			t.Errorf("after %q: %q, %v", damage, again, err)
		}
		third.Close()
	}
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(first.config.Find.Flag, now, now); err != nil {
		t.Fatal(err)
	}
	fourth := New(first.config)
	defer fourth.Close()
	if _, err := fourth.ID(t.Context()); err != nil || fourth.process == nil {
		t.Errorf("an environment that changed was not looked at: %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{}
	find := func(flag string) (Found, error) {
		return Finder{Flag: flag, Env: func(n string) string { return env[n] }, Dir: dir, Module: "fake", Pins: "x==1"}.find(New(Config{Name: "fake"}))
	}
	touch := func(path string) string {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	want := func(what, flag, path, how string) {
		t.Helper()
		if f, err := find(flag); err != nil || f.Path != path || f.How != how {
			t.Errorf("%s: %+v, %v", what, f, err)
		}
	}
	if _, err := find(""); err == nil || !strings.Contains(err.Error(), "nothing was installed") {
		t.Error(err)
	}
	installed := touch(interpreter(Finder{Dir: dir, Pins: "x==1"}.Installed("fake")))
	want("installed", "", installed, "mlxbuild runtime install")
	venv := filepath.Join(dir, "venv")
	env["VIRTUAL_ENV"] = venv
	want("an environment without the module is passed over", "", installed, "mlxbuild runtime install")
	active := touch(interpreter(venv))
	touch(filepath.Join(venv, "lib/python3.11/site-packages/fake/__init__.py"))
	want("active", "", active, "VIRTUAL_ENV")
	env["MLXBUILD_PYTHON"] = touch(filepath.Join(dir, "named"))
	want("named by the environment", "", env["MLXBUILD_PYTHON"], "MLXBUILD_PYTHON")
	flag := touch(filepath.Join(dir, "flag"))
	want("named by a flag", flag, flag, "--python")
	if _, err := find(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "--python names") {
		t.Error(err)
	}
}

// parent starts a worker, says its process id, and waits to be killed.
func parent(python string) {
	dir, _ := os.MkdirTemp("", "parent-")
	r := New(Config{Name: "fake", Limits: DefaultLimits, Find: Finder{Flag: python, Dir: dir, Module: "fake", Env: func(string) string { return "" }}})
	if _, err := r.ID(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.process.cmd.Process.Pid)
	time.Sleep(time.Hour)
}

// TestNoOrphans kills mlxbuild with SIGKILL while a worker hangs that does not even read its standard input.
func TestNoOrphans(t *testing.T) {
	if runtime.GOOS != "linux" {
		oracle.Missing(t, "only Linux ends a worker that does not see the end of its standard input")
	}
	r, _ := fakeRuntime(t, "listens")
	cmd := exec.Command(os.Args[0], "parent", r.config.Find.Flag)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, err2 := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || err2 != nil {
		t.Fatal(line, err, err2)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // it can do nothing by itself any more
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	left := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-*", dirPrefix, cmd.Process.Pid))
	if found, _ := filepath.Glob(left); len(found) != 1 {
		t.Errorf("the killed process left %v", found)
	}
	if _, err := r.ID(t.Context()); err != nil { // the next one clears up
		t.Error(err)
	}
	if found, _ := filepath.Glob(left); len(found) != 0 {
		t.Errorf("it still lies there: %v", found)
	}
	for range 100 {
		if syscall.Kill(pid, 0) != nil || zombie(pid) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	t.Error("the worker outlived mlxbuild")
}

func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}

// TestStrayPrints has a real worker print to standard output from Python and from C.
func TestStrayPrints(t *testing.T) {
	script := `
import ctypes

class R:
    def start(self):
        print("a warning of Python")
        ctypes.CDLL(None).puts(b"a warning of C")
        ctypes.CDLL(None).fflush(None)
        return {"runtime": "stray", "versions": {}, "device": {"kind": "cpu", "name": "x"}}

serve(R())
`
	r := New(Config{Name: "stray", Script: script, Find: Finder{Flag: oracle.Python(t), Dir: t.TempDir(), Module: "stray"}})
	defer r.Close()
	if _, err := r.ID(t.Context()); err != nil {
		t.Fatal(err)
	}
	if words := r.process.words.String(); !strings.Contains(words, "a warning of Python") || !strings.Contains(words, "a warning of C") {
		t.Errorf("they went elsewhere: %q", words)
	}
	if err := r.Call(t.Context(), "nothing", map[string]any{"model": 1}, nil); err == nil || !strings.Contains(err.Error(), "KeyError") {
		t.Errorf("an unknown model: %v", err)
	}
	dir := r.process.dir
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}
