package hub

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

const noFollow = 0 // openOwn compares what it opened with what it saw

func isFull(err error) bool {
	return errors.Is(err, syscall.Errno(112)) || errors.Is(err, syscall.Errno(39)) // ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL
}

// processLives reports whether there is a process of that number.
func processLives(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

func onDisk(info os.FileInfo) int64 { return info.Size() }

// freeBytes for this user on the file system of a folder; ok is false where it cannot be known.
func freeBytes(dir string) (free int64, ok bool) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, false
	}
	var n uint64
	if windows.GetDiskFreeSpaceEx(name, &n, nil, nil) != nil {
		return 0, false
	}
	return int64(min(n, 1<<62)), true
}
