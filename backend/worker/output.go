package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// maxOutput of a user's program; more is no table of figures.
const maxOutput = 16 << 20

// Output runs a user's program in a folder, in a process group of its own, and returns its standard output. When ctx ends, the whole group does.
func Output(ctx context.Context, dir string, argv []string) (string, error) {
	runtime.LockOSThread() // the kernel ends the program when the thread that started it is gone (see ownGroup)
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, words := &head{max: maxOutput}, &tail{max: 4 << 10}
	cmd.Env = withoutTokens(os.Environ())
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, out, words, time.Second
	ownGroup(cmd)
	cmd.Cancel = func() error {
		killGroup(cmd)
		return nil
	}
	err := cmd.Run()
	if cmd.Process != nil {
		killGroup(cmd) // what it left behind would run beside what is measured next
	}
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it has ended, and something that it started held its output
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", fmt.Errorf("%s: %w%s", argv[0], err, after(strings.TrimSpace(words.String())))
	}
	return out.String(), nil
}

// withoutTokens is an environment without what the Hub knows the user by: what is measured gets folders, and needs none of it.
func withoutTokens(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_OIDC_ID_TOKEN"}, name)
	})
}

func after(words string) string {
	if words == "" {
		return ""
	}
	return "\n" + lastLines(words, 6)
}

// head keeps the first bytes that are written to it.
type head struct {
	bytes.Buffer
	max int
}

func (h *head) Write(b []byte) (int, error) {
	h.Buffer.Write(b[:min(len(b), max(0, h.max-h.Len()))])
	return len(b), nil
}
