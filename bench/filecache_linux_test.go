package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"golang.org/x/sys/unix"
)

// A byte of a mapping that is looked at without a call brings its page into the file cache, where it is found.
func TestCached(t *testing.T) {
	oracle.Program(t, "fincore")
	file := filepath.Join(t.TempDir(), "blobs, one of")
	if err := os.WriteFile(file, make([]byte, 64<<20+100), 0o666); err != nil {
		t.Fatal(err)
	}
	settle()
	b := &bench{ctx: t.Context()}
	if err := b.evict([]string{file}); err != nil {
		if strings.Contains(err.Error(), "stays in it") {
			oracle.Missing(t, "a temporary folder on a disk: "+err.Error())
		}
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 64<<20, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	if mapped[40<<20] != 0 {
		t.Fatal("the file is not what was written")
	}
	if found, err := b.cached([]string{file}); err != nil || found[file] == 0 || found[file] > 32<<20 {
		t.Errorf("in the file cache: %v, %v", found, err)
	}
}
