package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// pollEvery is how often a waiting run looks whether a lock is free. The operating system's lock cannot be waited for together with a context.
const pollEvery = 25 * time.Millisecond

// Lock holds a key for this process. It dies with the process, whatever happens to it. While somebody else has it, waiting is told once who that is; waiting ends with ctx.
func (c *Cache) Lock(ctx context.Context, key Digest, waiting func(holder string)) (release func(), err error) {
	return c.lockFile(ctx, filepath.Join(c.dir, "locks", key.String()+".lock"), waiting)
}

// LockDevice waits until no other run of this user measures on this machine, whatever cache it has.
func (c *Cache) LockDevice(ctx context.Context, waiting func(holder string)) (release func(), err error) {
	if dir, err := os.UserCacheDir(); err == nil {
		if release, err := c.lockFile(ctx, filepath.Join(dir, "mlxbuild", "device.lock"), waiting); err == nil || ctx.Err() != nil {
			return release, err
		}
	}
	return c.lockFile(ctx, filepath.Join(c.dir, "locks", "device.lock"), waiting)
}

func (c *Cache) lockFile(ctx context.Context, path string, waiting func(holder string)) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, c.full(path, err)
	}
	told := false
	for {
		release, ok, err := tryLock(path)
		if err != nil {
			return nil, c.full(path, err)
		}
		if ok {
			return release, nil
		}
		if !told {
			told = true
			waiting(holderOf(path))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// tryLock takes a lock if it is free. A lock file is removed by its holder, so the file that was locked may no longer be the one at path: then it is not the lock.
func tryLock(path string) (release func(), ok bool, err error) {
	l := flock.New(path)
	ok, err = l.TryLock()
	if err != nil {
		_ = l.Close()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) && os.PathSeparator == '\\' {
			return nil, false, nil // being removed by its holder
		}
		return nil, false, err
	}
	if !ok || !sameFile(l, path) {
		_ = l.Close()
		return nil, false, nil
	}
	_ = os.WriteFile(path, []byte(fmt.Sprintf("process %d\n", os.Getpid())), 0o644) // for people; the lock is what counts
	return func() {
		_ = os.Remove(path) // before the lock is let go: who locks the removed file sees that it is not the one at path
		_ = l.Close()
	}, true, nil
}

// tryLockFile is tryLock for callers to whom an error and a lock that is held are the same.
func tryLockFile(path string) (release func(), ok bool) {
	release, ok, err := tryLock(path)
	return release, ok && err == nil
}

func sameFile(l *flock.Flock, path string) bool {
	held, err := l.Stat()
	if err != nil {
		return false
	}
	at, err := os.Stat(path)
	return err == nil && os.SameFile(held, at)
}

func holderOf(path string) string {
	data, err := readSmall(path, 100)
	if err != nil || len(data) == 0 {
		return "another run"
	}
	return string(data[:len(data)-1])
}

func old(info os.FileInfo) bool { return time.Since(info.ModTime()) > 10*time.Second }
