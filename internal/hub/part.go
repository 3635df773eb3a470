package hub

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
)

// A partial file belongs to one process, which is in its name: <oid>.<host>-<pid>-<random>.part, with a .journal beside it once there is something to say, and a .lock while
// somebody works on it. Who finds one that nobody works on takes it over by renaming it, which only one can do. Nothing depends on locks alone: some file systems have none.

// strangerRests is how long a part of another machine has to lie untouched before it is taken: whether its process lives cannot be seen from here.
const strangerRests = 5 * time.Minute

var partFile = lazyregexp.New(`^([0-9a-f]{40}|[0-9a-f]{64})\.([0-9a-f]{8})-([0-9]{1,10})-([0-9a-f]{16})\.(part|journal|lock)$`)

// partName is a part's name without its extension, taken apart.
type partName struct {
	base, oid, host string
	pid             int
}

func parsePartName(file string) (n partName, ext string, ok bool) {
	m := partFile().FindStringSubmatch(file)
	if m == nil {
		return partName{}, "", false
	}
	pid, err := strconv.Atoi(m[3])
	return partName{base: m[1] + "." + m[2] + "-" + m[3] + "-" + m[4], oid: m[1], host: m[2], pid: pid}, m[5], err == nil
}

// thisHost is this machine in names of parts.
var thisHost = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		name = "?"
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
})

func newPartName(oid string) partName {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	n := partName{oid: oid, host: thisHost(), pid: os.Getpid()}
	n.base = fmt.Sprintf("%s.%s-%d-%x", oid, n.host, n.pid, random)
	return n
}

// inUse are the parts that this process works on, by name. The operating system's locks say the same where there are some.
var inUse sync.Map

// part is a partial file that is ours.
type part struct {
	name    partName
	dir     string
	file    *os.File
	journal *journal // nil until there is something to say
	unlock  func()
	known   record // what the journal said when it was taken over
	broken  bool   // a sync failed: what is on the disk is not known any more
}

func (p *part) path(ext string) string { return filepath.Join(p.dir, p.name.base+ext) }

// createPart makes an empty one.
func createPart(dir, oid string) (*part, error) {
	p := &part{name: newPartName(oid), dir: dir}
	inUse.Store(p.name.base, true)
	var err error
	if p.unlock, _, err = lockPart(p.path(".lock")); err == nil {
		p.file, err = os.OpenFile(p.path(".part"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		p.remove()
		return nil, diskError("a partial file cannot be made", err)
	}
	return p, nil
}

// lockPart takes a lock that dies with this process. free is false while somebody else has it; where there are no locks it is free, and other rules decide.
func lockPart(path string) (unlock func(), free bool, err error) {
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|noFollow), flock.SetPermissions(0o600))
	unlock = func() {
		_ = os.Remove(path)
		_ = l.Close()
		_ = os.Remove(path) // Windows removes no file that is open
	}
	got, err := l.TryLock()
	if err != nil && isFull(err) {
		_ = l.Close()
		return func() {}, false, err
	}
	if err == nil && !got {
		_ = l.Close()
		return func() {}, false, nil
	}
	return unlock, true, nil
}

// adoptPart takes over the fullest part of a file that nobody works on.
func adoptPart(dir string, f File) *part {
	type candidate struct {
		name partName
		has  int64
	}
	var found []candidate
	for _, n := range partsIn(dir, func(oid string) bool { return oid == f.oid() }) {
		r, ok := readJournal(filepath.Join(dir, n.base+".journal"))
		if ok && r.OID == f.oid() && r.Size == f.Size {
			found = append(found, candidate{n, r.have().total()})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].has > found[j].has })
	for _, c := range found {
		if p := takePart(dir, c.name, f); p != nil {
			return p
		}
	}
	return nil
}

// takePart takes over one part, if nobody works on it and it is what its journal says. Ours is announced first and the old part renamed to it, so that at every instant one of the two names has both files.
func takePart(dir string, n partName, f File) *part {
	unlock, free := abandoned(dir, n)
	if !free {
		return nil
	}
	defer unlock()
	old := part{name: n, dir: dir}
	r, ok := readJournal(old.path(".journal"))
	before, err := os.Lstat(old.path(".part"))
	if !ok || err != nil || !before.Mode().IsRegular() || r.OID != f.oid() || r.Size != f.Size || len(r.Spans) > 0 && r.Spans[len(r.Spans)-1][1] > before.Size() {
		return nil
	}
	p := &part{name: newPartName(n.oid), dir: dir, known: r}
	inUse.Store(p.name.base, true)
	if p.open(old.path(".part"), before) != nil {
		p.remove()
		return nil
	}
	_ = os.Remove(old.path(".journal"))
	return p
}

func (p *part) open(old string, before os.FileInfo) (err error) {
	if p.unlock, _, err = lockPart(p.path(".lock")); err != nil {
		return err
	}
	if p.journal, err = createJournal(p.path(".journal")); err != nil {
		return err
	}
	if err = p.journal.write(p.known); err != nil {
		return err
	}
	if err = os.Rename(old, p.path(".part")); err != nil {
		return err
	}
	if p.file, err = openOwn(p.path(".part")); err != nil {
		return err
	}
	if now, err := p.file.Stat(); err != nil || !os.SameFile(before, now) {
		return errors.New("it was exchanged")
	}
	return atomicfile.SyncDir(p.dir)
}

// abandoned locks a part that nobody works on.
func abandoned(dir string, n partName) (unlock func(), ok bool) {
	if _, ours := inUse.Load(n.base); ours {
		return nil, false
	}
	if n.host == thisHost() {
		if n.pid != os.Getpid() && processLives(n.pid) {
			return nil, false
		}
	} else if time.Since(touched(dir, n)) < strangerRests {
		return nil, false
	}
	unlock, free, err := lockPart(filepath.Join(dir, n.base+".lock"))
	return unlock, free && err == nil
}

// touched is when a part was last worked on.
func touched(dir string, n partName) (last time.Time) {
	for _, ext := range []string{".part", ".journal", ".lock"} {
		if info, err := os.Lstat(filepath.Join(dir, n.base+ext)); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// partsIn lists the parts of some files in a folder, each once.
func partsIn(dir string, of func(oid string) bool) []partName {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []partName
	seen := map[string]bool{}
	for _, e := range entries {
		if n, _, ok := parsePartName(e.Name()); ok && of(n.oid) && !seen[n.base] {
			seen[n.base] = true
			out = append(out, n)
		}
	}
	return out
}

// mine reports whether the part is still there under its name: a process that was stopped for long may have lost it to another machine.
func (p *part) mine() bool {
	at, err := os.Lstat(p.path(".part"))
	if err != nil {
		return false
	}
	held, err := p.file.Stat()
	return err == nil && os.SameFile(at, held)
}

// save makes data last, then the journal that says so. After a sync that failed nothing is believed any more: the operating system may have dropped the data and forgotten that it did.
func (p *part) save(r record) (err error) {
	if p.broken {
		return nil
	}
	if err = p.file.Sync(); err == nil && p.journal == nil {
		p.journal, err = createJournal(p.path(".journal"))
	}
	if err == nil {
		err = p.journal.write(r)
	}
	p.broken = err != nil
	return err
}

// finish puts the part in its place, whole and synced. What cannot be put there stays.
func (p *part) finish(path string) error {
	if !p.mine() {
		p.remove()
		return &startAgain{why: "its partial file was taken away"}
	}
	if err := p.file.Sync(); err != nil {
		p.remove() // see save
		return err
	}
	p.close() // Windows renames no file that is open
	if err := os.Rename(p.path(".part"), path); err != nil {
		p.keep()
		return err
	}
	p.remove()
	return atomicfile.SyncDir(filepath.Dir(path))
}

// remove takes the part and all that belongs to it away.
func (p *part) remove() {
	p.close()
	_ = os.Remove(p.path(".part"))
	_ = os.Remove(p.path(".journal"))
	p.release()
}

// keep leaves it for whoever comes next.
func (p *part) keep() {
	if p.broken || p.journal == nil {
		p.remove()
		return
	}
	p.close()
	p.release()
}

func (p *part) close() {
	if p.file != nil {
		_ = p.file.Close()
	}
	if p.journal != nil {
		_ = p.journal.file.Close()
	}
}

func (p *part) release() {
	p.unlock()
	inUse.Delete(p.name.base)
}

// openOwn opens a regular file for reading and writing; a link is not followed.
func openOwn(path string) (*os.File, error) {
	at, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !at.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("it is no regular file")}
	}
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(at, now) {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("it was exchanged")}
	}
	return f, nil
}

// CleanParts removes partial files that nobody works on and that were not touched for a while, but those of files that are to be kept; keep may be nil. It returns how many bytes became free.
func CleanParts(parts string, keep func(oid string) bool, olderThan time.Duration) (freed int64, err error) {
	if _, err := os.ReadDir(parts); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		return 0, err
	}
	for _, n := range partsIn(parts, func(oid string) bool { return keep == nil || !keep(oid) }) {
		if time.Since(touched(parts, n)) < olderThan {
			continue
		}
		freed += cleanPart(parts, n)
	}
	return freed, nil
}

// Begun is how many bytes of a file lie in partial files that nobody works on: the next download goes on from there.
func Begun(parts, oid string) (bytes int64) {
	for _, n := range partsIn(parts, func(have string) bool { return have == oid }) {
		if info, err := os.Lstat(filepath.Join(parts, n.base+".part")); err == nil {
			bytes = max(bytes, onDisk(info))
		}
	}
	return bytes
}

func cleanPart(dir string, n partName) (freed int64) {
	unlock, ok := abandoned(dir, n)
	if !ok {
		return 0
	}
	defer unlock()
	for _, ext := range []string{".part", ".journal"} {
		path := filepath.Join(dir, n.base+ext)
		if info, err := os.Lstat(path); err == nil && os.Remove(path) == nil {
			freed += onDisk(info)
		}
	}
	return freed
}
