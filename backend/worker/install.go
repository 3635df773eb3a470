package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend"
)

// Install makes the environment of a runtime in dir, a folder of its own named by the pins, and says whether it had to. It is made beside its place and renamed when it is whole.
func (r *Runtime) Install(ctx context.Context, dir string, say func(line string)) (env string, made bool, err error) {
	find := r.config.Find
	find.Dir = dir
	env = find.Installed(r.config.Name)
	if isFile(interpreter(env)) {
		return env, false, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return env, false, err
	}
	pins := env + ".txt"
	if err := os.WriteFile(pins, []byte(find.Pins), 0o644); err != nil {
		return env, false, err
	}
	defer os.Remove(pins)
	staging := env + ".new"
	if err := os.RemoveAll(staging); err != nil {
		return env, false, err
	}
	defer os.RemoveAll(staging)
	for _, command := range r.installCommands(staging, pins) {
		say(strings.Join(command, " "))
		if err := run(ctx, say, command); err != nil {
			return env, false, err
		}
	}
	return env, true, os.Rename(staging, env)
}

// installCommands make an environment and fill it. uv takes seconds where pip takes minutes.
func (r *Runtime) installCommands(env, requirements string) [][]string {
	if uv, err := exec.LookPath("uv"); err == nil {
		return [][]string{{uv, "venv", "--quiet", "--relocatable", "--python", ">=3.11", env},
			{uv, "pip", "install", "--quiet", "--python", interpreter(env), "--require-hashes", "--requirement", requirements}}
	}
	python := "python3"
	if _, err := exec.LookPath(python); err != nil {
		python = "python"
	}
	return [][]string{{python, "-m", "venv", env},
		{interpreter(env), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", requirements}}
}

// run runs a command and passes on what it says.
func run(ctx context.Context, say func(line string), command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	ownGroup(cmd)
	cmd.Cancel = func() error { killGroup(cmd); return nil }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	words := &tail{max: 4 << 10}
	if err := cmd.Start(); err != nil {
		var missing *exec.Error
		if errors.As(err, &missing) {
			return &backend.MissingError{Runtime: "python", What: fmt.Sprintf("there is no %s to make an environment with", command[0]), Do: "install Python 3.11 or later, or uv"}
		}
		return err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(words, lines.Text())
		say("  " + lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w\n%s", filepath.Base(command[0]), err, lastLines(words.String(), 10))
	}
	return nil
}
