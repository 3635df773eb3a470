package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// tracer is one run.
type tracer struct {
	pid     int
	threads map[int]*tiles
	code    map[uint64]instruction // by address: what was decoded, as programs do not change themselves
}

// run runs a command to its end, and returns its exit code. The kernel takes orders about a traced process from the thread that started it only.
func run(cmd *exec.Cmd) (code int, err error) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	t := &tracer{cmd.Process.Pid, map[int]*tiles{cmd.Process.Pid: {}}, map[uint64]instruction{}}
	var status unix.WaitStatus
	if _, err := wait(&status); err != nil {
		return 1, err
	}
	// threads are followed, other programs that this one starts are not
	if err := unix.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return 1, err
	}
	t.resume(t.pid, 0)
	return t.loop()
}

func wait(status *unix.WaitStatus) (tid int, err error) {
	for {
		tid, err = unix.Wait4(-1, status, unix.WALL, nil)
		if err != unix.EINTR {
			return tid, err
		}
	}
}

func (t *tracer) resume(tid int, signal unix.Signal) {
	_ = unix.PtraceCont(tid, int(signal)) // a thread that has just died is waited for like the others
}

// loop serves stops until the program has ended.
func (t *tracer) loop() (code int, err error) {
	for {
		var status unix.WaitStatus
		tid, err := wait(&status)
		switch {
		case err != nil:
			return 1, err
		case tid == t.pid && status.Exited():
			return status.ExitStatus(), nil
		case tid == t.pid && status.Signaled():
			return 1, fmt.Errorf("the program was ended: %s", status.Signal())
		case status.Exited() || status.Signaled():
			delete(t.threads, tid)
			continue
		}
		signal := status.StopSignal()
		known := t.threads[tid]
		switch {
		case known == nil: // a new thread stops once
			t.threads[tid] = &tiles{}
			if signal == unix.SIGSTOP {
				signal = 0
			}
		case signal == unix.SIGTRAP && status.TrapCause() > 0: // it has made a thread
			signal = 0
		case signal == unix.SIGILL:
			signal, err = t.illegal(tid, known)
		}
		if err != nil {
			return 1, err
		}
		t.resume(tid, signal)
	}
}

// illegal carries out the instructions on tiles that a thread has stopped at, and returns the signal that it gets: 0, or that of a processor with tiles.
func (t *tracer) illegal(tid int, its *tiles) (unix.Signal, error) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return 0, err
	}
	numbered := [16]*uint64{&regs.Rax, &regs.Rcx, &regs.Rdx, &regs.Rbx, &regs.Rsp, &regs.Rbp, &regs.Rsi, &regs.Rdi, &regs.R8, &regs.R9, &regs.R10, &regs.R11, &regs.R12, &regs.R13, &regs.R14, &regs.R15}
	m := machine{
		register: func(number byte) uint64 { return *numbered[number] },
		read:     func(at uint64, data []byte) error { return transfer(unix.ProcessVMReadv, tid, at, data) },
		write:    func(at uint64, data []byte) error { return transfer(unix.ProcessVMWritev, tid, at, data) },
	}
	done := false
	for {
		in, ok := t.at(regs.Rip, m)
		if !ok {
			break
		}
		switch err := its.do(in, m); {
		case errors.Is(err, errInvalid):
			return unix.SIGILL, nil
		case err != nil:
			return unix.SIGSEGV, nil
		}
		regs.Rip += uint64(in.size)
		done = true
	}
	if !done {
		return unix.SIGILL, nil
	}
	return 0, unix.PtraceSetRegs(tid, &regs)
}

// at is the instruction at an address.
func (t *tracer) at(address uint64, m machine) (instruction, bool) {
	in, known := t.code[address]
	if !known {
		var code [6]byte
		if m.read(address, code[:]) != nil {
			return in, false
		}
		in, _ = decode(code[:])
		t.code[address] = in
	}
	return in, in.size > 0
}

func transfer(call func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error), tid int, at uint64, data []byte) error {
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := call(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(data)}}, 0)
	if err == nil && n < len(data) {
		err = unix.EFAULT
	}
	return err
}
