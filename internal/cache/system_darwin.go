package cache

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reflink makes dst share src's bytes, on APFS.
func reflink(src, dst string, mode os.FileMode) error {
	if err := unix.Clonefile(src, dst, unix.CLONE_NOFOLLOW); err != nil {
		return err
	}
	return os.Chmod(dst, mode)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// freeBytes of the file system that dir is on, for this user, and its size.
func freeBytes(dir string) (free, total int64) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, 0
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize)
}
