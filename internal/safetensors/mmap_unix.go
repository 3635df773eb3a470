//go:build unix

package safetensors

import (
	"os"

	"golang.org/x/sys/unix"
)

// Mapping is a file read in place.
type Mapping struct{ data []byte }

// Map maps a file for reading. The file must not be cut while it is mapped.
func Map(path string) (*Mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 || !info.Mode().IsRegular() {
		return nil, &FormatError{path, "it is empty, or not a file"}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	return &Mapping{data}, nil
}

// Written maps a file that is being written, as it will be: only what was written may be looked at. nil when it cannot be mapped.
func Written(f *os.File, size int64) *Mapping {
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	return &Mapping{data}
}

// Bytes of the file, valid until Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close ends the mapping; calling it again, or for nil, does nothing.
func (m *Mapping) Close() error {
	if m == nil || m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}

// InPlace maps a file that is read part by part; nil when it cannot be mapped, or has not so many bytes any more: reading it says why.
func InPlace(path string, size int64) *Mapping {
	m, err := Map(path)
	if err != nil {
		return nil
	}
	if int64(len(m.data)) != size {
		m.Close()
		return nil
	}
	return m
}

// Part is what lies from begin to end. The disk is asked for all of it at once. Reading it is for Faults, and it has to be released.
func (m *Mapping) Part(begin, end int64) []byte {
	first := begin &^ int64(os.Getpagesize()-1)
	_ = unix.Madvise(m.data[first:end], unix.MADV_WILLNEED) // a hint
	populate(m.data[first:end])
	return m.data[begin:end:end]
}

// Release lets go of a part's memory, so that no more than what is looked at counts as this program's: of its pages all but the last, in which another part may begin. The result is how many bytes
// that was; for nil it is 0.
func (m *Mapping) Release(begin, end int64) int64 {
	if m == nil {
		return 0
	}
	page := int64(os.Getpagesize() - 1)
	if end < int64(len(m.data)) {
		end &^= page
	}
	if begin &^= page; begin >= end || unix.Madvise(m.data[begin:end], unix.MADV_DONTNEED) != nil {
		return 0
	}
	return end - begin
}
