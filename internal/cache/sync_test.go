package cache_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/fault"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// whole is what every child finds or makes.
var whole = []byte(strings.Repeat("whole", 1000))

// taker asks for a blob that it did not write, and when it gets none adds it.
func taker() {
	c, err := cache.Open(os.Getenv("CACHE_TEST_DIR"), cache.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	d := cache.SumBytes(whole)
	for range 2 {
		if _, _, err := c.Blob(d); err == nil {
			return
		}
	}
	stage, err := c.NewStage()
	if err != nil {
		panic(err)
	}
	defer stage.Remove()
	if err := os.WriteFile(stage.Path("again"), whole, 0o644); err != nil {
		panic(err)
	}
	if err := c.AddFile(stage.Path("again"), d); err != nil {
		panic(err)
	}
}

// A blob that another process left without syncing it, and that the disk cannot keep, is not taken: not when syncing it fails, and not when syncing it again then says that all is well, as the system does.
// What is taken in its place is another file, which was synced.
func TestBlobThatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	d, err := c.AddBytes(whole) // not synced
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "blobs", d.String()[:2], d.String())
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	lost, synced := 0, map[string]bool{}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "CACHE_TEST_CHILD=taker", "CACHE_TEST_DIR="+dir)
	child.Stderr = os.Stderr
	r, err := fault.Run(child, fault.Plan{Counts: func(c *fault.Call) bool { return c.Name == "fsync" || c.Name == "renameat" }, At: 1, Do: fault.Fail, Errno: syscall.EIO, Record: func(c *fault.Call) {
		switch {
		case c.Name == "fsync" && c.Result < 0 && c.Path == path:
			lost++
		case c.Name == "fsync" && c.Result == 0:
			synced[c.Path] = true
		case c.Name == "renameat" && c.To == path && !synced[c.Path]:
			t.Errorf("%s was put in place before it was synced", c.Path)
		}
	}})
	if errors.Is(err, fault.ErrNotHere) || errors.Is(err, syscall.EPERM) {
		oracle.Missing(t, err.Error())
	}
	if err != nil || r.Code != 0 || lost != 1 {
		t.Fatalf("%v, %+v, the blob's sync failed %d times", err, r, lost)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("the blob whose bytes may be lost is taken")
	}
}
