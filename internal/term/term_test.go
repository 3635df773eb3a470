package term

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// drawn is what stands on the line of the bar.
func drawn(t *Term, b *bytes.Buffer) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(b.String(), "\r")
	return lines[len(lines)-1]
}

// A bar whose bytes stop coming does not go on to show how fast they came, or how long it would take; when they come again it does.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		bar := &Term{w: &b, width: 120, live: true}
		bar.Start(100<<20, "fetching")
		come := func(times int) {
			for range times {
				bar.Add(1 << 20)
				time.Sleep(200 * time.Millisecond)
			}
		}
		time.Sleep(50 * time.Millisecond) // so that bytes never come in the same instant as a tick of the bar, in either order
		come(20)
		if line := drawn(bar, &b); !strings.Contains(line, "5.3 MB/s") || !strings.Contains(line, "[3s:15s]") {
			t.Errorf("while it comes: %q", line)
		}
		time.Sleep(3 * time.Second)
		if line := drawn(bar, &b); !strings.Contains(line, "MB/s") || strings.Contains(line, "5.3 MB/s") {
			t.Errorf("after three seconds: %q", line)
		}
		time.Sleep(5 * time.Second)
		if line := drawn(bar, &b); !strings.Contains(line, "fetching  20%") || strings.Contains(line, "B/s") || strings.Contains(line, "[3") {
			t.Errorf("after eight seconds: %q", line)
		}
		come(40)
		if line := drawn(bar, &b); !strings.Contains(line, "5.2 MB/s") || !strings.Contains(line, "s:") {
			t.Errorf("when it comes again: %q", line)
		}
		bar.Status("something else")
		before := b.Len()
		time.Sleep(5 * time.Second)
		if b.Len() != before {
			t.Errorf("the bar is drawn over a status: %q", b.String()[before:])
		}
		bar.Finish()
		synctest.Wait()
	})
}
