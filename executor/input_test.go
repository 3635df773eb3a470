package executor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/executor"
)

// overwrite writes to what a step made, as an editor or a careless script would.
func (w *world) overwrite(name string) {
	path := filepath.Join(w.dir, "build", name, "out")
	if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, []byte("rubbish"), 0o644)); err != nil {
		w.t.Error(err)
	}
}

// What a step makes while its input is written to is not kept.
func TestInputChangesWhileItIsRead(t *testing.T) {
	w := chain(t)
	w.set("b", func(f *fake) { f.running = func(context.Context) { w.overwrite("a") } })
	g := w.plan()
	want, err := g.Select([]string{"b"})
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := executor.Run(t.Context(), g, want, executor.Options{Cache: w.cache})
	var changed *executor.InputError
	if err != nil || !errors.As(outcomes[want[0]].Err, &changed) || changed.Hint() == "" {
		t.Fatalf("b is %v: %v, %v", outcomes[want[0]].State, outcomes[want[0]].Err, err)
	}
	w.set("b", func(f *fake) { f.running = nil })
	_, states, err := w.build(executor.Options{}, "b")
	if err != nil || states["b"] != executor.Done || w.read("b") != "b1("+w.read("a")+")" || w.read("a") == "rubbish" {
		t.Errorf("the next time b is %v and holds %s, a %s: %v", states["b"], w.read("b"), w.read("a"), err)
	}
}

// What was changed after it was settled is put back before a step takes it.
func TestInputChangesBeforeItIsRead(t *testing.T) {
	w := newWorld(t,
		fake{name: "a", param: "a1"},
		fake{name: "slow", needs: []string{"a"}, param: "s1"},
		fake{name: "last", needs: []string{"a", "slow"}, param: "l1"})
	w.expect("first", []string{"a", "last", "slow"}, executor.Options{})
	right := w.read("a")
	w.steps = append(w.steps, fake{name: "vandal", param: "v1", running: func(context.Context) { w.overwrite("a") }},
		fake{name: "victim", needs: []string{"a", "vandal"}, param: "w1"})
	if _, _, err := w.build(executor.Options{}); err != nil {
		t.Fatal(err)
	}
	if w.read("a") != right || w.read("victim") != "w1("+right+","+w.read("vandal")+")" {
		t.Errorf("a holds %s, victim %s", w.read("a"), w.read("victim"))
	}
}
