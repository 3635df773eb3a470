package convert

import (
	"fmt"
	"sort"
	"sync"
)

// warnings are what is told of tensors that were converted all the same: for each the first place, whatever the order in which workers came to it.
type warnings struct {
	mu sync.Mutex
	by map[int]warning // by the tensor's index
}

// warning is a weight that is not a finite number, or no longer is one.
type warning struct {
	row, col int64
	overflow bool
}

func newWarnings() *warnings { return &warnings{by: map[int]warning{}} }

func (w *warnings) add(tensor int, x warning) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, ok := w.by[tensor]; !ok || x.row < old.row {
		w.by[tensor] = x
	}
}

// of reports whether there is one of a tensor.
func (w *warnings) of(tensor int) bool {
	_, ok := w.by[tensor]
	return ok
}

func (w *warnings) tell(p *Plan, say func(string)) {
	if say == nil {
		return
	}
	var tensors []int
	for i := range w.by {
		tensors = append(tensors, i)
	}
	sort.Ints(tensors)
	for _, i := range tensors {
		x, t := w.by[i], p.Tensors[i]
		what := "has a weight that is not a finite number"
		if x.overflow {
			what = "has a weight that is too large for " + t.DType + " and became infinite"
		}
		say(fmt.Sprintf("tensor %s %s, in row %d, column %d", t.Param, what, x.row, x.col))
	}
}
