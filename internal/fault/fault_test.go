//go:build linux && amd64

package fault_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/fault"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The tests run this test binary as the program that is traced.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FAULT_TEST_DIR"); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child writes ten bytes to a file, syncs and renames it, with other threads busy beside.
func child(dir string) error {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, _ = os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", i))
		}()
	}
	defer wg.Wait()
	f, err := os.Create(filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte("0123456789")); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
}

func trace(t *testing.T, p fault.Plan) (fault.Result, string, string) {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.Counts = func(c *fault.Call) bool { return fault.Changes(c) && strings.HasPrefix(c.Path, dir) }
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FAULT_TEST_DIR="+dir)
	cmd.Stderr = log
	r, err := fault.Run(cmd, p)
	if errors.Is(err, fault.ErrNotHere) || errors.Is(err, syscall.EPERM) {
		oracle.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	state := ""
	for _, name := range []string{"a", "b"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			state += fmt.Sprintf("%s=%q ", name, data)
		}
	}
	return r, strings.TrimSpace(state), string(said)
}

func TestRecord(t *testing.T) {
	var calls []string
	r, state, _ := trace(t, fault.Plan{Record: func(c *fault.Call) {
		calls = append(calls, fmt.Sprintf("%s %s %s%q", c.Name, filepath.Base(c.Path), filepath.Base(c.To), c.Data))
	}})
	want := `[openat a ."" write a ."0123456789" fsync a ."" renameat a b""]`
	if r.Code != 0 || r.Calls != 4 || state != `b="0123456789"` || fmt.Sprint(calls) != want {
		t.Errorf("%+v %s\n%s\nwant\n%s", r, state, calls, want)
	}
}

// Every action at every call, and what it leaves behind.
func TestActions(t *testing.T) {
	for _, c := range []struct {
		name  string
		plan  fault.Plan
		code  int // -1: killed
		state string
	}{
		{"none", fault.Plan{At: 5, Do: fault.Kill}, 0, `b="0123456789"`},
		{"kill at open", fault.Plan{At: 1, Do: fault.Kill}, -1, ``},
		{"kill at write", fault.Plan{At: 2, Do: fault.Kill}, -1, `a=""`},
		{"kill at rename", fault.Plan{At: 4, Do: fault.Kill}, -1, `a="0123456789"`},
		{"tear", fault.Plan{At: 2, Do: fault.Tear}, -1, `a="01234"`},
		{"fail", fault.Plan{At: 2, Do: fault.Fail, Errno: syscall.ENOSPC}, 3, `a=""`},
		{"fail from there on", fault.Plan{At: 4, Stays: true, Do: fault.Fail, Errno: syscall.EROFS}, 3, `a="0123456789"`},
		{"skip", fault.Plan{At: 4, Do: fault.Skip}, 0, `a="0123456789"`},
		{"short", fault.Plan{At: 2, Do: fault.Short}, 0, `b="0123456789"`},
		{"lose", fault.Plan{At: 3, Do: fault.Lose, Errno: syscall.EIO}, 3, `a="01234\x00\x00\x00\x00\x00"`},
		{"freeze and kill", fault.Plan{At: 3, Do: fault.Freeze, Frozen: func(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }}, -1, `a="0123456789"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, state, said := trace(t, c.plan)
			if r.Code != c.code || state != c.state || (r.Hit == nil) != (c.name == "none") {
				t.Errorf("%+v %s\n%s", r, state, said)
			}
			if c.plan.Do == fault.Fail && !strings.Contains(said, c.plan.Errno.Error()) {
				t.Errorf("said %q", said)
			}
		})
	}
}
