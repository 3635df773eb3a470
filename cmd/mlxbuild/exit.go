package main

import (
	"errors"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step/fetch"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
	"github.com/mlxbuild/mlxbuild/planner"
	"github.com/mlxbuild/mlxbuild/spec"
)

// Exit codes. The table is a contract with scripts and CI; docs and --help print it from here.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitBadInput    = 3
	exitExpectation = 4
	exitMissing     = 5
	exitNoisy       = 6
	exitLock        = 7
	exitWork        = 10
	exitInterrupted = 130
)

var exitCodes = []struct {
	Code    int
	Meaning string
}{
	{exitOK, "done, or nothing to do"},
	{exitFailed, "a step failed, or verify --rebuild found a difference"},
	{exitUsage, "the command line is wrong"},
	{exitBadInput, "a recipe or a model is wrong"},
	{exitExpectation, "an expectation was missed"},
	{exitMissing, "a runtime or tool is missing"},
	{exitNoisy, "a benchmark was too noisy to judge (with --strict)"},
	{exitLock, "the lock is out of date (with --locked)"},
	{exitWork, "plan --check found work"},
	{exitInterrupted, "interrupted"},
}

// order says which code stands for several.
var order = []int{exitInterrupted, exitUsage, exitBadInput, exitLock, exitMissing, exitFailed, exitExpectation, exitNoisy}

// worst of two codes.
func worst(a, b int) int {
	for _, code := range order {
		if a == code || b == code {
			return code
		}
	}
	return max(a, b)
}

// fault is an error that carries its exit code and what to do.
type fault struct {
	code   int
	msg    string
	hints  []string
	marked bool // every place that it stands for has a mark already
}

func (f *fault) Error() string { return f.msg }

// exitCode of an error.
func exitCode(err error) int {
	var f *fault
	var diags spec.Diags
	var selector *planner.SelectorError
	var model *source.Error
	var refused *fetch.Refused
	var locked *lock.Error
	var hubError *hub.Error
	var missing *backend.MissingError
	var tokens *validate.TokenizerError
	var accepted *judge.AcceptedError
	var input *backend.InputError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, executor.ErrInterrupted):
		return exitInterrupted
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &missing):
		return exitMissing
	case errors.As(err, &tokens), errors.As(err, &accepted), errors.As(err, &input):
		return exitBadInput
	case errors.As(err, &selector):
		return exitUsage
	case errors.As(err, &diags), errors.As(err, &model), errors.As(err, &refused), errors.As(err, &locked), errors.As(err, &hubError) && usersToMend(hubError.Class):
		return exitBadInput
	}
	return exitFailed
}

// usersToMend are errors of the Hub that say something about what was asked for, not about the way there.
func usersToMend(c hub.Class) bool {
	switch c {
	case hub.NotFound, hub.Gated, hub.Unauthorized, hub.Forbidden, hub.Disabled, hub.Name:
		return true
	}
	return false
}
