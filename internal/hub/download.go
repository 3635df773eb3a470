package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"
)

// Download says where a file goes.
type Download struct {
	Parts    string            // folder of partial files, used by many processes at once
	Path     string            // where the finished file goes, checked and synced: a new name on the same file system as Parts
	Progress func(bytes int64) // told of bytes as they come, and once at the start of those that an earlier try left; negative when they are thrown away. One call at a time
	Tee      Tee               // gets the content in order from its first byte, but only while nothing is taken over or thrown away
}

// Tee gets what arrives before it is proved.
type Tee interface {
	io.Writer
	// Lost says that what was written is thrown away: it is not the file's content, and nothing more will come.
	Lost()
}

// limits of downloads; tests make them small.
type limits struct {
	small  int64         // a file up to this is one request
	piece  int64         // of a larger file, one request
	pieces int64         // but not many more than this: pieces grow
	sync   int64         // so many new bytes are worth a journal
	lag    int64         // so many may not be in it: more waits
	tick   time.Duration // after this any new byte is worth a journal
	worth  int64         // so many bytes are progress: a connection that brought them was no failure
}

var defaultLimits = limits{small: 32 << 20, piece: 16 << 20, pieces: 512, sync: 8 << 20, lag: 12 << 20, tick: time.Second, worth: 64 << 10}

// startAgain throws away what there is of a file.
type startAgain struct {
	why   string
	plain bool   // and goes the safe way: one connection, from the first byte to the last
	wrong *Error // what it is in the end, if that does not help
}

func (s *startAgain) Error() string { return s.why }

// errYield ends a connection whose bytes another one brings.
var errYield = errors.New("another connection brings it")

// Download brings a file: what an earlier try left and the rest, large files by several connections at once, hashed as it comes. The file is at d.Path when its content is proved
// and on the disk, and not before. What is there when it fails or is cancelled stays for the next try, in this process or another. It returns the SHA-256, which for files of
// which the Hub knows only the git hash is new.
func (c *Client) Download(ctx context.Context, r Repo, commit string, f File, d Download) (sum [32]byte, err error) {
	if err := c.mayAsk(r, commit, f); err != nil {
		return sum, err
	}
	plain := false
	for try := 0; ; try++ {
		sum, err = c.attempt(ctx, r, commit, f, d, try == 0, plain)
		var again *startAgain
		if !errors.As(err, &again) {
			break
		}
		if plain && again.plain || try == maxRestarts {
			err = again.end(f)
			break
		}
		if d.Tee != nil {
			d.Tee.Lost()
			d.Tee = nil
		}
		plain = plain || again.plain
	}
	if err == nil { // what other tries left of it is of no use any more
		for _, n := range partsIn(d.Parts, func(oid string) bool { return oid == f.oid() }) {
			cleanPart(d.Parts, n)
		}
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	return sum, err
}

// maxRestarts: a part that was damaged, one that was taken away, and a hash that was wrong.
const maxRestarts = 3

func (s *startAgain) end(f File) error {
	if s.wrong != nil {
		return s.wrong
	}
	return &Error{Class: Protocol, What: fmt.Sprintf("%s cannot be fetched: %s, again and again", clean(f.Path), s.why), Do: "try again later"}
}

// attempt brings the file into one part. The part is removed when it is of no use any more, else left.
func (c *Client) attempt(ctx context.Context, r Repo, commit string, f File, d Download, adopt, plain bool) (sum [32]byte, err error) {
	var p *part
	if adopt {
		p = adoptPart(d.Parts, f)
	}
	if p == nil {
		if p, err = createPart(d.Parts, f.oid()); err != nil {
			return sum, err
		}
	}
	dl := newDownload(c, r, commit, f, d, p, plain)
	if err = dl.fits(); err == nil {
		dl.report(dl.have.total())
		if err = dl.fetch(ctx); err == nil {
			err = dl.check()
		}
	}
	var again *startAgain
	switch {
	case errors.As(err, &again):
		dl.report(-dl.told)
		p.remove()
	case err != nil:
		p.keep()
	default:
		if err = p.finish(d.Path); errors.As(err, &again) {
			dl.report(-dl.told)
		} else if err != nil {
			err = diskError(fmt.Sprintf("%s cannot be put in its place", clean(f.Path)), err)
		}
	}
	return dl.sum, err
}

// download is a file on its way.
type download struct {
	c       *Client
	repo    Repo
	commit  string
	file    File
	to      Download
	about   subject
	part    *part
	sum     [32]byte // when all is hashed
	git     string
	resolve chan struct{} // held while the Hub is asked where the bytes are

	mu       sync.Mutex
	changed  *sync.Cond
	have     spans
	dirty    int64         // bytes that are not in the journal
	todo     []span        // pieces that nobody brings yet
	cancels  []func()      // of the connections
	carrier  int           // the connection that brings all that is missing, -1 while they share
	noRange  bool          // ranges are of no use here
	location *url.URL      // where the Hub said that the bytes are; nil: ask
	etag     string        // of what came so far
	hashed   int64         // bytes from the start that are hashed
	prefix   [32]byte      // the SHA-256 of them
	flush    chan struct{} // there is enough for the journal

	progress sync.Mutex
	told     int64
}

func newDownload(c *Client, r Repo, commit string, f File, d Download, p *part, plain bool) *download {
	dl := &download{c: c, repo: r, commit: commit, file: f, to: d, part: p, about: subject{repo: r, revision: commit, path: f.Path}, carrier: -1,
		resolve: make(chan struct{}, 1), flush: make(chan struct{}, 1), have: p.known.have(), etag: p.known.ETag}
	dl.changed = sync.NewCond(&dl.mu)
	if dl.have.total() > 0 || plain {
		dl.to.Tee = nil
	}
	if plain {
		dl.carrier, dl.noRange = 0, true
	}
	for _, gap := range dl.have.gaps(span{0, f.Size}) {
		dl.todo = append(dl.todo, c.limits.cut(gap, f.Size)...)
	}
	return dl
}

// cut makes pieces of a gap.
func (l limits) cut(gap span, size int64) (out []span) {
	if size <= l.small {
		return []span{gap}
	}
	piece := max(l.piece, size/l.pieces)
	for gap.len() > 0 {
		to := min(gap.from+piece, gap.to)
		out = append(out, span{gap.from, to})
		gap.from = to
	}
	return out
}

// fits asks the file system before the first byte is asked for. Nothing is allocated: the size is a stranger's word.
func (dl *download) fits() error {
	need := dl.file.Size - dl.have.total()
	if free, ok := freeBytes(dl.to.Parts); ok && free < need {
		return &Error{Class: Full, What: fmt.Sprintf("%s needs %s on the disk of %s, which has %s", clean(dl.file.Path), size(need), dl.to.Parts, size(free)),
			Do: "make room there, or set MLXBUILD_CACHE to a folder on another disk"}
	}
	return nil
}

// size for people.
func size(n int64) string {
	const units = "KMGTP"
	v, unit := float64(n)/1024, 0
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	for ; v >= 1024 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

func (dl *download) report(n int64) {
	dl.progress.Lock()
	defer dl.progress.Unlock()
	dl.told += n
	if n != 0 && dl.to.Progress != nil {
		dl.to.Progress(n)
	}
}

// check compares the hash of what came with what the Hub promised.
func (dl *download) check() error {
	got := hex.EncodeToString(dl.sum[:])
	if dl.file.SHA256 == "" {
		got = dl.git
	}
	if got == dl.file.oid() {
		return nil
	}
	return &startAgain{why: "its hash is wrong", plain: true, wrong: wrongHash(dl.about, dl.file, got)}
}

func wrongHash(s subject, f File, got string) *Error {
	kind := "SHA-256"
	if f.SHA256 == "" {
		kind = "git hash"
	}
	return &Error{Class: Corrupt, What: fmt.Sprintf("%s came with other content than the Hub promises, twice: %s %s, not %s", s, kind, got, f.oid()),
		Do: "try again; if it stays so, a proxy or mirror on the way changes files (HF_ENDPOINT, HTTPS_PROXY)"}
}

// diskError is an error of our own disk.
func diskError(what string, err error) error {
	if isFull(err) {
		return &Error{Class: Full, What: what + ": the disk is full", Do: "make room, or set MLXBUILD_CACHE to a folder on another disk; what came is kept", Err: err}
	}
	return &Error{Class: "", What: what, Do: "check the disk and the permissions of the folder", Err: err}
}
