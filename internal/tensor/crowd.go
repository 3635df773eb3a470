package tensor

import "time"

// crowd is how many workers of a pool take part where other programs use the processors, too. A worker whose processor the system gives to somebody else, for milliseconds, holds up all others each time. So where much of the time goes by
// with waiting for such workers there is one less, and one more is tried after a while.
//
// Beside one busy loop on two cores, two workers decoded SmolLM2 at 0.7 of the speed of one, who has the other core for itself; with this it is 0.87, over 400 tokens, most of the rest being the tries of the first seconds. Beside two
// busy loops, where nobody has a core for itself, it is the speed of one, and 0.93 of what it was.
type crowd struct {
	most, active int
	begun, last  time.Time     // of what is being judged: when it began, and when a wait ended last
	lost         time.Duration // since it began, waiting for others
	changed      time.Time     // when the number of workers was
	patience     time.Duration // until one more is tried
}

const (
	judged       = 20 * time.Millisecond // is the least that is judged: some turns of other programs
	apart        = 2 * judged            // waits that are so far from each other have nothing to do with each other
	probation    = time.Second           // after a change fewer waits are borne
	patienceMin  = 100 * time.Millisecond
	patienceMost = 2 * time.Second
)

func newCrowd(workers int) crowd { return crowd{most: workers, active: workers, patience: patienceMin} }

// grow tries one more after a while.
func (c *crowd) grow(now time.Time) {
	if c.active < c.most && now.Sub(c.changed) >= c.patience {
		c.active++
		c.changed, c.begun, c.lost = now, now, 0
	}
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
	c.active--
	if now.Sub(c.changed) > patienceMost {
		c.patience = patienceMin
	} else {
		c.patience = min(2*c.patience, patienceMost)
	}
	c.changed = now
}
