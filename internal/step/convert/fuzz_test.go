package convert_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// Whatever the manifest of a folder says, verifying ends with problems: a folder of which it says anything has files.
func FuzzManifest(f *testing.F) {
	digest := strings.Repeat("ab", 32)
	f.Add([]byte(`{"format":1,"source":[{"path":"config.json","size":1,"digest":"` + digest + `"}],"dtype":"auto","quantization":{"rules":{"bits":4},"profile":"p"},"code":["quant/1"],"repairs":[],` +
		`"tensors":{"a":{"dtype":"F32","shape":[1,2],"from":["a"],"op":"copy"}},"files":[{"name":"config.json","sha256":"` + digest + `"}]}`))
	f.Add([]byte(`{"format":1,"files":[{"name":"../../etc/passwd","sha256":"` + digest + `"}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, convert.ManifestName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if problems := convert.VerifyFolder(context.Background(), dir); len(problems) == 0 {
			t.Error("a folder without weights is right")
		}
	})
}
