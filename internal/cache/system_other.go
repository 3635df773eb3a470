//go:build !linux && !darwin

package cache

import (
	"errors"
	"os"
	"syscall"
)

func reflink(src, dst string, mode os.FileMode) error { return errors.ErrUnsupported }

// errDiskFull is Windows' ERROR_DISK_FULL; elsewhere the number means nothing that a write returns.
const errDiskFull = syscall.Errno(112)

func isFull(err error) bool { return errors.Is(err, errDiskFull) }

// freeBytes is not known here: the cap is then what Options or MLXBUILD_CACHE_SIZE say, else 20 GiB.
func freeBytes(dir string) (free, total int64) { return 0, 0 }
