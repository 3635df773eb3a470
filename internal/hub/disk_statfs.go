//go:build linux || darwin

package hub

import "golang.org/x/sys/unix"

// freeBytes for this user on the file system of a folder; ok is false where it cannot be known.
func freeBytes(dir string) (free int64, ok bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 { // some network file systems say nothing
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
