// Package atomicfile writes whole files: after a crash there is the old file or the new one, never a part.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// temporary is how names of files begin that are being written. It says whose they are, so that what killed programs left can be taken away, in whatever folder.
const temporary = ".mlxbuild-tmp-"

// Write replaces the file at path: a new file beside it with a name of its own, synced, renamed over it, and the folder synced. A symbolic link at path is
// replaced, not followed.
func Write(path string, data []byte, mode os.FileMode) error { return write(path, data, mode, true) }

// WriteLoose is Write without syncing: after a power cut there may be anything at path. It is for files that carry a checksum and can be lost.
func WriteLoose(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, false)
}

func write(path string, data []byte, mode os.FileMode, sync bool) error {
	dir := filepath.Dir(path)
	tmp, err := writeTemporary(dir, data, mode, sync)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if sync {
		return SyncDir(dir)
	}
	return nil
}

// Create is Write for a file that must not be there yet; errors.Is(err, fs.ErrExist) says that it is.
func Create(path string, data []byte, mode os.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	dir := filepath.Dir(path)
	tmp, err := writeTemporary(dir, data, mode, true)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Rename(tmp, path); err != nil { // a file system without links: who makes the same file in this instant may be overwritten
			return err
		}
	}
	return SyncDir(dir)
}

// writeTemporary writes a whole file under a name of its own.
func writeTemporary(dir string, data []byte, mode os.FileMode, sync bool) (name string, err error) {
	sweepOnce(dir)
	f, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return "", err
	}
	if _, err = f.Write(data); err == nil && sync {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// swept are the folders that this process has looked through for what killed ones left.
var swept sync.Map

func sweepOnce(dir string) {
	if _, done := swept.LoadOrStore(dir, true); !done {
		Sweep(dir)
	}
}

// stale is how old a temporary file is that nobody is writing any more.
const stale = time.Hour

// Sweep removes files that were being written in a folder when their programs were killed.
func Sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), temporary) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// SyncDir makes renames in a folder last through a power cut. Windows has no such call and needs none.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
