package tensor

import (
	"testing"
	"time"
)

// Times of a crowd: turns of 4 ms, of which the first share is waited for.
func crowded(c *crowd, now time.Time, turns int, wait time.Duration) time.Time {
	for range turns {
		now = now.Add(4 * time.Millisecond)
		if c.active < c.most {
			c.grow(now)
		}
		if wait > 0 && c.active > 1 {
			c.waited(wait, now)
		}
	}
	return now
}

func TestCrowd(t *testing.T) {
	c, now := newCrowd(2), time.Now()
	now = crowded(&c, now, 1000, 700*time.Microsecond)
	if c.active != 2 {
		t.Error("waits of less than a quarter of the time cost a worker")
	}
	c.waited(time.Second, now.Add(2*time.Second))
	if c.active != 2 {
		t.Error("one hiccup cost a worker")
	}
	now = crowded(&c, now.Add(4*time.Second), 20, 2*time.Millisecond)
	if c.active != 1 {
		t.Error("waits of half of the time did not cost a worker")
	}
	both := 0
	for range 5000 { // 20 s
		now = crowded(&c, now, 1, 2*time.Millisecond)
		both += c.active - 1
	}
	if both == 0 || both > 250 {
		t.Errorf("both workers were tried for %d of 5000 turns while the other processor was not free", both)
	}
	now = crowded(&c, now, 1000, 0)
	if c.active != 2 {
		t.Error("the processor is free, and nobody uses it")
	}
	now = crowded(&c, now, 1000, 200*time.Microsecond)
	if c.active != 2 {
		t.Error("few waits cost a worker")
	}
	crowded(&c, now, 20, 2*time.Millisecond)
	if c.patience != patienceMin {
		t.Errorf("after it was well for long the next try comes in %v", c.patience)
	}
}

func TestCrowdOfMany(t *testing.T) {
	c, now := newCrowd(8), time.Now()
	now = crowded(&c, now, 400, 3*time.Millisecond)
	if c.active != 1 {
		t.Errorf("%d workers where all are in the way", c.active)
	}
	now = crowded(&c, now, 800, 0)
	if c.active != 8 {
		t.Errorf("%d of 8 workers on a machine that has been empty for 3 s", c.active)
	}
	for range 20 { // bursts, each of which costs all of them
		now = crowded(&c, now, 100, 3*time.Millisecond)
		now = crowded(&c, now, 800, 0)
	}
	if c.active != 8 {
		t.Errorf("%d of 8 workers 3 s after a burst", c.active)
	}
}
