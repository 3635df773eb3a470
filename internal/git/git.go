// Package git reads what a repository had at another revision, through the git program.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Error says what git could not do, and what to do about it.
type Error struct{ What, Do string }

func (e *Error) Error() string { return e.What }

// Hint says what to do.
func (e *Error) Hint() string { return e.Do }

// Commit is the full id of a revision in the repository that a folder is in.
func Commit(ctx context.Context, dir, revision string) (string, error) {
	out, err := run(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err == nil {
		return strings.TrimSpace(out), nil
	}
	var missing *Error
	if errors.As(err, &missing) {
		return "", err
	}
	if _, err := run(ctx, dir, "rev-parse", "--git-dir"); err != nil {
		return "", &Error{fmt.Sprintf("%s is in no git repository, so there is no revision %s", place(dir), revision), "against: accepted compares with figures that were accepted before"}
	}
	return "", &Error{fmt.Sprintf("there is no revision %s in the repository of %s", revision, place(dir)), "fetch it: git fetch origin " + revision + "; in GitHub's checkout action, fetch-depth: 0"}
}

// place of a folder, for people.
func place(dir string) string {
	if dir == "" || dir == "." {
		return "this folder"
	}
	return dir
}

// ErrNoFile says that a commit does not have a file.
var ErrNoFile = errors.New("it is not there at that revision")

// Show reads a file as it was at a commit.
func Show(ctx context.Context, commit, path string) ([]byte, error) {
	out, err := run(ctx, filepath.Dir(path), "show", "--end-of-options", commit+":./"+filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, ErrNoFile)
	}
	return []byte(out), nil
}

// Head is the short id of the commit that is checked out, with a + when files were changed since; "" outside a repository.
func Head(ctx context.Context, dir string) string {
	out, err := run(ctx, dir, "rev-parse", "--short=10", "HEAD")
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(out)
	if status, err := run(ctx, dir, "status", "--porcelain", "--untracked-files=no"); err == nil && strings.TrimSpace(status) != "" {
		id += "+"
	}
	return id
}

// run git in a folder.
func run(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if dir == "" {
		dir = "."
	}
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "--no-optional-locks"}, args...)...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", &Error{"git is not installed", "install it, or use against: accepted"}
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(words.String()))
	}
	return out.String(), nil
}
