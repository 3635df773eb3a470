package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/mlxbuild/mlxbuild/internal/fault"
)

// diskFault is a way in which a disk or file system fails.
type diskFault struct {
	name   string
	do     fault.Action
	errno  syscall.Errno
	hits   func(*fault.Call) bool
	stays  bool // from the first call on: a file system that is like this; else each call alone, and each with all that follow when it lasts
	lasts  bool // a fault that does not go away by itself is tried both ways
	always bool // every run has to succeed: nothing is lost that is needed
}

func calls(names ...string) func(*fault.Call) bool {
	return func(c *fault.Call) bool { return slices.Contains(names, c.Name) }
}

// writing calls need room on the disk, or the right to write.
func writing(c *fault.Call) bool {
	switch c.Name {
	case "openat":
		return c.Create
	case "write", "pwrite64", "copy_file_range", "mkdirat", "renameat", "linkat", "ftruncate", "fsync":
		return true
	}
	return false
}

// changing calls are refused by a disk that is read-only.
func changing(c *fault.Call) bool {
	switch c.Name {
	case "openat":
		return c.Create || c.Write
	case "mkdirat", "renameat", "linkat", "unlinkat", "fchmod", "fchmodat", "ftruncate":
		return true
	}
	return false
}

// diskFaults are those of a disk that can be put into a call. That of a file system that takes two names for one is a test of its own: no call fails there.
var diskFaults = []diskFault{
	{name: "full", do: fault.Fail, errno: syscall.ENOSPC, hits: writing, lasts: true},
	{name: "over quota", do: fault.Fail, errno: syscall.EDQUOT, hits: writing, lasts: true},
	{name: "read error", do: fault.Fail, errno: syscall.EIO, hits: calls("read", "pread64", "getdents64", "newfstatat", "fstat", "openat")},
	{name: "write error", do: fault.Fail, errno: syscall.EIO, hits: calls("write", "pwrite64", "copy_file_range", "ftruncate", "mkdirat")},
	{name: "read-only", do: fault.Fail, errno: syscall.EROFS, hits: changing, lasts: true},
	{name: "no access", do: fault.Fail, errno: syscall.EACCES, hits: func(c *fault.Call) bool { return changing(c) || c.Name == "openat" || c.Name == "getdents64" }, lasts: true},
	{name: "too many open files", do: fault.Fail, errno: syscall.EMFILE, hits: calls("openat")},
	{name: "short write", do: fault.Short, hits: calls("write", "pwrite64", "copy_file_range")},
	{name: "lost at sync", do: fault.Lose, errno: syscall.EIO, hits: calls("fsync", "fdatasync")},
	{name: "rename fails", do: fault.Fail, errno: syscall.EPERM, hits: calls("renameat")},
	{name: "unlink fails", do: fault.Fail, errno: syscall.EPERM, hits: calls("unlinkat")},
	{name: "no hard links", do: fault.Fail, errno: syscall.EPERM, hits: calls("linkat"), stays: true, always: true},
	{name: "hard links only on one disk", do: fault.Fail, errno: syscall.EXDEV, hits: calls("linkat"), stays: true, always: true},
	{name: "too many hard links", do: fault.Fail, errno: syscall.EMLINK, hits: calls("linkat"), stays: true, always: true},
	{name: "no symbolic links", do: fault.Fail, errno: syscall.EPERM, hits: calls("symlinkat"), stays: true, always: true},
	{name: "locks that keep nobody out", do: fault.Skip, hits: calls("flock"), stays: true, always: true},
	{name: "no locks", do: fault.Fail, errno: syscall.ENOLCK, hits: calls("flock"), stays: true},
	{name: "no cloning", do: fault.Fail, errno: syscall.EOPNOTSUPP, hits: calls("ioctl", "copy_file_range"), stays: true, always: true},
}

// files counts the calls of a fault on the scene's files and on the model.
func (s *soak) files(d diskFault) func(sc scene) func(*fault.Call) bool {
	return func(sc scene) func(*fault.Call) bool {
		return func(c *fault.Call) bool {
			ours := strings.HasPrefix(c.Path, sc.dir) || strings.HasPrefix(c.To, sc.dir) || d.do != fault.Lose && strings.HasPrefix(c.Path, s.work+"/tiny")
			return ours && d.hits(c)
		}
	}
}

// diskPoint is a fault at a call.
type diskPoint struct {
	point
	diskFault
	onward bool // and at all later calls
}

// disk has the disk fail in every way at every call. The command has to make the right bytes or say clearly what is wrong, and afterwards the same command has to go through.
func (s *soak) disk() (*findings, error) {
	f := s.newFindings("points", "faults", "commands")
	var points []diskPoint
	commands := map[string]bool{}
	for _, d := range diskFaults {
		proofs, err := s.proofs(func(t trial) bool { return t.name != "init" && (s.sample == 0 || !t.slow) }, s.files(d))
		if err != nil {
			return nil, err
		}
		f.add("faults", 1)
		for i := range proofs {
			commands[proofs[i].name] = true
			n := proofs[i].points
			if d.stays {
				n = min(n, 1)
			}
			for at := 1; at <= n; at++ {
				at := point{&proofs[i], at, d.do}
				points = append(points, diskPoint{at, d, d.stays})
				if d.lasts {
					points = append(points, diskPoint{at, d, true})
				}
			}
		}
	}
	f.add("commands", int64(len(commands)))
	points = spread(points, s.sample, s.seed)
	s.mix(len(points), func(i, k int) { points[i], points[k] = points[k], points[i] })
	s.say("disk: %d points", len(points))
	return f, s.each(len(points), func(i int, dir string) error { return s.fail(f, points[i], dir) })
}

func (s *soak) fail(f *findings, at diskPoint, dir string) error {
	p := at.proof
	sc, err := p.from.copyTo(dir)
	if err != nil {
		return err
	}
	r, said, err := p.traced(sc, fault.Plan{Counts: s.files(at.diskFault)(sc), At: at.at, Do: at.point.do, Errno: at.errno, Stays: at.onward})
	if err != nil {
		return err
	}
	f.add("points", 1)
	where := fmt.Sprintf("%s, %s at call %d", p.name, at.diskFault.name, at.at)
	if at.onward {
		where += " and later"
	}
	if r.Hit != nil {
		where += fmt.Sprintf(" (%s %s)", r.Hit.Name, strings.TrimPrefix(r.Hit.Path, sc.dir+"/"))
	}
	switch problem := unclear(r, said); {
	case r.Code == 0:
		f.add("went through", 1)
		if p.then == nil {
			got, err := sc.outputs()
			if err != nil {
				return err
			}
			if d := differences(got, p.want); d != "" {
				f.bad("%s: it says that all is well, and %s\n%s", where, d, said)
			}
		}
	case at.always:
		f.bad("%s: exit code %d\n%s", where, r.Code, said)
	case problem != nil:
		f.bad("%s: %v\n%s", where, problem, said)
	default:
		f.add("said so", 1)
	}
	if problem := p.goesOn(sc); problem != "" {
		f.bad("%s: %s", where, problem)
	}
	return nil
}

// unclear says what is wrong with how a command failed: a person has to learn what it was and what to do.
func unclear(r fault.Result, said string) error {
	switch {
	case r.TimedOut:
		return errors.New("it hung")
	case r.Signal != 0:
		return fmt.Errorf("it was ended by %v", r.Signal)
	case strings.Contains(said, "goroutine ") || strings.Contains(said, "BUG"):
		return errors.New("it broke down")
	case strings.TrimSpace(said) == "":
		return errors.New("it failed without a word")
	case !strings.Contains(said, "hint:"):
		return errors.New("it did not say what to do")
	}
	return nil
}
