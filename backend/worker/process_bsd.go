//go:build unix && !linux

package worker

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a worker in a group of its own, so that Ctrl-C reaches it through us only. When we die it sees the end of its standard input.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
