package tensor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// largePage is the size of a large page of memory.
const largePage = 2 << 20

// allocate returns zeroed memory outside Go's heap, in large pages where the system has them: a walk through all weights for each token, or through all keys and values, then misses the page tables less often. What fills
// large pages begins with one, which the system does for whole numbers of them; what is left over has small pages, so that no more is taken than asked for.
func allocate(n int) ([]byte, error) {
	size, large := n, n
	if n >= largePage {
		size, large = (n+largePage-1)/largePage*largePage, n/largePage*largePage
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("there is no memory for %d bytes: %w", n, err)
	}
	_ = unix.Madvise(b[:large], unix.MADV_HUGEPAGE) // a wish
	return b[:n], nil
}

func release(b []byte) error {
	if b == nil {
		return nil
	}
	return unix.Munmap(b[:cap(b)])
}
