package step

import "github.com/mlxbuild/mlxbuild/internal/cache"

// Dependency is content from outside that a result was made of, as provenance names it: a resource descriptor of in-toto.
type Dependency struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"` // by algorithm: sha256, gitCommit
}

// Described is a Source that says itself where its content comes from: a Hub repository at a commit, with the SHA-256 of each file. Of any other source provenance names the digest of its tree, and its
// files by the listing that lies in the cache under that digest.
type Described interface {
	Dependencies(c *cache.Cache) []Dependency
}
