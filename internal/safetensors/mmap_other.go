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

// Close frees the memory; calling it again does nothing.
func (m *Mapping) Close() error {
	m.data = nil
	return nil
}
