package tensor

import "fmt"

// Budget is the memory that laid out matrices, keys and values may take from the system, together. A system hands out more than there is, and ends the process that uses it: what does not fit has to be known before. It is used
// by one goroutine; nil has no bounds.
type Budget struct{ whole, left int64 }

// NewBudget has this many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{bytes, bytes} }

// MemoryError says that a budget does not allow something.
type MemoryError struct {
	What        string
	Needs, Left int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("%s take %.1f MB more, and of the memory that this process may have %.1f MB are left", e.What, float64(e.Needs)/1e6, float64(e.Left)/1e6)
}

// Hint says what to do.
func (*MemoryError) Hint() string {
	return "make the text shorter, give the process more memory, or quantize the model to fewer bits"
}

// Take bytes for what has to be there.
func (b *Budget) Take(what string, bytes int64) error {
	if b == nil {
		return nil
	}
	if bytes > b.left {
		return &MemoryError{what, bytes, b.left}
	}
	b.left -= bytes
	return nil
}

// takeSpare takes bytes for what makes things faster, and leaves a quarter of the whole for what has to be there.
func (b *Budget) takeSpare(bytes int64) bool {
	if b == nil {
		return true
	}
	if bytes > b.left-b.whole/4 {
		return false
	}
	b.left -= bytes
	return true
}

func (b *Budget) give(bytes int64) {
	if b != nil {
		b.left += bytes
	}
}
