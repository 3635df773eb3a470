//go:build !unix

package main

import (
	"os"
	"os/exec"
)

const exeSuffix = ".exe"

func peakMemory(*os.ProcessState) int64 { return 0 }

func killTogether(*exec.Cmd) {}

func settle() {}
