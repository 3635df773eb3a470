package worker

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup lets Ctrl-C reach a worker through us only.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminate does nothing: Windows has no signal that asks.
func terminate(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killedBySystem(*os.ProcessState) bool { return false }

// gone reports whether a process has ended; finding it fails then.
func gone(pid int) bool {
	p, err := os.FindProcess(pid)
	if err == nil {
		p.Release()
	}
	return err != nil
}
