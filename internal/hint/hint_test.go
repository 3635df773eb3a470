package hint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

type hinted struct {
	hint string
	err  error
}

func (e hinted) Error() string { return "hinted" }
func (e hinted) Hint() string  { return e.hint }
func (e hinted) Unwrap() error { return e.err }

func TestOf(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	const room = "free some room; mlxbuild cache gc --max-size 5GiB makes the cache smaller"
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("nothing of the system"), ""},
		{hinted{"its own", full}, "its own"},
		{fmt.Errorf("outside: %w", hinted{"its own", nil}), "its own"},
		{hinted{"", hinted{"the inner", nil}}, "the inner"},
		{hinted{"", full}, room},
		{errors.Join(errors.New("first"), fmt.Errorf("second: %w", full)), room},
		{os.ErrPermission, "mend the permissions, or run as the user who owns it"},
		{&os.LinkError{Op: "link", Err: syscall.EMLINK}, lastResort},
		{os.ErrDeadlineExceeded, ""},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

// No answer of the operating system goes without a word of what to do, in whatever form it comes.
func TestEveryAnswer(t *testing.T) {
	for n := syscall.Errno(1); n < 200; n++ {
		for _, err := range []error{n, &fs.PathError{Op: "open", Path: "f", Err: n}, &os.LinkError{Op: "rename", Err: n}, os.NewSyscallError("fsync", n), fmt.Errorf("wrapped: %w", n)} {
			if Of(err) == "" {
				t.Errorf("no hint for %v", err)
			}
		}
	}
	if _, err := os.Open(t.TempDir() + "/none"); Of(err) == "" {
		t.Errorf("no hint for %v", err)
	}
}
