// Package hint says what a person may do about an error: what the error itself says, else what the operating system's answer calls for.
package hint

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Of an error: the first hint in its chain, else one for the operating system's answer in it; "" where neither is.
func Of(err error) string {
	var own interface {
		error
		Hint() string
	}
	for at := err; errors.As(at, &own); at = errors.Unwrap(own) {
		if text := own.Hint(); text != "" {
			return text
		}
	}
	return ofSystem(err)
}

// answers of the operating system that something can be said about, the most special first.
var answers = []struct {
	is   []error
	hint string
}{
	{[]error{syscall.ENOSPC}, "free some room; mlxbuild cache gc --max-size 5GiB makes the cache smaller"},
	{[]error{syscall.EDQUOT}, "your quota on this disk is used up: free some room, or set MLXBUILD_CACHE to a folder on another disk"},
	{[]error{syscall.EIO}, "the disk reports an error: look at the system's log and at the disk before you trust what is on it; mlxbuild checks what it takes from its cache, and the same command goes on from there"},
	{[]error{syscall.EROFS}, "the disk is mounted read-only: mount it for writing, or set MLXBUILD_CACHE and the output to folders that can be written"},
	{[]error{syscall.EMFILE, syscall.ENFILE}, "too many files are open: allow more (ulimit -n 4096), or run fewer steps at a time (--jobs 1)"},
	{[]error{syscall.ENOMEM}, "there is too little memory: close other programs, or run fewer steps at a time (--jobs 1)"},
	{[]error{syscall.EFBIG}, "files of this size are not allowed there: raise the limit (ulimit -f), or choose another disk"},
	{[]error{syscall.ENOLCK, syscall.ENOSYS}, "the file system has no locks: set MLXBUILD_CACHE to a folder on a disk of this machine"},
	{[]error{syscall.ENAMETOOLONG}, "the path is too long for this file system: choose a shorter name, or a folder nearer to the top"},
	{[]error{syscall.ELOOP}, "links lead in a circle there: mend or remove them"},
	{[]error{syscall.EBUSY, syscall.ETXTBSY}, "another program uses it: end that, then run the same command again"},
	{[]error{syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, fs.ErrExist}, "something else is in its place: move that away"},
	{[]error{fs.ErrNotExist}, "see that the path is right; if something was taken away meanwhile, run the same command again"},
	{[]error{fs.ErrPermission}, "mend the permissions, or run as the user who owns it"},
}

// lastResort is for an answer that nobody has thought of.
const lastResort = "the operating system does not do it: mend what it says, then run the same command again; what was finished is kept"

func ofSystem(err error) string {
	for _, a := range answers {
		for _, is := range a.is {
			if errors.Is(err, is) {
				return a.hint
			}
		}
	}
	var (
		number syscall.Errno
		path   *fs.PathError
		link   *os.LinkError
		call   *os.SyscallError
	)
	if errors.As(err, &number) || errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &call) {
		return lastResort
	}
	return ""
}
