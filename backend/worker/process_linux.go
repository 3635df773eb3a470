package worker

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a worker in a group of its own, so that Ctrl-C reaches it through us only, and lets the kernel end it when we die, however that happens.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
