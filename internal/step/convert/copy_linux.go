package convert

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyInKernel is copy_file_range. It reports whether all n bytes were copied; what was not is copied again by other means.
func copyInKernel(dst *os.File, to int64, src *os.File, from, n int64) bool {
	for n > 0 {
		done, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(n), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || done <= 0 {
			return false
		}
		n -= int64(done)
	}
	return true
}
