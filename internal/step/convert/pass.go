package convert

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// pass is one reading of a source for all conversions that are made of it at the same time: a block is read once, and each makes its own of it. One that fails leaves the others to go on.
type pass struct {
	source *source.Folder
	runs   []*run
	inputs []*os.File
	mapped []*safetensors.Mapping // nil for a file that is read
}

// job is one block of rows, and what is made of it.
type job struct {
	block     int
	row, rows int64
	parts     []part
	stretch   *stretch
}

// stretch is some neighbouring blocks, whose source is let go of together.
type stretch struct {
	row, rows int64
	left      atomic.Int64 // blocks that are not done
}

// stretchBlocks is how many blocks a stretch has. Letting go of memory interrupts every core: block by block it took a twentieth of a conversion's processor time (Llama-3.2-1B's shapes, digests known).
const stretchBlocks = 16

// part is a tensor of a conversion. Those of one job have the same sources, and so the same blocks.
type part struct {
	run    *run
	tensor *Tensor
	index  int    // of the tensor in the plan
	from   *found // where it may be copied from, nil = make it
}

// together makes the weights of all conversions that meet at the seat, in one pass for each source. The first of them has it done; each waits until its own are made, or cannot be.
func (r *run) together(ctx context.Context, seat *step.Seat) error {
	p := &pass{source: r.plan.Source}
	for _, other := range seat.Join(r) {
		if other := other.(*run); other.plan.Source == p.source {
			p.runs = append(p.runs, other)
		}
	}
	if p.runs[0] == r {
		go p.do(ctx) // also when this one fails
	}
	select {
	case <-r.passed:
	case <-r.failed: // this is told at once; the others go on
		r.untouched()
	}
	return r.failure()
}

func (p *pass) do(ctx context.Context) {
	var err error
	defer func() {
		if bug := recover(); bug != nil {
			err = fmt.Errorf("BUG: %v\n%s", bug, debug.Stack())
		}
		for i, f := range p.inputs {
			f.Close()
			p.mapped[i].Close()
		}
		for _, r := range p.runs {
			r.fail(err)
			close(r.passed)
		}
	}()
	if err = p.open(); err == nil {
		p.work(ctx)
		err = ctx.Err()
	}
}

func (p *pass) open() error {
	for _, f := range p.source.Weights.Files {
		file, err := os.Open(f.Path)
		if err != nil {
			return err
		}
		p.inputs = append(p.inputs, file)
		p.mapped = append(p.mapped, safetensors.InPlace(f.Path, f.Size))
	}
	return nil
}

// maxWorkers is one more than cores, so that none is idle while a worker waits for its turn to hash or for the disk (Llama-3.2-1B's shapes, two cores, digests known: 8 % of the time).
func maxWorkers() int { return runtime.GOMAXPROCS(0) + 1 }

// work gives the blocks to workers.
func (p *pass) work(ctx context.Context) {
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range maxWorkers() {
		wg.Go(func() {
			k := newWorker(p)
			for j := range jobs {
				k.do(ctx, j)
			}
		})
	}
	p.feed(ctx, jobs)
	close(jobs)
	wg.Wait()
}

// feed sends the blocks of all tensors, so that hashing can follow.
func (p *pass) feed(ctx context.Context, jobs chan<- job) {
	for _, parts := range p.tensors() {
		var open []part
		for _, x := range parts {
			if x.run.enter() {
				x.from = x.run.reuse.find(x.index)
				open = append(open, x)
				x.run.leave()
			}
		}
		if len(open) == 0 {
			continue
		}
		t := open[0].tensor
		var last *stretch
		for block := range t.blocks() {
			j := job{block: block, row: int64(block) * t.blockRows(), parts: open}
			j.rows = min(t.blockRows(), t.rows-j.row)
			if block%stretchBlocks == 0 {
				last = &stretch{row: j.row, rows: min(stretchBlocks*t.blockRows(), t.rows-j.row)}
				last.left.Store(min(stretchBlocks, int64(t.blocks()-block)))
			}
			j.stretch = last
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
	}
}

// tensors of all conversions, those with the same sources beside one another: in the order in which their first outputs lie in the first conversion's files, vectors before all others. Where files are made by different
// schemes, matrices come in the same order, but vectors lie behind them or among them, and would be what a file waits for.
func (p *pass) tensors() (all [][]part) {
	at := map[string]int{}
	for _, r := range p.runs {
		for _, i := range r.order() {
			t := &r.plan.Tensors[i]
			key := fmt.Sprintf("%q %d %d", t.From, t.rows, t.cols)
			if _, ok := at[key]; !ok {
				at[key] = len(all)
				all = append(all, nil)
			}
			all[at[key]] = append(all[at[key]], part{run: r, tensor: t, index: i})
		}
	}
	slices.SortStableFunc(all, func(a, b []part) int { return cmp.Compare(min(a[0].tensor.rows, 2), min(b[0].tensor.rows, 2)) })
	return all
}

// order of the tensors by where their first outputs lie.
func (r *run) order() []int {
	order := make([]int, len(r.plan.Tensors))
	first := make([]spot, len(order))
	for i := range order {
		order[i], first[i] = i, r.places[i][0]
		for _, s := range r.places[i] {
			if s.before(first[i]) {
				first[i] = s
			}
		}
	}
	sort.Slice(order, func(i, j int) bool { return first[order[i]].before(first[order[j]]) })
	return order
}
