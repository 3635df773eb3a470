//go:build unix

package snapshot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// taken is a snapshot on disk.
type taken []byte

// Same looks again.
func (data taken) Same() bool {
	said, ok := Same(bytes.NewReader(data), int64(len(data)))
	return ok && string(said) == "the answer"
}

func mustTake(t testing.TB, taker *Taker) taken {
	t.Helper()
	data, ok := taker.Format([]byte("the answer"))
	if !ok {
		t.Fatal("everything is old, and there is no snapshot")
	}
	return data
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
			snap := mustTake(t, s.look(later()))
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
	snap := mustTake(t, s.look(later()))
	time.Sleep(15 * time.Millisecond)
	must(t, os.WriteFile(s.at("source/more/../../unrelated"), nil, 0o644))
	must(t, os.WriteFile(s.at("records/another"), nil, 0o644))
	must(t, os.WriteFile(s.at("elsewhere/c"), nil, 0o644))
	if !snap.Same() {
		t.Error("files that nobody looked at count")
	}
}

// What was missed must still be missing: a folder that has come may be older than the program that looked for it.
func TestAbsent(t *testing.T) {
	s := newScene(t)
	look := func() bool {
		taker := NewTaker(later())
		taker.Absent(s.at("environment/bin/python"))
		_, ok := taker.Format(nil)
		return ok
	}
	if !look() {
		t.Error("nothing has come, and there is no snapshot")
	}
	must(t, os.MkdirAll(s.at("staging/bin"), 0o755))
	must(t, os.WriteFile(s.at("staging/bin/python"), nil, 0o755))
	must(t, os.Rename(s.at("staging"), s.at("environment")))
	if look() {
		t.Error("it has come, and there is a snapshot")
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
	snap := mustTake(t, taker)
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
		snap = mustTake(t, func() *Taker {
			again := NewTaker(later())
			for i := range folders {
				again.Folder(filepath.Join(dir, fmt.Sprint(i)))
			}
			return again
		}())
	}
}

// Any damage makes it no snapshot at all, and so do blocks of another one.
func TestDamage(t *testing.T) {
	data := mustTake(t, newScene(t).look(later()))
	if !data.Same() {
		t.Fatal("nothing has changed")
	}
	for n := range data {
		if data[:n].Same() {
			t.Fatalf("cut to %d bytes it is one", n)
		}
	}
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if data.Same() {
				t.Fatalf("with bit %d of byte %d turned it is one", bit, i)
			}
			data[i] ^= 1 << bit
		}
	}
	for _, more := range []string{"x", "\x00", strings.Repeat("\x00", blockSize), string(data)} {
		if taken(append(bytes.Clone(data), more...)).Same() {
			t.Fatalf("with %.9q behind it is one", more)
		}
	}
}

// TestBlocks has more entries than a block, in folders that are worth opening and in others. Blocks in another order, or fewer of them, are no snapshot.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		sub := longFolder(dir, i)
		must(t, os.MkdirAll(sub, 0o755))
		for k := range 1 + i%7 {
			must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(k)), nil, 0o644))
		}
	}
	data := mustTake(t, lookIntoLong(dir))
	blocks := slices.Collect(slices.Chunk(data, blockSize))
	if len(blocks) < 5 || !data.Same() {
		t.Fatalf("%d blocks, the same: %v", len(blocks), data.Same())
	}
	for i := range blocks {
		for k := range i {
			others := slices.Clone(blocks)
			others[i], others[k] = others[k], others[i]
			if taken(slices.Concat(others...)).Same() {
				t.Fatalf("with blocks %d and %d in each other's place it is one", i, k)
			}
			others[i] = others[k]
			if taken(slices.Concat(others...)).Same() {
				t.Fatalf("with block %d twice it is one", i)
			}
		}
		if taken(slices.Concat(slices.Delete(slices.Clone(blocks), i, i+1)...)).Same() {
			t.Fatalf("without block %d it is one", i)
		}
	}
	for i := range 300 {
		name := filepath.Join(longFolder(dir, i), "0")
		info, err := os.Stat(name)
		must(t, err)
		before := mustTake(t, lookIntoLong(dir))
		must(t, os.Chtimes(name, time.Time{}, info.ModTime().Add(1)))
		if before.Same() {
			t.Fatalf("%s was touched, and it was not seen", name)
		}
	}
}

func longFolder(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprint(i), strings.Repeat("long", 20))
}

func lookIntoLong(dir string) *Taker {
	taker := NewTaker(later())
	for i := range 300 {
		for k := range 1 + i%7 {
			taker.File(filepath.Join(longFolder(dir, i), fmt.Sprint(k)))
		}
	}
	return taker
}

// What does not fit into a block is in no snapshot.
func TestTooLong(t *testing.T) {
	for n := blockSize - 200; n < blockSize; n++ {
		said := bytes.Repeat([]byte("x"), n)
		data, ok := NewTaker(later()).Format(said)
		if !ok {
			if n < blockEnd-blockStart-8 {
				t.Errorf("%d bytes are too long", n)
			}
			continue
		}
		if got, same := Same(bytes.NewReader(data), int64(len(data))); !same || !bytes.Equal(got, said) {
			t.Fatalf("of %d bytes %d came back", n, len(got))
		}
	}
	if _, ok := NewTaker(later()).Format(make([]byte, blockSize)); ok {
		t.Error("an answer of a whole block fits into one")
	}
}

// FuzzSame gives it blocks with right checksums: they may say anything, and must only ever be refused or be looked up.
func FuzzSame(f *testing.F) {
	data := mustTake(f, newScene(f).look(later()))
	f.Add([]byte(data[blockStart:bytes.LastIndexAny(data[:blockEnd], "abcdefghijklmnopqrstuvwxyz")]), []byte{})
	f.Add([]byte{0}, []byte{1})
	f.Add([]byte("\x01\x09a"), []byte{})
	f.Add([]byte("\x01\x01a\x02\x01/\x03\x06nobody"), []byte("\x02\x01/\x03\x01a"))
	f.Add([]byte("\x01\x01a\x03\x01a"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		w := writer{payloads: [][]byte{first[:min(len(first), blockEnd-blockStart)], second[:min(len(second), blockEnd-blockStart)]}}
		data := w.blocks()
		if said, ok := Same(bytes.NewReader(data), int64(len(data))); ok && !bytes.Contains(data[:blockEnd], said) {
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
	data := mustTake(b, taker)
	for b.Loop() {
		if !taken(data).Same() {
			b.Fatal("nothing has changed")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files+2000), "ns/call")
	b.ReportMetric(float64(len(data))/float64(files+2000), "bytes/entry")
}
