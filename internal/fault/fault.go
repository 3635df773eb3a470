// Package fault runs a program, unchanged, and has any one of its system calls fail, be cut short, do nothing, or be its last; or it writes down what the program did to its files.
//
// It is for proofs that no fault gives a wrong byte. It traces the program as a debugger does, so that calls are counted over all threads and every point can be reached; it works on Linux/amd64 and
// says ErrNotHere elsewhere.
package fault

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// ErrNotHere says that programs cannot be traced on this system.
var ErrNotHere = errors.New("programs can be traced on Linux/amd64 only")

// Action is what becomes of a call.
type Action int

// Actions.
const (
	None   Action = iota
	Kill          // the process is killed before the call does anything
	Tear          // half of what a write would write is written, then the process is killed; other calls: as Kill
	Fail          // the call does nothing and returns Plan.Errno
	Skip          // the call does nothing and returns success
	Short         // half of what a write would write is written, and that is what it returns
	Lose          // of fsync: it returns Plan.Errno, and what was written and not yet synced has become zeros, as some disks and file systems do
	Freeze        // the process stands still before the call, until Plan.Frozen returns
)

// Plan says what goes wrong.
type Plan struct {
	Counts func(*Call) bool // which calls are numbered; nil = those that change files (Changes)
	At     int              // the number of the call that is hit, from 1; 0 = none
	Stays  bool             // all later calls that Counts are hit too
	Do     Action
	Errno  syscall.Errno
	Frozen func(pid int)

	Record  func(*Call)   // told of every numbered call that has returned, in order; writes come with their data
	Timeout time.Duration // the process is killed then; 0 = a minute
}

// Call is a system call.
type Call struct {
	Name   string
	Path   string // what it is about; of a descriptor, the path it has now
	To     string // of a rename or link: the new name
	FD     int    // of calls on open files, and what an open returned; else -1
	Write  bool   // of an open: for writing
	Create bool   // of an open: the file may be made
	Trunc  bool   // of an open
	Append bool   // of an open
	From   int    // of a copy between files: the other descriptor
	Offset int64  // of a write at a place; -1 = where the file stands
	Size   int64  // bytes asked for; the new size of a truncation
	Data   []byte // what was written, when it is recorded
	Result int64  // what it returned: below 0 an errno
}

// Result of a run.
type Result struct {
	Code     int // exit code, or -1
	Signal   syscall.Signal
	Calls    int   // numbered
	Hit      *Call // the first that was hit, nil when the program ended before
	TimedOut bool
}

// Changes reports whether a call changes files, locks them or makes them last: the points between which a kill can make a difference.
func Changes(c *Call) bool {
	switch c.Name {
	case "openat":
		return c.Create || c.Trunc
	case "write", "pwrite64", "writev", "copy_file_range", "sendfile", "ftruncate", "truncate", "fallocate", "renameat", "linkat", "unlinkat", "symlinkat", "mkdirat", "fsync", "fdatasync", "fchmod",
		"fchmodat", "flock", "ioctl", "utimensat", "sync_file_range":
		return true
	}
	return false
}

// Run runs a command under a plan. Its Stdout and Stderr must be nil or files, as nothing copies them.
func Run(cmd *exec.Cmd, p Plan) (Result, error) {
	if p.Counts == nil {
		p.Counts = Changes
	}
	if p.Timeout == 0 {
		p.Timeout = time.Minute
	}
	return run(cmd, p)
}
