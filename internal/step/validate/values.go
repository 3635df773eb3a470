package validate

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"os"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// rows is a file of float32 vectors being written, little-endian, and hashed on the way.
type rows struct {
	name string
	file *os.File
	out  *bufio.Writer
	sum  hash.Hash
	size int64
	buf  []byte
}

func createRows(e *step.Env, name string) (*rows, error) {
	f, err := os.Create(e.Stage.Path(name))
	if err != nil {
		return nil, err
	}
	r := &rows{name: name, file: f, sum: sha256.New()}
	r.out = bufio.NewWriterSize(io.MultiWriter(f, r.sum), 1<<20)
	return r, nil
}

func (r *rows) write(values []float32) error {
	if need := 4 * len(values); cap(r.buf) < need {
		r.buf = make([]byte, need)
	}
	b := r.buf[:4*len(values)]
	for i, v := range values {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	r.size += int64(len(b))
	_, err := r.out.Write(b)
	return err
}

// close ends the file. It may be called again, for nothing.
func (r *rows) close() (step.File, error) {
	if r.file == nil {
		return step.File{}, os.ErrClosed
	}
	err := r.out.Flush()
	if e := r.file.Close(); err == nil {
		err = e
	}
	r.file = nil
	return step.File{Path: r.name, Digest: cache.Digest(r.sum.Sum(nil)), Size: r.size}, err
}

// values reads such a file, vector by vector.
type values struct {
	in   *bufio.Reader
	file *os.File
	buf  []byte
}

// openValues opens a file that must hold exactly so many values.
func openValues(in step.Input, name string, count int64) (*values, error) {
	f, err := os.Open(in.Files[name])
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", name, in.Name, err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != 4*count {
		err = fmt.Errorf("%s of %s has %d bytes, not %d", name, in.Name, info.Size(), 4*count)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &values{in: bufio.NewReaderSize(f, 1<<20), file: f}, nil
}

func (v *values) read(dst []float32) error {
	if need := 4 * len(dst); cap(v.buf) < need {
		v.buf = make([]byte, need)
	}
	b := v.buf[:4*len(dst)]
	if _, err := io.ReadFull(v.in, b); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return nil
}

func (v *values) close() { v.file.Close() }
