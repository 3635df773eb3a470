// Package bandwidth finds how fast this machine reads memory: the limit of a program that has to read all weights of a model for every token.
package bandwidth

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cpu"
)

// block is what a step of the loops reads.
const block = 256

// fold is the loop of the level in use.
var fold = foldOf(cpu.Best())

// passes of a reading; the fastest counts, which nobody disturbed.
const passes = 3

// Memory is more than the processor's caches hold, a part for each thread, in large pages where the system has them.
type Memory struct {
	parts [][]byte
	want  []uint64 // what each part folds to
}

// New takes memory for so many threads. All of it is written, because pages that were not are all the same one.
func New(threads, bytesEach int) (*Memory, error) {
	m := &Memory{}
	for i := range threads {
		part, err := allocate(bytesEach / block * block)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		for at := 0; at < len(part); at += 8 {
			binary.LittleEndian.PutUint64(part[at:], uint64(at*(i+1)))
		}
		m.parts, m.want = append(m.parts, part), append(m.want, foldPlain(part))
	}
	return m, nil
}

// Bytes of all parts.
func (m *Memory) Bytes() int64 { return int64(len(m.parts) * len(m.parts[0])) }

// Read reads all parts at once, each in a thread, and returns the bytes a second of the fastest pass. That every byte was read is known by what was made of them.
func (m *Memory) Read() (rate float64, err error) {
	for range passes {
		start := time.Now()
		found := make([]uint64, len(m.parts))
		var all sync.WaitGroup
		for i, part := range m.parts {
			all.Go(func() { found[i] = fold(part) })
		}
		all.Wait()
		rate = max(rate, float64(m.Bytes())/time.Since(start).Seconds())
		for i, word := range found {
			if word != m.want[i] {
				return 0, errors.New("memory was not read right")
			}
		}
	}
	return rate, nil
}

// Close gives the memory back.
func (m *Memory) Close() (err error) {
	for _, part := range m.parts {
		err = errors.Join(err, release(part))
	}
	m.parts = nil
	return err
}

// foldPlain is what all loops compute of whole blocks: the exclusive or of their words.
func foldPlain(b []byte) (word uint64) {
	for ; len(b) >= block; b = b[block:] {
		for at := 0; at < block; at += 8 {
			word ^= binary.LittleEndian.Uint64(b[at:])
		}
	}
	return word
}

// folder is a loop in assembly that takes whole blocks.
func folder(loop func(src *byte, blocks int) uint64) func([]byte) uint64 {
	return func(b []byte) uint64 {
		if len(b) < block {
			return 0
		}
		return loop(&b[0], len(b)/block)
	}
}
