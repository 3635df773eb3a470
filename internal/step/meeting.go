package step

import "sync"

// Seat is a step's place in a meeting: steps of one pass (see Step.Pass) wait there for one another, to share what they read. Everybody with a seat joins or leaves, once; who comes later is alone.
type Seat struct {
	meeting *meeting
	taken   sync.Once
}

type meeting struct {
	mu      sync.Mutex
	missing int // seats whose step may still come
	brought []any
	begun   chan struct{}
}

// NewMeeting gives the seats of a meeting of n steps.
func NewMeeting(n int) []*Seat {
	m := &meeting{missing: n, begun: make(chan struct{})}
	seats := make([]*Seat, n)
	for i := range seats {
		seats[i] = &Seat{meeting: m}
	}
	return seats
}

// Join brings something and waits until no step is missing any more. It returns what all have brought, the same to each, in the order in which they came. A step without a seat is alone.
func (s *Seat) Join(mine any) []any {
	joined := false
	if s != nil {
		s.taken.Do(func() {
			s.meeting.settle(mine)
			joined = true
		})
	}
	if !joined {
		return []any{mine}
	}
	<-s.meeting.begun
	return s.meeting.brought
}

// Leave says that the others need not wait for this step.
func (s *Seat) Leave() {
	if s != nil {
		s.taken.Do(func() { s.meeting.settle() })
	}
}

// settle counts one step less that may come.
func (m *meeting) settle(brought ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.brought = append(m.brought, brought...)
	if m.missing--; m.missing == 0 {
		close(m.begun)
	}
}
