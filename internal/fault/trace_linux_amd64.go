package fault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tracer is one run. All of it happens on one thread: the kernel takes orders about a traced process from the thread that started it only.
type tracer struct {
	plan    Plan
	result  Result
	pid     int
	threads map[int]*thread
	overdue atomic.Bool
}

// thread is a traced thread; call is the numbered or hit call that it is in.
type thread struct {
	inside bool
	call   *Call
	mem    *os.File
	do     Action
}

func run(cmd *exec.Cmd, p Plan) (Result, error) {
	type answer struct {
		r   Result
		err error
	}
	done := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and with it whatever it still traces
		t := &tracer{plan: p, threads: map[int]*thread{}}
		err := t.trace(cmd)
		done <- answer{t.result, err}
	}()
	a := <-done
	return a.r, a.err
}

// options: threads are followed, other programs that this one starts are not.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

func (t *tracer) trace(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace, cmd.SysProcAttr.Setpgid = true, true
	if err := cmd.Start(); err != nil {
		return err
	}
	t.pid = cmd.Process.Pid
	t.result.Code = -1
	defer cmd.Process.Release()
	var status unix.WaitStatus
	if _, err := wait(t.pid, &status); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return errors.Join(fmt.Errorf("%s cannot be traced: %w", cmd.Path, err), unix.Kill(t.pid, unix.SIGKILL))
	}
	pid := t.pid
	overdue := time.AfterFunc(t.plan.Timeout, func() {
		t.overdue.Store(true)
		_ = unix.Kill(pid, unix.SIGKILL)
	})
	defer overdue.Stop()
	t.thread(t.pid)
	t.resume(t.pid, 0)
	err := t.loop()
	t.result.TimedOut = t.overdue.Load()
	return err
}

// wait for a child of this thread only, as other tracers of this process have theirs; pid is the process's, or that of its group below 0, as the thread may have started other children before.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	const noThread = 0x20000000 // __WNOTHREAD
	for {
		got, err := unix.Wait4(pid, status, unix.WALL|noThread, nil)
		if err != unix.EINTR {
			return got, err
		}
	}
}

func (t *tracer) thread(tid int) *thread {
	if t.threads[tid] == nil {
		t.threads[tid] = &thread{}
	}
	return t.threads[tid]
}

func (t *tracer) resume(tid, signal int) {
	_ = unix.PtraceSyscall(tid, signal) // a thread that has just died is waited for like the others
}

// loop serves stops until every traced process has ended.
func (t *tracer) loop() error {
	for {
		var status unix.WaitStatus
		tid, err := wait(-t.pid, &status)
		if err == unix.ECHILD {
			return nil
		}
		if err != nil {
			return err
		}
		if status.Exited() || status.Signaled() {
			t.ended(tid, status)
			continue
		}
		signal := status.StopSignal()
		_, known := t.threads[tid]
		th := t.thread(tid)
		switch {
		case signal == unix.SIGTRAP|0x80:
			t.syscall(tid, th)
			continue
		case signal == unix.SIGTRAP && status.TrapCause() != 0, signal == unix.SIGSTOP && !known: // an event, or a new thread
			t.resume(tid, 0)
		case signal == unix.SIGTRAP:
			t.resume(tid, 0)
		default:
			t.resume(tid, int(signal))
		}
	}
}

func (t *tracer) ended(tid int, status unix.WaitStatus) {
	if th := t.threads[tid]; th != nil && th.mem != nil {
		th.mem.Close()
	}
	delete(t.threads, tid)
	if tid != t.pid {
		return
	}
	if status.Exited() {
		t.result.Code = status.ExitStatus()
	} else {
		t.result.Signal = status.Signal()
	}
}

// syscall serves a stop at the beginning or end of a call.
func (t *tracer) syscall(tid int, th *thread) {
	th.inside = !th.inside
	var regs unix.PtraceRegs
	if !th.inside && th.call == nil || unix.PtraceGetRegs(tid, &regs) != nil {
		t.resume(tid, 0)
		return
	}
	if th.inside {
		t.begins(tid, th, &regs)
	} else {
		t.ends(tid, th, &regs)
	}
	t.resume(tid, 0)
}

// begins looks at a call before the kernel does.
func (t *tracer) begins(tid int, th *thread, regs *unix.PtraceRegs) {
	c := t.read(tid, th, regs)
	if c == nil || !t.plan.Counts(c) {
		return
	}
	th.call, th.do = c, None
	t.result.Calls++
	if t.plan.At == 0 || t.result.Calls < t.plan.At || t.result.Calls > t.plan.At && !t.plan.Stays {
		return
	}
	if t.result.Hit == nil {
		t.result.Hit = c
	}
	th.do = t.plan.Do
	switch th.do {
	case Kill:
		_ = unix.Kill(t.pid, unix.SIGKILL)
	case Freeze:
		t.plan.Frozen(t.pid) // nobody serves the process meanwhile: each of its threads stands at its next call
	case Fail, Skip, Lose:
		regs.Orig_rax = ^uint64(0)
		_ = unix.PtraceSetRegs(tid, regs)
	case Short, Tear:
		if !writes(c.Name) {
			if th.do == Tear {
				_ = unix.Kill(t.pid, unix.SIGKILL)
			}
			return
		}
		half := max(1, c.Size/2)
		if c.Name == "copy_file_range" {
			regs.R8 = uint64(half)
		} else if c.Name == "sendfile" {
			regs.R10 = uint64(half)
		} else {
			regs.Rdx = uint64(half)
		}
		_ = unix.PtraceSetRegs(tid, regs)
	}
}

func writes(name string) bool {
	return name == "write" || name == "pwrite64" || name == "copy_file_range" || name == "sendfile"
}

// ends looks at a call's result before the program does.
func (t *tracer) ends(tid int, th *thread, regs *unix.PtraceRegs) {
	c := th.call
	th.call = nil
	switch th.do {
	case Fail, Lose:
		regs.Rax = uint64(-int64(t.plan.Errno))
		_ = unix.PtraceSetRegs(tid, regs)
		if th.do == Lose {
			lose(fmt.Sprintf("/proc/%d/fd/%d", tid, c.FD))
		}
	case Skip:
		regs.Rax = 0
		_ = unix.PtraceSetRegs(tid, regs)
	case Tear:
		_ = unix.Kill(t.pid, unix.SIGKILL)
	}
	c.Result = int64(regs.Rax)
	if c.Name == "openat" {
		c.FD = int(c.Result)
	}
	if t.plan.Record != nil {
		if c.Name == "write" || c.Name == "pwrite64" {
			if c.Result > 0 {
				c.Data = make([]byte, c.Result)
				if n, _ := t.memory(tid, th).ReadAt(c.Data, int64(regs.Rsi)); int64(n) < c.Result {
					c.Data = nil
				}
			}
		}
		t.plan.Record(c)
	}
}

// lose makes the second half of a regular file zeros.
func lose(path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteAt(make([]byte, info.Size()-info.Size()/2), info.Size()/2)
}

func (t *tracer) memory(tid int, th *thread) *os.File {
	if th.mem == nil {
		th.mem, _ = os.Open(fmt.Sprintf("/proc/%d/mem", tid)) // a nil file's ReadAt fails, which is what is wanted then
	}
	return th.mem
}

// text reads a string of the program.
func (t *tracer) text(tid int, th *thread, at uint64) string {
	var out []byte
	buf := make([]byte, 256)
	for len(out) < 4096 {
		n, err := t.memory(tid, th).ReadAt(buf[:256-int(at%256)], int64(at))
		for i := range n {
			if buf[i] == 0 {
				return string(append(out, buf[:i]...))
			}
		}
		out, at = append(out, buf[:n]...), at+uint64(n)
		if err != nil {
			break
		}
	}
	return string(out)
}

// path of a name relative to an open folder.
func path(tid int, dir uint64, name string) string {
	if name != "" && name[0] == '/' {
		return name
	}
	base := ""
	if int32(dir) == unix.AT_FDCWD {
		base, _ = os.Readlink("/proc/" + strconv.Itoa(tid) + "/cwd")
	} else {
		base = open(tid, dir)
	}
	if name == "" {
		return base
	}
	return base + "/" + name
}

// open is the path of an open file.
func open(tid int, fd uint64) string {
	path, _ := os.Readlink("/proc/" + strconv.Itoa(tid) + "/fd/" + strconv.Itoa(int(int32(fd))))
	return path
}

// names of the calls that can be about files.
var names = map[uint64]string{
	unix.SYS_OPENAT: "openat", unix.SYS_READ: "read", unix.SYS_PREAD64: "pread64", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_WRITEV: "writev", unix.SYS_COPY_FILE_RANGE: "copy_file_range",
	unix.SYS_SENDFILE: "sendfile", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_TRUNCATE: "truncate", unix.SYS_FALLOCATE: "fallocate", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat",
	unix.SYS_LINKAT: "linkat", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FCHMOD: "fchmod",
	unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FLOCK: "flock", unix.SYS_IOCTL: "ioctl", unix.SYS_UTIMENSAT: "utimensat", unix.SYS_SYNC_FILE_RANGE: "sync_file_range", unix.SYS_GETDENTS64: "getdents64",
	unix.SYS_NEWFSTATAT: "newfstatat", unix.SYS_FSTAT: "fstat", unix.SYS_STATX: "statx", unix.SYS_CLOSE: "close", unix.SYS_MMAP: "mmap", unix.SYS_STATFS: "statfs", unix.SYS_READLINKAT: "readlinkat", unix.SYS_LSEEK: "lseek",
}

// read makes a Call of what stands in the registers; nil for calls that are not about files.
func (t *tracer) read(tid int, th *thread, r *unix.PtraceRegs) *Call {
	name, ok := names[r.Orig_rax]
	if !ok {
		return nil
	}
	c := &Call{Name: name, FD: -1, From: -1, Offset: -1}
	text := func(at uint64) string { return t.text(tid, th, at) }
	switch name {
	case "openat":
		c.Path = path(tid, r.Rdi, text(r.Rsi))
		c.Write, c.Create, c.Trunc, c.Append = r.Rdx&unix.O_ACCMODE != unix.O_RDONLY, r.Rdx&unix.O_CREAT != 0, r.Rdx&unix.O_TRUNC != 0, r.Rdx&unix.O_APPEND != 0
	case "renameat", "linkat":
		c.Path, c.To = path(tid, r.Rdi, text(r.Rsi)), path(tid, r.Rdx, text(r.R10))
	case "symlinkat":
		c.Path, c.To = text(r.Rdi), path(tid, r.Rsi, text(r.Rdx))
	case "unlinkat", "mkdirat", "fchmodat", "newfstatat", "statx", "utimensat", "readlinkat":
		c.Path = path(tid, r.Rdi, text(r.Rsi))
	case "truncate", "statfs":
		c.Path, c.Size = path(tid, uint64(0xffffff9c), text(r.Rdi)), int64(r.Rsi)
	case "copy_file_range":
		c.From, c.FD, c.Path, c.Size = int(r.Rdi), int(r.Rdx), open(tid, r.Rdx), int64(r.R8)
	case "sendfile":
		c.FD, c.From, c.Path, c.Size = int(r.Rdi), int(r.Rsi), open(tid, r.Rdi), int64(r.R10)
	case "mmap":
		if r.R10&unix.MAP_ANONYMOUS != 0 {
			return nil
		}
		c.FD, c.Path = int(r.R8), open(tid, r.R8)
	default:
		c.FD, c.Path, c.Size = int(int32(r.Rdi)), open(tid, r.Rdi), int64(r.Rdx)
		switch name {
		case "pwrite64", "pread64":
			c.Offset = int64(r.R10)
		case "ftruncate":
			c.Size = int64(r.Rsi)
		}
	}
	return c
}
