//go:build unix

package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	out, err := Output(t.Context(), dir, []string{"sh", "-c", "pwd; echo words >&2"})
	if real, _ := filepath.EvalSymlinks(dir); err != nil || strings.TrimSpace(out) != real && strings.TrimSpace(out) != dir {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Output(t.Context(), dir, []string{"sh", "-c", "echo what is wrong >&2; exit 3"}); err == nil || !strings.Contains(err.Error(), "what is wrong") {
		t.Errorf("a program that fails: %v", err)
	}
	if _, err := Output(t.Context(), dir, []string{"/no/such/program"}); err == nil {
		t.Error("a program that is not there runs")
	}
}

// What a program starts ends with it, and with its time.
func TestOutputLeavesNothing(t *testing.T) {
	for name, script := range map[string]string{"in time": "sh -c 'sleep 3; echo > left' & exit 0", "over its time": "sh -c 'sleep 3; echo > left' & sleep 60"} {
		dir := t.TempDir()
		limit := 2 * time.Second
		if name == "in time" {
			limit = time.Minute
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := Output(ctx, dir, []string{"sh", "-c", script})
		cancel()
		if (name == "over its time") != errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		time.Sleep(3500 * time.Millisecond)
		if _, err := os.Stat(filepath.Join(dir, "left")); err == nil {
			t.Errorf("%s: what it started lived on", name)
		}
	}
}
