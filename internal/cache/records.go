package cache

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// RecordFormat is the version of a record's JSON. Another version is a miss.
const RecordFormat = 1

// Output is a file that a step made.
type Output struct {
	Path   string `json:"path"` // slash-separated
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"` // as in tree digests: 0644
}

// Record says what came of a step with this key.
type Record struct {
	Format          int             `json:"format"`
	Key             Digest          `json:"key"`
	KeyText         string          `json:"key_text"`
	Step            string          `json:"step"`
	Outputs         []Output        `json:"outputs,omitempty"`
	Tree            Digest          `json:"tree"` // what later steps take as input
	Result          json.RawMessage `json:"result,omitempty"`
	Log             string          `json:"log,omitempty"`
	Started         time.Time       `json:"started"`
	Seconds         float64         `json:"seconds"`
	PeakMemoryBytes int64           `json:"peak_memory_bytes,omitempty"`
	Mlxbuild        string          `json:"mlxbuild,omitempty"`
	Machine         string          `json:"machine,omitempty"`
}

const maxRecord = 64 << 20

// Record finds the record of a key. A damaged one, one of another format, and one that is not about this key are misses.
func (c *Cache) Record(key Digest) (*Record, bool) {
	r, what := readRecord(c.path("records", key), key)
	return r, what == ""
}

// newerRecord is said of a record of a later format. It is a miss, and no damage.
const newerRecord = "was made by a newer mlxbuild"

// readRecord says what is wrong, "" when nothing is.
func readRecord(path string, key Digest) (*Record, string) {
	data, err := readSmall(path, maxRecord)
	if err != nil {
		return nil, err.Error()
	}
	body, ok := checked(data)
	if !ok {
		return nil, "is damaged: its checksum does not fit"
	}
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		var head struct {
			Format int `json:"format"`
		}
		if json.Unmarshal(body, &head) == nil && head.Format > RecordFormat { // its other fields may be anything
			return nil, newerRecord
		}
		return nil, "is not a record: " + err.Error()
	}
	switch {
	case r.Format > RecordFormat:
		return nil, newerRecord
	case r.Format != RecordFormat:
		return nil, "has a format that this version does not know"
	case r.Key != key:
		return nil, "is about another key"
	case SumBytes([]byte(r.KeyText)) != key:
		return nil, "has a key text that is not its key's"
	}
	return &r, ""
}

// A record's file has two lines: the JSON document, and the SHA-256 of that line as a JSON string.
func sealed(body []byte) []byte {
	return append(append(body, '\n'), []byte(`"`+SumBytes(body).String()+"\"\n")...)
}

// checked returns the document of a sealed file.
func checked(data []byte) (body []byte, ok bool) {
	i := bytes.IndexByte(data, '\n')
	if i < 0 || !bytes.Equal(sealed(bytes.Clone(data[:i])), data) {
		return nil, false
	}
	return data[:i], true
}

// Complete reports whether all of a record's blobs are there and trusted.
func (c *Cache) Complete(r *Record) bool {
	for _, o := range r.Outputs {
		if _, size, err := c.Blob(o.Digest); err != nil || size != o.Size {
			return false
		}
	}
	return true
}

// Paths are the files that Record and Complete look at.
func (c *Cache) Paths(key Digest, outputs []Output) []string {
	paths := []string{c.path("records", key)}
	for _, o := range outputs {
		paths = append(paths, c.path("blobs", o.Digest))
	}
	return paths
}

// AddRecord writes a record, the last thing of a step: everything it names is there.
func (c *Cache) AddRecord(r *Record) error {
	r.Format = RecordFormat
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := c.path("records", r.Key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return c.full(path, err)
	}
	return c.full(path, atomicfile.Write(path, sealed(data), 0o644))
}

// Records visits every good record until visit returns false.
func (c *Cache) Records(visit func(*Record) bool) error {
	return c.eachFile("records", func(d Digest, path string, _ os.FileInfo) bool {
		r, what := readRecord(path, d)
		return what != "" || visit(r)
	})
}

// eachFile visits the files of blobs/ or records/ whose names are digests.
func (c *Cache) eachFile(sub string, visit func(d Digest, path string, info os.FileInfo) bool) error {
	groups, err := os.ReadDir(filepath.Join(c.dir, sub))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, g := range groups {
		entries, err := os.ReadDir(filepath.Join(c.dir, sub, g.Name()))
		if err != nil {
			continue // a stray file, or a folder that has just gone
		}
		for _, e := range entries {
			d, err := ParseDigest(e.Name())
			if err != nil {
				continue
			}
			info, err := e.Info()
			if err != nil {
				continue
			}
			if !visit(d, filepath.Join(c.dir, sub, g.Name(), e.Name()), info) {
				return nil
			}
		}
	}
	return nil
}
