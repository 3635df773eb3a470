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

// Bytes of the file, valid until Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close ends the mapping; calling it again does nothing.
func (m *Mapping) Close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
