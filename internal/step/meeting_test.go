package step

import (
	"slices"
	"sync"
	"testing"
)

// Those that join see one another and nobody else, whatever the others do; who comes again is alone.
func TestMeeting(t *testing.T) {
	seats := NewMeeting(4)
	var together sync.WaitGroup
	seen := make([][]any, 2)
	for i := range seen {
		together.Go(func() { seen[i] = seats[i].Join(i) })
	}
	seats[2].Leave()
	seats[3].Leave()
	seats[3].Leave()
	together.Wait()
	if !slices.Equal(seen[0], seen[1]) || len(seen[0]) != 2 || !slices.Contains(seen[0], any(0)) || !slices.Contains(seen[0], any(1)) {
		t.Errorf("they saw %v and %v", seen[0], seen[1])
	}
	for i, s := range append(seats, nil) {
		s.Leave()
		if alone := s.Join(i); !slices.Equal(alone, []any{i}) {
			t.Errorf("seat %d, too late, meets %v", i, alone)
		}
	}
}
