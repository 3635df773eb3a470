package tensor

import "errors"

// Arena is the memory that matrices are laid out in, one behind the other: matrices that are smaller than a large page share one, and a processor that reads ahead reads the next matrix. It is used by one goroutine.
type Arena struct {
	// Laid, unless it is nil, is told of each matrix that has been laid out: the bytes that it was made from are read again only where somebody asks for its rows.
	Laid func(m *Matrix)
	// Budget that what is taken counts in.
	Budget *Budget

	chunks [][]byte
	free   []byte // of the last chunk
}

// arenaChunk is what an arena takes from the system at a time. What is not used of it is never touched, and takes no memory.
const arenaChunk = 64 << 20

var errNoRoom = errors.New("the budget leaves no room for it")

// take returns zeroed memory that begins with a cache line.
func (a *Arena) take(n int) ([]byte, error) {
	size := padded(n, 64)
	if !a.Budget.takeSpare(int64(size)) {
		return nil, errNoRoom
	}
	if size > len(a.free) {
		chunk, err := allocate(max(size, arenaChunk))
		if err != nil {
			a.Budget.give(int64(size))
			return nil, err
		}
		a.chunks, a.free = append(a.chunks, chunk), chunk
	}
	out := a.free[:n:n]
	a.free = a.free[size:]
	return out, nil
}

// Release gives all of it back. Matrices that were laid out in it must not be multiplied with any more.
func (a *Arena) Release() error {
	var errs []error
	for _, c := range a.chunks {
		errs = append(errs, release(c))
	}
	a.chunks, a.free = nil, nil
	return errors.Join(errs...)
}
