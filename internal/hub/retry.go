package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// What is worth trying again is tried so often, with pauses of 1, 2, 4 and 8 s, more or less.
const (
	maxTries   = 5
	firstPause = time.Second
	maxPause   = 8 * time.Second
)

// A server may ask for pauses up to maxAsked, the window of the Hub's limits and a little more, and together up to maxTotal.
const (
	maxAsked = 330 * time.Second
	maxTotal = 15 * time.Minute
)

// patience counts the tries of one thing.
type patience struct {
	c      *Client
	failed int
	asked  time.Duration
}

// retry says whether to try again after an error: nil, after the pause that is due, or the error to end with.
func (p *patience) retry(ctx context.Context, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	p.failed++
	if p.failed >= e.tries {
		return err
	}
	pause := min(firstPause<<(p.failed-1), maxPause)
	pause = pause/2 + rand.N(pause) // so that many who failed together do not come back together
	if e.wait > 0 {
		p.asked += e.wait
		if e.wait > maxAsked || p.asked > maxTotal {
			e.What += fmt.Sprintf("; it asks to wait %s", e.wait.Round(time.Second))
			return e
		}
		pause = e.wait
		p.c.options.Note(fmt.Sprintf("the Hub asks for %s of patience (%s)", e.wait.Round(time.Second), e.Class))
	}
	if p.failed == 2 && e.wait == 0 { // once may be chance; a person who waits should know for what
		p.c.options.Note(e.What + "; trying again")
	}
	if err := p.c.options.Sleep(ctx, pause); err != nil {
		if ctx.Err() != nil {
			return ended(ctx) // with our reason, whatever a test's clock says
		}
		return err
	}
	return nil
}

// progress: what came since the last failure is worth a new count.
func (p *patience) progress() { p.failed = 0 }

// try does something until it succeeds or is not worth trying again.
func (c *Client) try(ctx context.Context, f func() error) error {
	p := patience{c: c}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err = p.retry(ctx, err); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// ended is why a context is over: our own reason where there is one, else what everybody expects (a signal's name is no context.Canceled).
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	var own *Error
	var again *startAgain
	if errors.As(cause, &own) || errors.As(cause, &again) || errors.Is(cause, errQuiet) || errors.Is(cause, errYield) {
		return cause
	}
	return ctx.Err()
}
