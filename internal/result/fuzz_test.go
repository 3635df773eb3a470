package result_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/result"
)

// Whatever a results file holds, what is read of it is written and read again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":1,"kind":"generate","name":"g","target":"m/q4","key":"k","seconds":0.5,"machine":"linux/amd64","value":{"a":[1,2]}}` + "\n" + `{"schema":2,"x":1}` + "\n"))
	path := filepath.Join(f.TempDir(), "results.jsonl")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		lines, err := result.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for _, l := range lines {
			line, err := l.Encode()
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(out, bytes.TrimSpace(line)...), '\n')
		}
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
		if again, err := result.Read(path); err != nil || len(again) != len(lines) {
			t.Fatalf("%d lines became %d: %v", len(lines), len(again), err)
		}
	})
}
