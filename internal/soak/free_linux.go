package main

import "golang.org/x/sys/unix"

// freeBytes of the disk that a folder is on; 0 when it cannot be told.
func freeBytes(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}
