package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCommitted holds the files in the tree to what the generator writes.
func TestCommitted(t *testing.T) {
	for _, f := range files() {
		for path, want := range f.outputs() {
			got, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(path)))
			if err != nil {
				t.Error(err)
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s is not what the generator writes: go run ./internal/asmgen", path)
			}
		}
	}
}
