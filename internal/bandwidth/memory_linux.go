package bandwidth

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// allocate returns memory in large pages, where the system grants them.
func allocate(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("there is no memory for %d bytes: %w", n, err)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a wish
	return b, nil
}

func release(b []byte) error { return unix.Munmap(b) }
