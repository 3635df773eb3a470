package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// userLocks gives the test a user's folder of its own, and says where the user's locks are.
func userLocks(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, home)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "mlxbuild", "locks")
}

// makeOld makes a lock look as if its holder had gone long ago.
func makeOld(t *testing.T, path string) {
	t.Helper()
	before := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, before, before); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// The user's locks lie in a folder of their own, whatever cache is used. Collection takes away what killed runs left there, and nothing that is held.
func TestUserLocksOfTheDead(t *testing.T) {
	dir := userLocks(t)
	c := open(t, t.TempDir())
	release, err := c.LockForUser(t.Context(), "held", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	held, dead := filepath.Join(dir, "held.lock"), filepath.Join(dir, "dead.lock")
	if err := os.WriteFile(dead, []byte("process 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	makeOld(t, held)
	makeOld(t, dead)
	if _, err := c.GC(cache.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || left[0] != held {
		t.Errorf("left are %v", left)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.LockForUser(ctx, "held", func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is held twice: %v", err)
	}
	release()
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); left != nil {
		t.Errorf("left are %v", left)
	}
}

// A collection that sweeps a lock while others want it lets only one of them have it.
func TestUserLocksWhileSwept(t *testing.T) {
	dir := userLocks(t)
	c := open(t, t.TempDir())
	var holders atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				release, err := c.LockForUser(t.Context(), "wanted", func(string) {})
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold it", n)
				}
				makeOld(t, filepath.Join(dir, "wanted.lock"))
				time.Sleep(50 * time.Microsecond)
				holders.Add(-1)
				release()
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); wg.Wait() }()
	for sweeps := 0; ; sweeps++ {
		select {
		case <-done:
			if sweeps < 10 {
				t.Errorf("%d collections while it was wanted", sweeps)
			}
			return
		default:
		}
		_ = os.WriteFile(filepath.Join(dir, "wanted.lock"), nil, 0o644) // as a killed run leaves it
		makeOld(t, filepath.Join(dir, "wanted.lock"))
		if _, err := c.GC(cache.GCOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
