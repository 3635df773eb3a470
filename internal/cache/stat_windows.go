package cache

import (
	"encoding/binary"
	"os"
	"syscall"
)

// tupleOf takes the file's name and creation time in place of device and inode, which Windows tells only of open files. ctime is not kept by every file system there.
func tupleOf(info os.FileInfo) statTuple {
	t := statTuple{size: info.Size(), mtime: info.ModTime().UnixNano()}
	name := SumBytes([]byte(info.Name()))
	t.dev = binary.LittleEndian.Uint64(name[:])
	if data, ok := info.Sys().(*syscall.Win32FileAttributeData); ok {
		t.ino = uint64(data.CreationTime.Nanoseconds())
	}
	return t
}
