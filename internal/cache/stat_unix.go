//go:build unix

package cache

import (
	"os"
	"syscall"
)

func tupleOf(info os.FileInfo) statTuple {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return statTuple{size: info.Size(), mtime: info.ModTime().UnixNano()}
	}
	return statTuple{dev: uint64(st.Dev), ino: uint64(st.Ino), size: st.Size, mtime: info.ModTime().UnixNano(), ctime: ctime(st)}
}
