package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// TestInstallMLX makes the environment of the mlx runtime for real, and generates with it. It takes what the package index gives, so it runs only where tests may not be skipped.
func TestInstallMLX(t *testing.T) {
	if os.Getenv("MLXBUILD_TEST_MUST_RUN") == "" {
		t.Skip("it needs a package index")
	}
	t.Setenv("MLXBUILD_CACHE", filepath.Join(t.TempDir(), "cache"))
	t.Setenv("MLXBUILD_PYTHON", "")
	t.Setenv("VIRTUAL_ENV", "")
	if code, _, stderr := mlxbuild(t, "runtime", "install", "mlx"); code != exitOK || !strings.Contains(stderr, "mlx installed: mlx 0.32.4, mlx-lm 0.32.2") {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	if code, _, stderr := mlxbuild(t, "runtime", "install", "mlx"); code != exitOK || !strings.Contains(stderr, "mlx is there already") {
		t.Errorf("again: exit %d\n%s", code, stderr)
	}
	if code, stdout, _ := mlxbuild(t, "runtime", "list"); code != exitMissing || !strings.Contains(stdout, "(mlxbuild runtime install)") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	dir := breakFolder(t, oracle.TinyStories(t), func(folder) {})
	code, stdout, stderr := mlxbuild(t, "llama", "validate", "--mlx-path", dir, "--runtime", "mlx", "--prompts", "Once upon a time", "-n", "4")
	if code != exitOK || !strings.Contains(stdout, "parity, mlx float32 against the same weights in builtin float64") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}
