package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256. The zero Digest stands for "not known".
type Digest [sha256.Size]byte

// SumBytes is the digest of b.
func SumBytes(b []byte) Digest { return sha256.Sum256(b) }

// String is the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is enough of the digest for a person to tell two apart.
func (d Digest) Short() string { return d.String()[:12] }

// ParseDigest reads 64 hexadecimal digits in lower case.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return Digest{}, fmt.Errorf("%q is not a SHA-256 of 64 hexadecimal digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil || d.String() != s {
		return Digest{}, fmt.Errorf("%q is not a SHA-256 of 64 hexadecimal digits", s)
	}
	return d, nil
}

// MarshalText is String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDigest(string(text))
	return err
}
