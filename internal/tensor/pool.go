package tensor

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Pool is a fixed set of workers, of which the caller of Run is number 0. A step of a model is some hundred short parallel pieces, so workers wait for the next one by spinning for
// some microseconds before they go to sleep: a channel for each piece would cost more than the pieces.
type Pool struct {
	workers int
	work    func(worker int) // of the current Run; written before turn moves

	turn    atomic.Uint32 // moves when there is work
	pending atomic.Int32  // workers that have not finished
	asleep  []atomic.Bool // by worker; who clears it must send, or not wait
	wake    []chan struct{}
	stopped atomic.Bool
	done    sync.WaitGroup
}

// spins is how often a waiting worker looks before it sleeps: some ten microseconds.
const spins = 20000

// NewPool starts workers-1 goroutines; Close ends them.
func NewPool(workers int) *Pool {
	p := &Pool{workers: max(workers, 1)}
	p.asleep = make([]atomic.Bool, p.workers)
	p.wake = make([]chan struct{}, p.workers)
	for w := range p.workers {
		p.wake[w] = make(chan struct{}, 1)
	}
	for w := 1; w < p.workers; w++ {
		p.done.Add(1)
		go p.serve(w)
	}
	return p
}

// Workers is the number of workers, the caller of Run included.
func (p *Pool) Workers() int { return p.workers }

// Run calls work once for each worker, at the same time, and returns when all have returned. It allocates nothing. One Run at a time.
func (p *Pool) Run(work func(worker int)) {
	if p.workers == 1 {
		work(0)
		return
	}
	p.work = work
	p.pending.Store(int32(p.workers - 1))
	p.turn.Add(1)
	for w := 1; w < p.workers; w++ {
		p.rouse(w)
	}
	work(0)
	p.await(0, func() bool { return p.pending.Load() == 0 })
}

// Close ends the workers. It must not be called during a Run, nor twice.
func (p *Pool) Close() {
	p.stopped.Store(true)
	p.turn.Add(1)
	for w := 1; w < p.workers; w++ {
		p.rouse(w)
	}
	p.done.Wait()
}

func (p *Pool) serve(w int) {
	defer p.done.Done()
	seen := uint32(0)
	moved := func() bool { return p.turn.Load() != seen }
	for {
		p.await(w, moved)
		seen++
		if p.stopped.Load() {
			return
		}
		p.work(w)
		if p.pending.Add(-1) == 0 {
			p.rouse(0)
		}
	}
}

// await returns once ready is true: it spins, then sleeps until roused.
func (p *Pool) await(w int, ready func() bool) {
	for range spins {
		if ready() {
			return
		}
	}
	runtime.Gosched()
	for !ready() {
		p.asleep[w].Store(true)
		if ready() && p.asleep[w].CompareAndSwap(true, false) {
			return
		}
		<-p.wake[w] // whoever made it ready, or cleared the flag, sends
	}
}

// rouse wakes a worker that sleeps.
func (p *Pool) rouse(w int) {
	if p.asleep[w].CompareAndSwap(true, false) {
		p.wake[w] <- struct{}{}
	}
}

// Share is worker's part of n things, contiguous and in multiples of unit but for the last: from lo to before hi. It depends on nothing else.
func (p *Pool) Share(worker, n, unit int) (lo, hi int) {
	units := (n + unit - 1) / unit
	lo = units * worker / p.workers * unit
	hi = units * (worker + 1) / p.workers * unit
	return min(lo, n), min(hi, n)
}
