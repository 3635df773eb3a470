//go:build !race

package builtin

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// A text is the same while others want the processors and a worker is done without, comes back, and leaves again. With the race detector steps take too long to be judged.
func TestTextsInACrowd(t *testing.T) {
	if runtime.NumCPU() == 1 {
		return // there is one worker
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	m := mustLoadIn(t, New(), oracle.TinyStories(t), backend.Fast).(*model)
	prompt, options := someIDs(300, 1000), backend.GenerateOptions{MaxTokens: 150, IgnoreEOS: true}
	want := mustGenerate(t, m, [][]int32{prompt}, options)[0]

	runtime.GOMAXPROCS(2*runtime.NumCPU() + 1) // more threads than processors, so that it is the system that divides them
	var enough atomic.Bool
	defer enough.Store(true)
	for range runtime.NumCPU() {
		go func() {
			for !enough.Load() {
			}
		}()
	}
	changes, before := 0, m.pool.Active()
	count := func(backend.Event) error {
		if now := m.pool.Active(); now != before {
			changes, before = changes+1, now
		}
		return nil
	}
	for deadline := time.Now().Add(time.Minute); changes < 3; {
		got, err := m.Generate(t.Context(), [][]int32{prompt}, options, count)
		if err != nil {
			t.Fatal(err)
		}
		sameResult(t, "in a crowd", got[0], want)
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("after %d changes of the number of workers", changes)
		}
	}
}
