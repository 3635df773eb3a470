//go:build !linux

package executor

import (
	"hash"
	"os"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// printFolder visits a folder by name order.
func printFolder(h hash.Hash, dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := printFolder(h, filepath.Join(dir, e.Name()), prefix+e.Name()+"/"); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		printEntry(h, prefix+e.Name(), cache.StatKey(info))
	}
	return nil
}
