//go:build unix

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scene is a folder with one of everything that is looked at.
type scene struct{ dir string }

func newScene(t testing.TB) scene {
	t.Helper()
	s := scene{t.TempDir()}
	for name, text := range map[string]string{"recipe": "r", "source/weights": "w", "source/more/template": "t", "out/model": "m", "out/sub/file": "f", "elsewhere/a": "1", "elsewhere/b": "2", "records/k": "{}"} {
		must(t, os.MkdirAll(filepath.Dir(s.at(name)), 0o755))
		must(t, os.WriteFile(s.at(name), []byte(text), 0o644))
	}
	must(t, os.Symlink("../elsewhere/a", s.at("source/linked")))
	must(t, os.Symlink("../elsewhere/none", s.at("source/dangling")))
	must(t, os.Symlink("../elsewhere/a", s.at("out/link")))
	must(t, os.Symlink("elsewhere", s.at("way")))
	return s
}

func (s scene) at(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// look notes everything, as a program would that began at this instant.
func (s scene) look(began time.Time) *Taker {
	taker := NewTaker(began)
	taker.File(s.at("recipe"))
	taker.File(s.at("lock"))
	taker.File(s.at("none/of/these"))
	taker.File(s.at("way/b"))
	taker.Listing(s.at("source"))
	taker.Listing(s.at("source/more"))
	taker.Listing(s.at("nothing"))
	taker.Folder(s.at("out"))
	taker.Entry(s.at("records/k"))
	return taker
}

// later is when everything that was just made is old enough.
func later() time.Time { return time.Now().Add(time.Hour) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parsed(t testing.TB, taker *Taker) *Snapshot {
	t.Helper()
	data, ok := taker.Format([]byte("the answer"))
	if !ok {
		t.Fatal("everything is old, and there is no snapshot")
	}
	s := Parse(data)
	if s == nil || string(s.Answer()) != "the answer" {
		t.Fatal("what was written is not read")
	}
	return s
}

// changes are what a snapshot must see. Each gets a scene of its own.
var changes = map[string]func(t *testing.T, s scene){
	"a file is written":               func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("recipe"), []byte("s"), 0o644)) },
	"a file is touched":               func(t *testing.T, s scene) { must(t, os.Chtimes(s.at("recipe"), time.Time{}, later())) },
	"a file gets another mode":        func(t *testing.T, s scene) { must(t, os.Chmod(s.at("out/model"), 0o600)) },
	"a file gets another name":        func(t *testing.T, s scene) { must(t, os.Link(s.at("out/model"), s.at("another"))) },
	"a file is replaced by its equal": replaced("recipe"),
	"a file is removed":               func(t *testing.T, s scene) { must(t, os.Remove(s.at("recipe"))) },
	"a file comes":                    func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("lock"), nil, 0o644)) },
	"a file comes in a new folder": func(t *testing.T, s scene) {
		must(t, os.MkdirAll(s.at("none/of"), 0o755))
		must(t, os.WriteFile(s.at("none/of/these"), nil, 0o644))
	},
	"a record goes":        func(t *testing.T, s scene) { must(t, os.Remove(s.at("records/k"))) },
	"a record is replaced": replaced("records/k"),
	"an output is written": func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("out/sub/file"), []byte("g"), 0o644)) },
	"an output goes":       func(t *testing.T, s scene) { must(t, os.Remove(s.at("out/sub/file"))) },
	"an output comes":      func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("out/sub/new"), nil, 0o644)) },
	"outputs go":           func(t *testing.T, s scene) { must(t, os.RemoveAll(s.at("out"))) },
	"outputs become a link to them": func(t *testing.T, s scene) {
		must(t, os.Rename(s.at("out"), s.at("o2")))
		must(t, os.Symlink("o2", s.at("out")))
	},
	"a link in outputs is replaced": func(t *testing.T, s scene) {
		must(t, os.Remove(s.at("out/link")))
		must(t, os.Symlink("../elsewhere/a", s.at("out/link")))
	},
	"a source file is written":        func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("source/weights"), []byte("x"), 0o644)) },
	"a source file comes":             func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("source/new"), nil, 0o644)) },
	"a source's template is written":  func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("source/more/template"), nil, 0o644)) },
	"what a link leads to is written": func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("elsewhere/a"), []byte("3"), 0o644)) },
	"a link leads somewhere":          func(t *testing.T, s scene) { must(t, os.WriteFile(s.at("elsewhere/none"), nil, 0o644)) },
	"a link is turned": func(t *testing.T, s scene) {
		must(t, os.Remove(s.at("source/linked")))
		must(t, os.Symlink("../elsewhere/b", s.at("source/linked")))
	},
	"a way is turned": func(t *testing.T, s scene) {
		must(t, os.Mkdir(s.at("other"), 0o755))
		must(t, os.WriteFile(s.at("other/b"), []byte("2"), 0o644))
		must(t, os.Remove(s.at("way")))
		must(t, os.Symlink("other", s.at("way")))
	},
	"a folder comes where a file was sought": func(t *testing.T, s scene) { must(t, os.Mkdir(s.at("nothing"), 0o755)) },
}

// replaced by a file with the same bytes and times: only inode and ctime are others.
func replaced(name string) func(t *testing.T, s scene) {
	return func(t *testing.T, s scene) {
		info, err := os.Stat(s.at(name))
		must(t, err)
		data, err := os.ReadFile(s.at(name))
		must(t, err)
		must(t, os.WriteFile(s.at("copy"), data, 0o644))
		must(t, os.Chtimes(s.at("copy"), info.ModTime(), info.ModTime()))
		must(t, os.Rename(s.at("copy"), s.at(name)))
	}
}

func TestSeesChanges(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			snap := parsed(t, s.look(later()))
			if !snap.Same() || !snap.Same() {
				t.Fatal("nothing has changed, and it says so")
			}
			time.Sleep(15 * time.Millisecond) // a tick of the file system's clock
			change(t, s)
			if snap.Same() {
				t.Error("it was not seen")
			}
		})
	}
}

// What is none of a build's business does not cost it its snapshot.
func TestOverlooks(t *testing.T) {
	s := newScene(t)
	snap := parsed(t, s.look(later()))
	time.Sleep(15 * time.Millisecond)
	must(t, os.WriteFile(s.at("source/more/../../unrelated"), nil, 0o644))
	must(t, os.WriteFile(s.at("records/another"), nil, 0o644))
	must(t, os.WriteFile(s.at("elsewhere/c"), nil, 0o644))
	if !snap.Same() {
		t.Error("files that nobody looked at count")
	}
}

// A change in the time of the program that takes the snapshot may be one that it has not seen.
func TestTakesOnlyWhatIsOld(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			time.Sleep(2*racy + 15*time.Millisecond)
			began := time.Now()
			if _, ok := s.look(began).Format(nil); !ok {
				t.Fatal("everything is old, and there is no snapshot")
			}
			change(t, s)
			if _, ok := s.look(began).Format(nil); ok {
				t.Error("it changed after the program began, and there is a snapshot")
			}
		})
	}
}

// Folders are looked at by several workers when there are many; each change must be seen wherever it is.
func TestManyFolders(t *testing.T) {
	dir := t.TempDir()
	const folders, files = 300, 8
	taker := NewTaker(later())
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.Mkdir(sub, 0o755))
		for k := range files {
			must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(k)), nil, 0o644))
		}
		taker.Folder(sub)
	}
	snap := parsed(t, taker)
	if !snap.Same() {
		t.Fatal("nothing has changed")
	}
	for _, i := range []int{0, 150, folders - 1} {
		path := filepath.Join(dir, fmt.Sprint(i), "7")
		info, err := os.Stat(path)
		must(t, err)
		must(t, os.Chtimes(path, time.Time{}, info.ModTime().Add(1)))
		if snap.Same() {
			t.Errorf("a change in folder %d was not seen", i)
		}
		snap = parsed(t, func() *Taker {
			again := NewTaker(later())
			for i := range folders {
				again.Folder(filepath.Join(dir, fmt.Sprint(i)))
			}
			return again
		}())
	}
}

// Any damage makes it no snapshot at all.
func TestDamage(t *testing.T) {
	data, ok := newScene(t).look(later()).Format([]byte("the answer"))
	if !ok {
		t.Fatal("no snapshot")
	}
	for n := range data {
		if Parse(data[:n]) != nil {
			t.Fatalf("cut to %d bytes it is one", n)
		}
	}
	for i := range data {
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[i] ^= 1 << bit
			if Parse(damaged) != nil {
				t.Fatalf("with bit %d of byte %d turned it is one", bit, i)
			}
		}
	}
	for _, more := range []string{"x", "\x00", strings.Repeat("\x00", sha256.Size)} {
		if Parse(append(bytes.Clone(data), more...)) != nil {
			t.Fatalf("with %q behind it is one", more)
		}
	}
}

// FuzzParse gives it bodies with a right checksum: they may say anything, and must only ever be refused or be looked up.
func FuzzParse(f *testing.F) {
	data, _ := newScene(f).look(later()).Format([]byte("the answer"))
	f.Add(data[len(magic) : len(data)-sha256.Size])
	f.Add([]byte{0})
	f.Add([]byte("\x01a\x04\x01/\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		whole := append([]byte(magic), body...)
		sum := sha256.Sum256(whole)
		s := Parse(append(whole, sum[:]...))
		if s == nil {
			return
		}
		s.Same()
		if len(s.Answer()) > len(body) {
			t.Fatal("an answer came from nowhere")
		}
	})
}

func BenchmarkSame(b *testing.B) {
	dir := b.TempDir()
	taker, files := NewTaker(later()), 0
	for i := range 2000 {
		sub := filepath.Join(dir, fmt.Sprint(i))
		must(b, os.Mkdir(sub, 0o755))
		for k := range 6 {
			must(b, os.WriteFile(filepath.Join(sub, fmt.Sprint(k)), nil, 0o644))
			files++
		}
		taker.Folder(sub)
	}
	data, ok := taker.Format(nil)
	if !ok {
		b.Fatal("no snapshot")
	}
	for b.Loop() {
		if !Parse(data).Same() {
			b.Fatal("nothing has changed")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files+2000), "ns/call")
	b.ReportMetric(float64(len(data))/float64(files+2000), "bytes/entry")
}
