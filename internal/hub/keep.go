package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"
)

// hash reads the file behind the connections, in order, while it is still in memory. What was taken over is hashed too, whatever the journal says: only bytes that were read count.
func (dl *download) hash(ctx context.Context) error {
	sum, git := sha256.New(), newGitHash(dl.file)
	buf := make([]byte, 1<<20)
	for at := int64(0); at < dl.file.Size; {
		to, err := dl.await(ctx, at)
		if err != nil {
			return err
		}
		if known := dl.part.known.Hashed; at < known {
			to = min(to, known)
		}
		block := buf[:min(to-at, int64(len(buf)))]
		if _, err := dl.part.file.ReadAt(block, at); err != nil {
			return dl.unreadable(err)
		}
		sum.Write(block)
		git.Write(block)
		if dl.to.Tee != nil {
			if _, err := dl.to.Tee.Write(block); err != nil {
				return &Error{What: fmt.Sprintf("%s cannot be passed on", dl.about), Do: "this is a bug", Err: err}
			}
		}
		at += int64(len(block))
		if err := dl.reached(at, sum); err != nil {
			return err
		}
	}
	sum.Sum(dl.sum[:0])
	dl.git = hex.EncodeToString(git.Sum(nil))
	return nil
}

// newGitHash is that of git for files that only git's hash is known of; else it is one that costs nothing.
func newGitHash(f File) hash.Hash {
	if f.SHA256 != "" {
		return noHash{}
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", f.Size)
	return h
}

// hasher makes the hash that names a file's content.
func hasher(f File) hash.Hash {
	if f.SHA256 != "" {
		return sha256.New()
	}
	return newGitHash(f)
}

type noHash struct{}

func (noHash) Write(p []byte) (int, error) { return len(p), nil }
func (noHash) Sum(b []byte) []byte         { return b }
func (noHash) Reset()                      {}
func (noHash) Size() int                   { return 0 }
func (noHash) BlockSize() int              { return 1 }

func (dl *download) unreadable(err error) error {
	if err == io.EOF {
		return &startAgain{why: "its partial file was cut off"}
	}
	return diskError(fmt.Sprintf("%s cannot be read back", dl.about), err)
}

// await waits for bytes after at.
func (dl *download) await(ctx context.Context, at int64) (to int64, err error) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	for dl.have.prefix() <= at {
		if ctx.Err() != nil {
			return 0, ended(ctx)
		}
		dl.changed.Wait()
	}
	return dl.have.prefix(), ctx.Err()
}

// reached notes the hash so far. What was taken over must have the hash that it had then: if not, it is found out here, and not after the rest has come too.
func (dl *download) reached(at int64, sum hash.Hash) error {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.hashed = at
	sum.Sum(dl.prefix[:0])
	if known := dl.part.known; at == known.Hashed && hex.EncodeToString(dl.prefix[:]) != known.Sum {
		return &startAgain{why: "what an earlier try left was damaged"}
	}
	return nil
}

// keep writes the journal until done, and a last time then. heartbeat is for other machines: who is alive is not robbed.
func (dl *download) keep(done <-chan struct{}) error {
	tick := time.NewTicker(dl.c.limits.tick)
	defer tick.Stop()
	beat := time.Now()
	for {
		last := false
		select {
		case <-done:
			last = true
		case <-dl.flush:
		case <-tick.C:
			if time.Since(beat) > strangerRests/5 {
				beat = time.Now()
				_ = os.Chtimes(dl.part.path(".lock"), beat, beat)
			}
		}
		if err := dl.save(last); err != nil || last {
			return err
		}
	}
}

// save writes the journal if there is anything new. A file that is whole needs none.
func (dl *download) save(last bool) error {
	dl.mu.Lock()
	r := record{OID: dl.file.oid(), Size: dl.file.Size, ETag: dl.etag, Hashed: dl.hashed}
	if dl.hashed > 0 {
		r.Sum = hex.EncodeToString(dl.prefix[:])
	}
	for _, s := range dl.have {
		r.Spans = append(r.Spans, [2]int64{s.from, s.to})
	}
	dirty := dl.dirty
	whole := last && dl.hashed == dl.file.Size
	dl.mu.Unlock()
	if dirty == 0 || whole {
		return nil
	}
	if !dl.part.mine() {
		dl.part.broken = true
		return &startAgain{why: "its partial file was taken away"}
	}
	if err := dl.part.save(r); err != nil {
		return diskError(fmt.Sprintf("%s cannot be made to last", dl.about), err)
	}
	dl.mu.Lock()
	dl.dirty -= dirty
	dl.changed.Broadcast()
	dl.mu.Unlock()
	return nil
}
