package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// memo is one file of facts that can be found again: stat tuple -> content digest, and what its users put into it. It is read whole and searched in place, so that a build
// with nothing to do pays for one read and no map. The file is: magic, then entries of 68 bytes sorted by key (key 32, value 32, day of last use u32 LE), then the
// SHA-256 of all that. Damaged in any way, it is empty; so it is not
// synced either.
type memo struct {
	path string
	mu   sync.Mutex
	read bool
	data []byte            // the entries, as in the file
	news map[Digest]Digest // what this process has added
	used map[Digest]bool   // old entries that it used and whose day should be renewed
}

const (
	memoMagic = "mlxbuild-stat 1\n"
	entrySize = 32 + 32 + 4
	memoDays  = 90      // entries that nobody used for so long are dropped
	renewDays = 7       // the day of an entry is renewed when it is this old: a no-op build writes nothing
	memoMax   = 1 << 30 // bytes; more is not ours
)

func today() uint32 { return uint32(time.Now().Unix() / 86400) }

// Memo looks a fact up.
func (c *Cache) Memo(k Digest) (Digest, bool) { return c.memo.get(k) }

// SetMemo remembers a fact. A fact that is lost must only cost time.
func (c *Cache) SetMemo(k, v Digest) { c.memo.set(k, v) }

func (m *memo) get(k Digest) (Digest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	if v, ok := m.news[k]; ok {
		return v, v != (Digest{})
	}
	i := m.find(k)
	if i < 0 {
		return Digest{}, false
	}
	e := m.data[i*entrySize : (i+1)*entrySize]
	if day := binary.LittleEndian.Uint32(e[64:]); day+renewDays < today() {
		m.used[k] = true
	}
	return Digest(e[32:64]), true
}

func (m *memo) set(k, v Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	if i := m.find(k); i >= 0 && bytes.Equal(m.data[i*entrySize+32:i*entrySize+64], v[:]) {
		delete(m.news, k)
		return
	}
	m.news[k] = v
}

// find is the place of a key among the entries, or -1.
func (m *memo) find(k Digest) int {
	n := len(m.data) / entrySize
	i := sort.Search(n, func(i int) bool { return bytes.Compare(m.data[i*entrySize:i*entrySize+32], k[:]) >= 0 })
	if i < n && bytes.Equal(m.data[i*entrySize:i*entrySize+32], k[:]) {
		return i
	}
	return -1
}

func (m *memo) load() {
	if m.read {
		return
	}
	m.read, m.news, m.used = true, map[Digest]Digest{}, map[Digest]bool{}
	m.data = readMemo(m.path)
}

func readMemo(path string) []byte {
	raw, err := readSmall(path, memoMax)
	if err != nil {
		return nil
	}
	return parseMemo(raw)
}

// parseMemo returns the entries of a memo file, nil when anything is wrong with it.
func parseMemo(raw []byte) []byte {
	body, ok := bytes.CutPrefix(raw, []byte(memoMagic))
	if !ok || len(body) < sha256.Size || (len(body)-sha256.Size)%entrySize != 0 {
		return nil
	}
	sum := sha256.Sum256(raw[:len(raw)-sha256.Size])
	if !bytes.Equal(sum[:], raw[len(raw)-sha256.Size:]) {
		return nil
	}
	return body[:len(body)-sha256.Size]
}

// save merges what this process has learned into the file. Another process may have saved since: the newest value of a key wins, either is right.
func (m *memo) save(c *Cache) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.news) == 0 && len(m.used) == 0 {
		return nil
	}
	release, err := c.Lock(context.Background(), SumBytes([]byte("stat")), func(string) {})
	if err != nil {
		return err
	}
	defer release()
	all := map[Digest][]byte{}
	old := readMemo(m.path)
	for i := 0; i+entrySize <= len(old); i += entrySize {
		e := old[i : i+entrySize]
		if binary.LittleEndian.Uint32(e[64:])+memoDays >= today() || m.used[Digest(e[:32])] {
			all[Digest(e[:32])] = e
		}
	}
	for k := range m.used {
		if e := all[k]; e != nil {
			all[k] = entry(k, Digest(e[32:64]))
		}
	}
	for k, v := range m.news {
		all[k] = entry(k, v)
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.WriteLoose(m.path, formatMemo(all), 0o644); err != nil {
		return err
	}
	m.read = false
	return nil
}

func entry(k, v Digest) []byte {
	e := append(append(make([]byte, 0, entrySize), k[:]...), v[:]...)
	return binary.LittleEndian.AppendUint32(e, today())
}

func formatMemo(all map[Digest][]byte) []byte {
	keys := make([]Digest, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return bytes.Compare(keys[i][:], keys[j][:]) < 0 })
	out := append(make([]byte, 0, len(memoMagic)+len(all)*entrySize+sha256.Size), memoMagic...)
	for _, k := range keys {
		out = append(out, all[k]...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}
