// Package oracle finds the real programs that tests compare mlxbuild with: Python with mlx, mlx-lm, PyTorch, transformers and tokenizers, and the models made
// by scripts/. Where one is missing the test is skipped, unless MLXBUILD_TEST_MUST_RUN is set: then a missing oracle fails the test, so that a proof can
// not go missing in silence.
package oracle

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Python returns the interpreter named by MLXBUILD_ORACLE_PYTHON.
func Python(t testing.TB) string {
	t.Helper()
	python := os.Getenv("MLXBUILD_ORACLE_PYTHON")
	if python == "" {
		Missing(t, "MLXBUILD_ORACLE_PYTHON names no Python with mlx, mlx-lm, torch and transformers (scripts/oracle_env.sh makes one)")
	}
	return python
}

// Run runs a Python script with the oracle's interpreter and returns its standard output. The script's failure is the test's.
func Run(t testing.TB, script string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(Python(t), append([]string{"-c", script}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "TRANSFORMERS_VERBOSITY=error", "TOKENIZERS_PARALLELISM=false")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("oracle script failed: %v\n%s", err, stderr.Bytes())
	}
	return out
}

// Program returns the path of a program that is not a Python one.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name+" is not installed")
	}
	return path
}

// TinyStories returns the folder of the model that ships with the repository.
func TinyStories(t testing.TB) string {
	t.Helper()
	return filepath.Join(root(t), "models", "tiny-stories")
}

// SmolLM2 returns the folder that scripts/smollm2.py makes.
func SmolLM2(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(root(t), "models", "SmolLM2-135M-Instruct")
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil {
		Missing(t, dir+" is missing (scripts/smollm2.sh makes it)")
	}
	return dir
}

// Missing skips a test for want of something, or fails it where tests must run.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("MLXBUILD_TEST_MUST_RUN") != "" {
		t.Fatal("this test may not be skipped here: " + what)
	}
	t.Skip(what)
}

func root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information: the tests need the source tree")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}
