//go:build !linux || !amd64

package main

import (
	"errors"
	"os/exec"
)

func run(*exec.Cmd) (int, error) { return 1, errors.New("programs can be traced on Linux/amd64 only") }
