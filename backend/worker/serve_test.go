package worker

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/backend/backendtest"
	"github.com/mlxbuild/mlxbuild/backend/builtin"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

func served(t *testing.T, program ...string) *Runtime {
	t.Helper()
	if program == nil {
		program = []string{os.Args[0], "serve"}
	}
	r := New(Config{Name: "builtin", Program: program, Compute: []backend.Compute{backend.Float32, backend.Float64}})
	t.Cleanup(func() { r.Close() })
	return r
}

// The built-in runtime is the same behind the protocol.
func TestServedConforms(t *testing.T) {
	dir := oracle.TinyStories(t)
	backendtest.Run(t, served(t), dir)
	backendtest.RunIn(t, served(t), dir, backend.Float64)
}

// A process of its own says what it had in memory, phase by phase.
func TestServedMemory(t *testing.T) {
	r := served(t)
	if r.PID() != 0 {
		t.Fatal("it runs before it is needed")
	}
	ctx, dir := context.Background(), oracle.TinyStories(t)
	m, err := r.Load(ctx, dir, backend.Float32)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if r.PID() == 0 || r.PID() == os.Getpid() {
		t.Fatalf("the worker is process %d", r.PID())
	}
	if _, err := m.Generate(ctx, [][]int32{{1, 2, 3}, {4, 5, 6}}, backend.GenerateOptions{MaxTokens: 8, IgnoreEOS: true}, nil); err != nil {
		t.Fatal(err)
	}
	here, err := builtin.New().Load(ctx, dir, backend.Float32)
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	for _, phase := range []string{backend.PhaseLoad, backend.PhasePrefill, backend.PhaseDecode} {
		if got, least := m.Memory(phase), here.Memory(backend.PhaseLoad); got < least {
			t.Errorf("%s: %d bytes, less than the %d of the weights", phase, got, least)
		}
	}
}

func TestServedProgramIsMissing(t *testing.T) {
	_, err := served(t, "/no/such/program").Load(context.Background(), oracle.TinyStories(t), backend.Float32)
	if err == nil || errors.As(err, new(*backend.InputError)) {
		t.Fatalf("a program that is not there: %v", err)
	}
}
