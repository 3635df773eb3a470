package executor

import (
	"os"
	"path/filepath"
	"testing"
)

// Whatever lies beside a folder, it is a provenance of this program or none.
func FuzzReadProvenance(f *testing.F) {
	f.Add([]byte(`{"format":1,"target":"m/q4","recipe":"r.yaml","key":"00","tree":"00","origin":{"a":"b"},"placed":"2026-01-02T03:04:05Z","host":"h","mlxbuild":"1"}`))
	files, err := filepath.Glob("../cmd/mlxbuild/testdata/versions/provenance*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d samples: %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	folder := filepath.Join(f.TempDir(), "q4")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(ProvenanceFile(folder), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if p := ReadProvenance(folder); p != nil && p.Format < 1 {
			t.Errorf("format %d is read", p.Format)
		}
	})
}
