package tensor

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestPoolRunsEachWorkerOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, workers := range []int{1, 2, 3, 8} {
		p := NewPool(workers)
		counts := make([]atomic.Int64, workers)
		work := func(w int) { counts[w].Add(1) }
		const rounds = 300
		for i := range rounds {
			if i%100 == 50 {
				time.Sleep(2 * time.Millisecond) // long enough for workers to fall asleep
			}
			p.RunShares(workers, work)
		}
		p.Close()
		for w := range counts {
			if n := counts[w].Load(); n != rounds {
				t.Errorf("worker %d of %d ran %d times, not %d", w, workers, n, rounds)
			}
		}
	}
}

func TestPoolWorksOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := NewPool(4)
	defer p.Close()
	var n atomic.Int64
	for range 50 {
		p.RunShares(4, func(int) { n.Add(1) })
	}
	if n.Load() != 200 {
		t.Errorf("%d pieces of work ran, not 200", n.Load())
	}
}

// TestPoolRunsEachShareOnce also where turns have other numbers of shares than those before.
func TestPoolRunsEachShareOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 5} {
		p := NewPool(workers)
		var counts [MaxShares]atomic.Int64
		work := func(share int) { counts[share].Add(1) }
		var want [MaxShares]int64
		for i := range 3000 {
			shares := []int{workers, 4 * workers, 1, MaxShares, 7}[i%5]
			p.RunShares(shares, work)
			for s := range shares {
				want[s]++
			}
		}
		p.Close()
		for s := range counts {
			if n := counts[s].Load(); n != want[s] {
				t.Errorf("%d workers: share %d ran %d times, not %d", workers, s, n, want[s])
			}
		}
	}
}

func TestPoolAllocatesNothing(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	var n [2]int
	work := func(w int) { n[w]++ }
	if got := testing.AllocsPerRun(100, func() { p.Run(work) }); got != 0 {
		t.Errorf("a run allocates %v times", got)
	}
}

func TestShareCoversEverythingOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7} {
		p := NewPool(workers)
		defer p.Close()
		for n := range 50 {
			for _, unit := range []int{1, 8, 16} {
				at := 0
				for w := range workers {
					lo, hi := p.Share(w, n, unit)
					if lo != at && lo < hi || hi < lo || lo%unit != 0 && lo != n {
						t.Fatalf("worker %d of %d gets %d to %d of %d in units of %d", w, workers, lo, hi, n, unit)
					}
					at = hi
				}
				if at != n {
					t.Fatalf("%d workers share %d of %d", workers, at, n)
				}
			}
		}
	}
}

func BenchmarkPoolRun(b *testing.B) {
	p := NewPool(runtime.GOMAXPROCS(0))
	defer p.Close()
	work := func(int) {}
	for b.Loop() {
		p.Run(work)
	}
}

// TestPoolPanics: what a share panics with reaches the caller of Run, and the pool goes on.
func TestPoolPanics(t *testing.T) {
	for _, workers := range []int{1, 2, 3} {
		p := NewPool(workers)
		for bad := range workers {
			func() {
				defer func() {
					if e := recover(); e != "share" {
						t.Errorf("%d workers: %v", workers, e)
					}
				}()
				p.RunShares(workers, func(share int) {
					if share == bad {
						panic("share")
					}
				})
			}()
			var done atomic.Int32
			p.RunShares(workers, func(int) { done.Add(1) })
			if int(done.Load()) != workers {
				t.Errorf("%d of %d shares after a panic", done.Load(), workers)
			}
		}
		p.Close()
	}
}

// leave makes so many workers take part for an hour.
func (p *Pool) leave(active int) {
	p.crowd.active, p.crowd.changed = active, time.Now().Add(time.Hour)
	p.active.Store(int32(active))
}

// TestPoolWithFewerWorkers: whatever number takes part, a Run has as many shares, each once, and parts of things cover them.
func TestPoolWithFewerWorkers(t *testing.T) {
	p := NewPool(4)
	defer p.Close()
	var counts [4]atomic.Int64
	for round := range 400 {
		active := round/100 + 1
		p.leave(active)
		var covered atomic.Int64
		p.Run(func(share int) {
			counts[share].Add(1)
			lo, hi := p.Share(share, 100, 8)
			covered.Add(int64(hi - lo))
		})
		if covered.Load() != 100 {
			t.Fatalf("%d workers: %d of 100", active, covered.Load())
		}
	}
	for share := range counts {
		if n := counts[share].Load(); n != int64(400-100*share) {
			t.Errorf("share %d ran %d times", share, n)
		}
	}
}
