//go:build !unix

package safetensors

import "os"

// Mapping is a file read into memory, where files are not mapped.
type Mapping struct{ data []byte }

// Map reads a file.
func Map(path string) (*Mapping, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, &FormatError{path, "it is empty"}
	}
	return &Mapping{data}, nil
}

// Bytes of the file, valid until Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close frees the memory; calling it again, or for nil, does nothing.
func (m *Mapping) Close() error {
	if m != nil {
		m.data = nil
	}
	return nil
}

// InPlace maps nothing here: files that are read part by part are read plainly.
func InPlace(string, int64) *Mapping { return nil }

// Written maps nothing here either.
func Written(*os.File, int64) *Mapping { return nil }

// Part is what lies from begin to end.
func (m *Mapping) Part(begin, end int64) []byte { return m.data[begin:end:end] }

// Release of a part: it is memory until Close.
func (m *Mapping) Release(begin, end int64) int64 { return 0 }
