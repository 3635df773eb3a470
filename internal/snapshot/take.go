//go:build unix

package snapshot

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// racy is how old anything in a snapshot must have been when the program that takes it began: what is younger may have been changed after it was looked at. The clock of a file system ticks every few
// milliseconds.
const racy = 20 * time.Millisecond

// Taker takes a snapshot. Paths are absolute.
type Taker struct {
	began   int64              // ns; nothing in the snapshot may have changed since
	folders map[string][]entry // by the folder that names are looked at from
	seen    map[string]bool    // paths, and ways to folders
	moved   bool
}

// NewTaker is for a program that began at this instant, before it looked at anything.
func NewTaker(began time.Time) *Taker {
	return &Taker{began: began.Add(-racy).UnixNano(), folders: map[string][]entry{}, seen: map[string]bool{}}
}

// Format is the snapshot on disk with its answer; ok is false when something in it may have changed since the program began, or cannot be looked at.
func (t *Taker) Format(answer []byte) (data []byte, ok bool) {
	if t.moved {
		return nil, false
	}
	data = format(answer, t.folders)
	return data, data != nil
}

// File is a path where a file was read, or where there was none. Links are followed.
func (t *Taker) File(path string) {
	dir, name := split(path)
	t.way(dir)
	t.file(dir, name)
}

func (t *Taker) file(dir, name string) {
	path := filepath.Join(dir, name)
	if t.known("file " + path) {
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(unix.AT_FDCWD, path, &st, 0)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		t.folders[dir] = append(t.folders[dir], entry{name: []byte(name), state: noFile})
		return
	}
	t.add(dir, name, followed, st, err)
	if err == nil { // a link may have been turned to an older file
		t.settled(lstat(path))
	}
}

// Absent is a path where there was nothing: what has come since makes the snapshot worthless, however old it is.
func (t *Taker) Absent(path string) {
	t.File(path)
	if _, err := os.Lstat(path); err == nil {
		t.moved = true
	}
}

// Entry is a path where something was found that may be a link; the link itself is what counts.
func (t *Taker) Entry(path string) {
	dir, name := split(path)
	t.way(dir)
	t.entry(dir, name)
}

func (t *Taker) entry(dir, name string) {
	path := filepath.Join(dir, name)
	if t.known("entry " + path) { // a record that several steps share
		return
	}
	st, err := lstat(path)
	t.add(dir, name, itself, st, err)
}

// Folder is a folder with everything in it, links not followed.
func (t *Taker) Folder(path string) {
	dir, name := split(path)
	t.way(path)
	t.folder(dir, name)
}

func (t *Taker) folder(dir, name string) {
	for _, e := range t.list(dir, name) {
		if below := name + "/" + e.Name(); e.IsDir() {
			t.folder(dir, below)
		} else {
			t.entry(dir, below)
		}
	}
}

// Listing is a folder whose own files were looked at, links followed. Where there is no folder it is File.
func (t *Taker) Listing(path string) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.File(path)
		return
	}
	dir, name := split(path)
	t.way(path)
	for _, e := range t.list(dir, name) {
		t.file(dir, name+"/"+e.Name())
	}
}

// list notes a folder itself, which changes when a name in it does, and gives its names.
func (t *Taker) list(dir, name string) []os.DirEntry {
	path := filepath.Join(dir, name)
	if t.known("list " + path) {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.moved = true
	}
	var st unix.Stat_t
	err = unix.Fstatat(unix.AT_FDCWD, path, &st, 0)
	t.add(dir, name, followed, st, err)
	return entries
}

// add what was found. Where there is nothing, the folder that would have it must be as old as a file would have to be.
func (t *Taker) add(dir, name string, s state, st unix.Stat_t, err error) {
	switch {
	case err == nil:
		t.settled(st, nil)
		t.folders[dir] = append(t.folders[dir], entry{[]byte(name), s, tupleOf(&st)})
	case err == unix.ENOENT || err == unix.ENOTDIR:
		t.folders[dir] = append(t.folders[dir], entry{name: []byte(name), state: absent})
		for dir = filepath.Dir(filepath.Join(dir, name)); ; dir = filepath.Dir(dir) {
			var st unix.Stat_t
			if err := unix.Fstatat(unix.AT_FDCWD, dir, &st, 0); err == nil || dir == filepath.Dir(dir) {
				t.settled(st, err)
				return
			}
		}
	default:
		t.moved = true
	}
}

// settled wants something to be older than the program that takes the snapshot.
func (t *Taker) settled(st unix.Stat_t, err error) {
	t.moved = t.moved || err != nil || max(st.Mtim.Nano(), st.Ctim.Nano()) >= t.began
}

// way wants links on the way to a folder to be old: another folder may have been put in its place, however old that is.
func (t *Taker) way(dir string) {
	for ; !t.known("way " + dir); dir = filepath.Dir(dir) {
		if st, err := lstat(dir); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			t.settled(st, nil)
		}
	}
}

// known reports whether something was noted before, and notes it.
func (t *Taker) known(what string) bool {
	was := t.seen[what]
	t.seen[what] = true
	return was
}

func lstat(path string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func tupleOf(st *unix.Stat_t) tuple {
	return tuple{int64(st.Dev), int64(st.Ino), int64(st.Size), st.Mtim.Nano(), st.Ctim.Nano()}
}

// Stat is the identity and age of the file at a path as a text, for what a snapshot is named by.
func Stat(path string) (text string, ok bool) {
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, path, &st, 0); err != nil {
		return "", false
	}
	return string(entry{[]byte(path), followed, tupleOf(&st)}.append(nil)), true
}

// allSame looks at the entries of a block again. Names are looked at from an open folder, which spares the kernel the way there. It is the one above those that a build wrote or read: opening each of them would cost as much as
// looking at three files.
func allSame(block []byte) bool {
	from := place{fd: -1}
	defer from.leave()
	for {
		var e entry
		if e, block = nextEntry(block); block == nil {
			return false
		}
		switch e.state {
		case end:
			return true
		case answer:
			return false // it is no place for one
		case folder:
			from.leave()
			from.enter(string(e.name))
		default:
			if !from.known || !from.isSame(&e) {
				return false
			}
		}
	}
}

// place is a folder that names are looked at from.
type place struct {
	known  bool
	fd     int    // -1 where it could not be opened
	prefix string // then
}

func (p *place) enter(dir string) {
	p.known, p.prefix = true, ""
	var err error
	if p.fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil { // it is not there, or may not be read
		p.fd, p.prefix = -1, dir+"/"
	}
}

func (p *place) leave() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

func (p *place) isSame(e *entry) bool {
	flags := 0
	if e.state == itself {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	var err error
	if p.fd >= 0 {
		err = unix.Fstatat(p.fd, string(e.name), &st, flags)
	} else {
		err = unix.Fstatat(unix.AT_FDCWD, p.prefix+string(e.name), &st, flags)
	}
	switch e.state {
	case absent:
		return err == unix.ENOENT || err == unix.ENOTDIR
	case noFile:
		return err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG
	}
	return err == nil && tupleOf(&st) == e.tuple
}
