package tensor

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is a fixed set of workers, of which the caller of Run is number 0. A step of a model is some hundred short parallel pieces, so workers wait for the next one by spinning for
// some microseconds before they go to sleep: a channel for each piece would cost more than the pieces. A worker that the system has not let run yet does not hold up the others, because who is done takes shares that nobody has
// begun; where other programs want the processors for long, fewer workers take part (see crowd).
type Pool struct {
	workers int
	crowd   crowd           // of who calls Run
	work    func(share int) // of the current Run; written before turn moves

	active  atomic.Int32             // workers that take part
	turn    atomic.Uint64            // moves when there is work; the low bits are the number of its shares
	claimed [MaxShares]atomic.Uint64 // by share: the last turn that somebody took it in
	pending atomic.Int32             // shares that are not finished
	asleep  []atomic.Bool            // by worker; who clears it must send, or not wait
	wake    []chan struct{}
	stopped atomic.Bool
	failed  atomic.Pointer[any] // what a share panicked with
	done    sync.WaitGroup
}

// spins is how often a waiting worker looks before it sleeps: some fifty microseconds. With a fifth of that, a worker slept six times a token.
const spins = 100000

// long is how long the caller's own part of a Run may take for waits behind it to be judged: longer ones are for work with many vectors, whose last shares may take as long.
const long = 4 * time.Millisecond

// NewPool starts workers-1 goroutines; Close ends them.
func NewPool(workers int) *Pool {
	workers = min(max(workers, 1), MaxShares)
	p := &Pool{workers: workers, crowd: newCrowd(workers)}
	p.active.Store(int32(workers))
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

// MaxShares is how many shares work can have, and how many workers there can be.
const MaxShares = 1<<shareBits - 1

const shareBits = 10

// Workers is the number of workers, the caller of Run included.
func (p *Pool) Workers() int { return p.workers }

// Active is how many of them take part in the next Run. It changes only when a Run returns.
func (p *Pool) Active() int { return int(p.active.Load()) }

// Run calls work once for each share, as many as there are active workers, several at the same time, and returns when all have returned. It allocates nothing. One Run at a time.
func (p *Pool) Run(work func(share int)) { p.RunShares(p.Active(), work) }

// RunShares is Run with up to MaxShares shares. More than workers make up for a worker that the system takes away for a while, or a core that others use as well.
func (p *Pool) RunShares(shares int, work func(share int)) {
	active := p.Active()
	if active < p.workers {
		defer p.grow()
	}
	if active == 1 {
		for share := range shares {
			work(share)
		}
		return
	}
	begun := time.Now()
	p.work = work
	p.pending.Store(int32(shares))
	turn := (p.turn.Load()>>shareBits+1)<<shareBits | uint64(shares)
	p.turn.Store(turn)
	for w := 1; w < active; w++ {
		p.rouse(w)
	}
	p.takeAll(0, turn)
	if waited := p.await(0, func() bool { return p.pending.Load() == 0 }); waited > 0 {
		now := time.Now()
		if worked := now.Sub(begun) - waited; worked < long && worked < waited { // else it may be that somebody has just begun a share
			p.crowd.waited(waited, now)
			p.active.Store(int32(p.crowd.active))
		}
	}
	if failed := p.failed.Swap(nil); failed != nil {
		panic(*failed)
	}
}

// grow lets one more take part, where it is time for that.
func (p *Pool) grow() {
	p.crowd.grow(time.Now())
	p.active.Store(int32(p.crowd.active))
}

// takeAll does the shares of a turn that nobody has, a worker's own first.
func (p *Pool) takeAll(worker int, turn uint64) {
	shares := int(turn & MaxShares)
	first := shares * worker / p.Active()
	for i := range shares {
		p.take((first+i)%shares, turn)
	}
}

// take does a share unless somebody else has it, or had it in a later turn.
func (p *Pool) take(share int, turn uint64) {
	// who wins here holds up the end of this Run until the share is done, so that p.work stays what it is
	if last := p.claimed[share].Load(); last < turn && p.claimed[share].CompareAndSwap(last, turn) {
		p.do(share)
		if p.pending.Add(-1) == 0 {
			p.rouse(0)
		}
	}
}

// do a share. A panic, such as that of a read where a mapped file has been cut, becomes one of Run's caller.
func (p *Pool) do(share int) {
	defer func() {
		if e := recover(); e != nil {
			failure := e // only this one needs memory of its own
			p.failed.CompareAndSwap(nil, &failure)
		}
	}()
	p.work(share)
}

// Close ends the workers. It must not be called during a Run, nor twice.
func (p *Pool) Close() {
	p.stopped.Store(true)
	p.turn.Add(1 << shareBits)
	for w := 1; w < p.workers; w++ {
		p.rouse(w)
	}
	p.done.Wait()
}

func (p *Pool) serve(w int) {
	defer p.done.Done()
	debug.SetPanicOnFault(true) // weights are mapped files: see do
	seen := uint64(0)
	moved := func() bool { return p.turn.Load() != seen && w < p.Active() || p.stopped.Load() }
	for {
		p.await(w, moved)
		seen = p.turn.Load()
		if p.stopped.Load() {
			return
		}
		p.takeAll(w, seen)
	}
}

// await returns once ready is true: it spins, then sleeps until roused. The result is how long it took beyond spinning.
func (p *Pool) await(w int, ready func() bool) time.Duration {
	for range spins {
		if ready() {
			return 0
		}
	}
	begun := time.Now()
	runtime.Gosched()
	for !ready() {
		p.asleep[w].Store(true)
		if ready() && p.asleep[w].CompareAndSwap(true, false) {
			break
		}
		<-p.wake[w] // whoever made it ready, or cleared the flag, sends
	}
	return time.Since(begun)
}

// rouse wakes a worker that sleeps.
func (p *Pool) rouse(w int) {
	if p.asleep[w].CompareAndSwap(true, false) {
		p.wake[w] <- struct{}{}
	}
}

// Share is a share's part of n things in a Run.
func (p *Pool) Share(share, n, unit int) (lo, hi int) { return Share(share, p.Active(), n, unit) }

// Share is a share's part of n things, contiguous and in multiples of unit but for the last: from lo to before hi. It depends on nothing else.
func Share(share, shares, n, unit int) (lo, hi int) {
	units := (n + unit - 1) / unit
	lo = units * share / shares * unit
	hi = units * (share + 1) / shares * unit
	return min(lo, n), min(hi, n)
}
