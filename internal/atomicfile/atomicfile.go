// Package atomicfile writes whole files: after a crash there is the old file or the new one, never a part.
package atomicfile

import (
	"os"
	"path/filepath"
	"runtime"
)

// Write replaces the file at path: a new file beside it with a name of its own, synced, renamed over it, and the folder synced. A symbolic link at path is
// replaced, not followed.
func Write(path string, data []byte, mode os.FileMode) error { return write(path, data, mode, true) }

// WriteLoose is Write without syncing: after a power cut there may be anything at path. It is for files that carry a checksum and can be lost.
func WriteLoose(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, false)
}

func write(path string, data []byte, mode os.FileMode, sync bool) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil && sync {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil && sync {
		err = SyncDir(dir)
	}
	return err
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
