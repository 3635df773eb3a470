package tensor

import "time"

// crowd is how many workers of a pool take part where other programs use the processors, too. A worker whose processor the system gives to somebody else, for milliseconds, holds up all others each time. So where much of the time goes by
// with waiting for such workers there is one less, and one more is tried after a while.
//
// 400 tokens of SmolLM2 on two cores, one of which runs a busy loop, come at 0.87 of the speed of one worker, which has the other core for itself, and at 0.7 without this; the rest are the tries of the first seconds. Beside two
// busy loops, where nobody has a core for itself, it is 0.97 with this and 1.04 without.
type crowd struct {
	most, active int
	begun, last  time.Time     // of what is being judged: when it began, and when a wait ended last
	lost         time.Duration // since it began, waiting for others
	changed      time.Time     // when the number of workers was
	patience     time.Duration // until one more is tried
	trying       bool          // the last change was for more
}

const (
	judged       = 20 * time.Millisecond // is the least that is judged: some turns of other programs
	apart        = 2 * judged            // waits that are so far from each other have nothing to do with each other
	probation    = time.Second           // after a change fewer waits are borne
	patienceMin  = 100 * time.Millisecond
	patienceMost = 2 * time.Second
)

func newCrowd(workers int) crowd { return crowd{most: workers, active: workers, patience: patienceMin} }

// grow tries one more after a while: a short one where the last one was found useful.
func (c *crowd) grow(now time.Time) {
	if now.Sub(c.changed) < c.patience {
		return
	}
	if c.trying {
		c.patience = patienceMin
	}
	c.active++
	c.changed, c.begun, c.lost, c.trying = now, now, 0, true
}

// waited tells of a wait that has ended now.
func (c *crowd) waited(d time.Duration, now time.Time) {
	alone := now.Add(-d).Sub(c.last) > apart
	c.last = now
	if alone {
		c.begun, c.lost = now.Add(-d), d
		return
	}
	c.lost += d
	elapsed := now.Sub(c.begun)
	if elapsed < judged {
		return
	}
	if c.active > 1 && c.lost > c.bearable(elapsed, now) {
		c.shrink(now)
	}
	c.begun, c.lost = now, 0
}

func (c *crowd) bearable(elapsed time.Duration, now time.Time) time.Duration {
	if now.Sub(c.changed) < probation {
		return elapsed / 10
	}
	return elapsed / 4
}

// shrink does without one, for longer each time that one more was tried in vain.
func (c *crowd) shrink(now time.Time) {
	switch held := now.Sub(c.changed); {
	case held > patienceMost:
		c.patience = patienceMin
	case c.trying:
		c.patience = min(2*c.patience, patienceMost)
	}
	c.active--
	c.changed, c.trying = now, false
}
