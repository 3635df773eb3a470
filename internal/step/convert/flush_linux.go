package convert

import (
	"os"
	"syscall"
)

// flush starts writing a part of a file to the disk and does not wait for it. It is only a hint.
func flush(f *os.File, at, n int64) {
	const syncFileRangeWrite = 2
	_ = syscall.SyncFileRange(int(f.Fd()), at, n, syncFileRangeWrite)
}
