package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"os"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// Hasher hashes the tensors of a weight file while it streams by, from its first byte to its last, so that its listing is known when it has arrived. It never fails: what it cannot make sense of has
// no listing, and is hashed, or refused, by who opens it.
type Hasher struct {
	size   int64  // of the file
	head   []byte // until the header is whole
	header *safetensors.Header
	sum    hash.Hash
	left   int64 // bytes of the tensor that is being hashed
	sums   []cache.Digest
	lost   bool
}

// NewHasher of a file of so many bytes.
func NewHasher(size int64) *Hasher { return &Hasher{size: size, sum: sha256.New()} }

// Write takes the next bytes.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	if h.header == nil && !h.lost {
		p = h.takeHeader(p)
	}
	for len(p) > 0 && h.header != nil && len(h.sums) < len(h.header.Tensors) {
		part := p[:min(h.left, int64(len(p)))]
		h.sum.Write(part)
		h.left -= int64(len(part))
		p = p[len(part):]
		h.turn()
	}
	return n, nil
}

// Lost says that what was written is not the content of the file, because it was thrown away on the way: there is no listing.
func (h *Hasher) Lost() { h.lost, h.head, h.header, h.sums = true, nil, nil, nil }

// takeHeader collects the header and returns what stands behind it.
func (h *Hasher) takeHeader(p []byte) []byte {
	h.head = append(h.head, p...)
	if len(h.head) < 8 {
		return nil
	}
	length := binary.LittleEndian.Uint64(h.head)
	if length <= safetensors.MaxHeader && uint64(len(h.head)) < 8+length {
		return nil
	}
	header, err := safetensors.ParseHeader(bytes.NewReader(h.head), h.size)
	if err != nil {
		h.lost, h.head = true, nil
		return nil
	}
	rest := h.head[8+length:]
	h.header, h.head = header, nil
	if len(header.Tensors) > 0 {
		h.left = header.Tensors[0].Bytes()
	}
	h.turn()
	return rest
}

// turn finishes tensors that have no bytes left. They lie without gaps, in the order of the header's list.
func (h *Hasher) turn() {
	for len(h.sums) < len(h.header.Tensors) && h.left == 0 {
		h.sums = append(h.sums, cache.Digest(h.sum.Sum(nil)))
		h.sum.Reset()
		if len(h.sums) < len(h.header.Tensors) {
			h.left = h.header.Tensors[len(h.sums)].Bytes()
		}
	}
}

// Remember keeps the listing of the file that has arrived at path. Its content must be proved.
func (h *Hasher) Remember(c *cache.Cache, path string) {
	if h.header == nil || len(h.sums) != len(h.header.Tensors) {
		return
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != h.size {
		return
	}
	if d, err := c.AddBytes([]byte(listing(h.header, h.sums))); err == nil {
		c.SetMemo(listingMemo(info), d)
	}
}
