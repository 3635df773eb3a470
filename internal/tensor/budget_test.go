package tensor

import (
	"errors"
	"testing"
)

func TestBudgetOfKeysAndValues(t *testing.T) {
	shape := KVShape{Layers: 2, Heads: 1, HeadDim: 64, Type: KVFloat16}
	budget := NewBudget(3*shape.PageBytes() + 1)
	kv, other := NewKV(shape), NewKV(shape)
	kv.Budget, other.Budget = budget, budget
	grow := func(kv *KV, positions int, fits bool) {
		t.Helper()
		err := kv.Grow(positions)
		var e *MemoryError
		if fits && err != nil || !fits && (!errors.As(err, &e) || e.Needs != int64((positions+PagePositions-1)/PagePositions)*shape.PageBytes()-kv.Bytes()) {
			t.Fatalf("%d positions: %v", positions, err)
		}
	}
	grow(kv, 1, true)
	grow(kv, PagePositions, true)
	grow(other, 3*PagePositions, false)
	grow(other, 2*PagePositions, true)
	grow(kv, PagePositions+1, false)
	if err := other.Release(); err != nil {
		t.Fatal(err)
	}
	grow(kv, 3*PagePositions, true)
	grow(kv, 3*PagePositions+1, false)
	if err := kv.Release(); err != nil || budget.left != budget.whole {
		t.Errorf("%d of %d bytes are left in the end, %v", budget.left, budget.whole, err)
	}
}

func TestBudgetOfArena(t *testing.T) {
	a := Arena{Budget: NewBudget(1000)}
	defer a.Release()
	for n, fits := range map[int]bool{751: false, 705: false, 1 << 40: false} { // in lines of 64 bytes, with a quarter left
		if _, err := a.take(n); (err == nil) != fits {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := a.take(700); err != nil {
		t.Error(err)
	}
	if _, err := a.take(64); err == nil {
		t.Error("a quarter is not left")
	}
	if err := a.Budget.Take("buffers", 296); err != nil || a.Budget.Take("one more", 1) == nil {
		t.Errorf("%v, and %d bytes are left", err, a.Budget.left)
	}
}
