package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process that stands still with its locks held, as on a laptop that sleeps: others wait and say for whom, collections leave what it has made, and it goes on, or dies and the others do.
func TestStoppedHolder(t *testing.T) {
	for _, dies := range []bool{false, true} {
		cacheDir := filepath.Join(t.TempDir(), "cache")
		dir, mlxbuild := program(t, cacheDir)
		holder := mlxbuild("build", "-j", "1", "r.yaml")
		begun(t, holder, cacheDir)
		if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stages, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*"))
		old := time.Now().Add(-48 * time.Hour)
		for _, s := range stages {
			if err := os.Chtimes(s, old, old); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		mustRun(t, mlxbuild("cache", "gc", "--max-size", "1kB"))
		var said strings.Builder
		other := mlxbuild("build", "r.yaml")
		other.Stderr = &said
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		if dies {
			_ = holder.Process.Kill()
		} else if err := holder.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := other.Wait(); err != nil {
			t.Errorf("dies %v: the other: %v\n%s", dies, err, said.String())
		}
		if err := holder.Wait(); (err != nil) != dies {
			t.Errorf("dies %v: the holder: %v", dies, err)
		}
		right(t, dir)
		mustRun(t, mlxbuild("cache", "verify"))
	}
}
