package hub

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// A journal says which bytes of a partial file are on the disk: data is synced before the journal says so, the journal after. It is a file of two slots, written in turn, each a
// checksum and a record in JSON, padded with blanks: whatever is cut off or flipped, at least one slot is whole, older and still true, or none is and the download starts again.
const (
	slotSize     = 16 << 10
	journalSpans = 256 // as many as surely fit; more are not remembered
	maxETag      = 256
)

// record is what a slot holds.
type record struct {
	Format int        `json:"format"`
	Seq    uint64     `json:"seq"`
	OID    string     `json:"oid"`
	Size   int64      `json:"size"`
	ETag   string     `json:"etag"`
	Spans  [][2]int64 `json:"spans"`
	Hashed int64      `json:"hashed"` // Sum is the SHA-256 of so many bytes from the start
	Sum    string     `json:"sum"`
}

const journalFormat = 1

func (r record) have() spans {
	var s spans
	for _, e := range r.Spans {
		s = append(s, span{e[0], e[1]})
	}
	return s
}

// valid: spans in order, apart and inside the file, and the hash of what is there.
func (r record) valid() bool {
	end := int64(-1)
	for _, e := range r.Spans {
		if e[0] <= end || e[1] <= e[0] || e[1] > r.Size {
			return false
		}
		end = e[1]
	}
	return r.Format == journalFormat && r.Hashed >= 0 && r.Hashed <= r.have().prefix() && (r.Hashed == 0 || sha256Text().MatchString(r.Sum))
}

// encode makes a slot.
func (r record) encode() ([]byte, error) {
	r.Format = journalFormat
	if len(r.Spans) > journalSpans {
		r.Spans = r.Spans[:journalSpans]
	}
	if len(r.ETag) > maxETag {
		r.ETag = ""
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(text) > slotSize-sha256.Size*2 {
		return nil, errors.New("a journal's record does not fit its slot")
	}
	slot := bytes.Repeat([]byte{' '}, slotSize)
	copy(slot[sha256.Size*2:], text)
	sum := sha256.Sum256(slot[sha256.Size*2:])
	hex.Encode(slot, sum[:])
	return slot, nil
}

// decodeJournal finds the newest record that is whole.
func decodeJournal(data []byte) (best record, ok bool) {
	for ; len(data) >= slotSize; data = data[slotSize:] {
		r, whole := decodeSlot(data[:slotSize])
		if whole && (!ok || r.Seq > best.Seq) {
			best, ok = r, true
		}
	}
	return best, ok
}

func decodeSlot(slot []byte) (r record, ok bool) {
	sum := sha256.Sum256(slot[sha256.Size*2:])
	if string(slot[:sha256.Size*2]) != hex.EncodeToString(sum[:]) {
		return record{}, false
	}
	if json.Unmarshal(slot[sha256.Size*2:], &r) != nil || !r.valid() {
		return record{}, false
	}
	return r, true
}

// readJournal reads the journal at path.
func readJournal(path string) (record, bool) {
	f, err := openOwn(path)
	if err != nil {
		return record{}, false
	}
	defer f.Close()
	data := make([]byte, 2*slotSize)
	n, _ := f.ReadAt(data, 0) // what cannot be read is not there
	return decodeJournal(data[:n])
}

// journal is open for writing.
type journal struct {
	file *os.File
	seq  uint64
}

// createJournal makes a new file, and sees to it that it and what lies beside it keep their names through a power cut.
func createJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{file: f}, atomicfile.SyncDir(filepath.Dir(path))
}

// write makes a record last.
func (j *journal) write(r record) error {
	j.seq++
	r.Seq = j.seq
	slot, err := r.encode()
	if err != nil {
		return err
	}
	if _, err := j.file.WriteAt(slot, int64(j.seq%2)*slotSize); err != nil {
		return err
	}
	return j.file.Sync()
}
