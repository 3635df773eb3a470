package executor

import (
	"crypto/sha256"
	"hash"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

// Fingerprint is a digest of names and metadata of everything in a folder. It reads no file: equal fingerprints mean that nothing was touched.
func Fingerprint(dir string) (cache.Digest, error) {
	h := sha256.New()
	err := printFolder(h, dir, "")
	return cache.Digest(h.Sum(nil)), err
}

// printEntry writes one file's name and metadata.
func printEntry(h hash.Hash, rel string, key cache.Digest) {
	h.Write([]byte(rel))
	h.Write([]byte{0})
	h.Write(key[:])
}
