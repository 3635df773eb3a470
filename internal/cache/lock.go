package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	return c.LockForUser(ctx, "device", waiting)
}

// LockForUser holds a name for this process among all runs of this user, whatever cache they have.
func (c *Cache) LockForUser(ctx context.Context, name string, waiting func(holder string)) (release func(), err error) {
	if dir, ok := userLocks(); ok {
		if release, err := c.lockFile(ctx, filepath.Join(dir, name+".lock"), waiting); err == nil || ctx.Err() != nil {
			return release, err
		}
	}
	return c.lockFile(ctx, filepath.Join(c.dir, "locks", name+".lock"), waiting)
}

// userLocks is the folder of the locks that all runs of this user have in common.
func userLocks() (dir string, ok bool) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "mlxbuild", "locks"), err == nil
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

// sweepLocks removes lock files whose holders were killed, and which nobody may ever want again: those of steps that are made no more, of stages, of leases, and of projects.
func (c *Cache) sweepLocks() {
	dirs := []string{filepath.Join(c.dir, "locks"), filepath.Join(c.dir, "tmp"), filepath.Join(c.dir, "leases")}
	if dir, ok := userLocks(); ok {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if info, err := e.Info(); !strings.HasSuffix(e.Name(), ".lock") || err != nil || !old(info) {
				continue
			}
			if release, ok := tryLockFile(filepath.Join(dir, e.Name())); ok {
				release()
			}
		}
	}
}

// LocksWork reports whether locks keep anybody out: on some network file systems they are granted to all. Nothing is wrong then, as every file has a name of its own until it is whole, but who holds a lock
// does not have what it protects for itself, and must not take away what seems to be left by the dead.
func (c *Cache) LocksWork() bool {
	c.locks.Do(func() {
		path := filepath.Join(c.dir, "locks", fmt.Sprintf("probe-%d-%d.lock", os.Getpid(), time.Now().UnixNano()))
		release, ok := tryLockFile(path)
		if !ok {
			return
		}
		defer release()
		again := flock.New(path)
		defer again.Close()
		held, err := again.TryLock()
		c.locksWork = err == nil && !held
	})
	return c.locksWork
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

// abandoned takes the lock of something whose process is gone: nobody holds it, and it is not just being made. Where locks keep nobody out, a day has to have passed.
func (c *Cache) abandoned(info os.FileInfo, lock string) (release func(), ok bool) {
	if !old(info) || !c.LocksWork() && time.Since(info.ModTime()) < 24*time.Hour {
		return nil, false
	}
	return tryLockFile(lock)
}
