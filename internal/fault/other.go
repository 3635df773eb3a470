//go:build !linux || !amd64

package fault

import "os/exec"

func run(*exec.Cmd, Plan) (Result, error) { return Result{}, ErrNotHere }
