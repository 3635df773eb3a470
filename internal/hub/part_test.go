package hub

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leave makes a part as another process leaves it.
func leave(t *testing.T, dir, host string, pid int, f File, r record) partName {
	t.Helper()
	n := newPartName(f.oid())
	random := n.base[strings.LastIndexByte(n.base, '-')+1:]
	n.host, n.pid = host, pid
	n.base = f.oid() + "." + host + "-" + strconv.Itoa(pid) + "-" + random
	slot, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	for ext, data := range map[string][]byte{".part": content(int(f.Size)), ".journal": slot} {
		if err := os.WriteFile(filepath.Join(dir, n.base+ext), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// age makes a part look as if nobody had touched it for a while.
func age(t *testing.T, dir string, n partName, d time.Duration) {
	t.Helper()
	then := time.Now().Add(-d)
	for _, ext := range []string{".part", ".journal"} {
		if err := os.Chtimes(filepath.Join(dir, n.base+ext), then, then); err != nil {
			t.Fatal(err)
		}
	}
}

// goneProcess is a number that no process has.
func goneProcess(t *testing.T) int {
	for pid := 99999999; pid > 0; pid-- {
		if !processLives(pid) {
			return pid
		}
	}
	t.Fatal("every process lives")
	return 0
}

func TestAdopt(t *testing.T) {
	data := content(1000)
	f := lfsFile("a", data)
	r := record{Seq: 1, OID: f.oid(), Size: f.Size, Spans: [][2]int64{{0, 100}, {200, 300}}, Hashed: 100, Sum: sha256Hex(data[:100])}
	gone := goneProcess(t)
	for _, c := range []struct {
		name string
		host string
		pid  int
		age  time.Duration
		want bool
	}{
		{"its process is gone", thisHost(), gone, 0, true},
		{"its process lives", thisHost(), os.Getppid(), time.Hour, false},
		{"our number, from before", thisHost(), os.Getpid(), 0, true},
		{"another machine, just now", "0badc0de", gone, time.Minute, false},
		{"another machine, long ago", "0badc0de", os.Getppid(), time.Hour, true},
	} {
		dir := t.TempDir()
		n := leave(t, dir, c.host, c.pid, f, r)
		age(t, dir, n, c.age)
		p := adoptPart(dir, f)
		if (p != nil) != c.want {
			t.Errorf("%s: taken over: %v", c.name, p != nil)
		}
		if p == nil {
			continue
		}
		if p.known.have().total() != 200 || !p.mine() {
			t.Errorf("%s: %+v", c.name, p.known)
		}
		if q := adoptPart(dir, f); q != nil {
			t.Errorf("%s: taken over twice", c.name)
		}
		p.keep()
		if p = adoptPart(dir, f); p == nil || p.known.have().total() != 200 {
			t.Errorf("%s: not taken over again", c.name)
		} else {
			p.remove()
		}
		if rest, _ := os.ReadDir(dir); len(rest) > 0 {
			t.Errorf("%s: left over: %v", c.name, rest)
		}
	}
}

// While somebody holds the lock, nothing else counts.
func TestAdoptLocked(t *testing.T) {
	f := lfsFile("a", content(1000))
	dir := t.TempDir()
	n := leave(t, dir, thisHost(), goneProcess(t), f, record{OID: f.oid(), Size: f.Size, Spans: [][2]int64{{0, 100}}})
	unlock, free, err := lockPart(filepath.Join(dir, n.base+".lock"))
	if err != nil || !free {
		t.Fatal(free, err)
	}
	if adoptPart(dir, f) != nil {
		t.Error("taken over while it is locked")
	}
	unlock()
	p := adoptPart(dir, f)
	if p == nil {
		t.Fatal("not taken over")
	}
	p.remove()
}

// Of several the fullest is taken.
func TestAdoptFullest(t *testing.T) {
	f := lfsFile("a", content(1000))
	dir := t.TempDir()
	for _, n := range []int64{100, 900, 500} {
		leave(t, dir, thisHost(), goneProcess(t), f, record{OID: f.oid(), Size: f.Size, Spans: [][2]int64{{0, n}}})
	}
	p := adoptPart(dir, f)
	if p == nil || p.known.have().total() != 900 {
		t.Fatalf("%+v", p)
	}
	p.remove()
}

func TestCleanParts(t *testing.T) {
	dir := t.TempDir()
	old, wanted, young, busy := lfsFile("a", content(1000)), lfsFile("b", content(1001)), lfsFile("c", content(1002)), lfsFile("d", content(1003))
	for _, f := range []File{old, wanted, young} {
		n := leave(t, dir, thisHost(), goneProcess(t), f, record{OID: f.oid(), Size: f.Size})
		if f != young {
			age(t, dir, n, 48*time.Hour)
		}
	}
	working, err := createPart(dir, busy.oid())
	if err != nil {
		t.Fatal(err)
	}
	defer working.remove()
	past := time.Now().Add(-48 * time.Hour)
	for _, ext := range []string{".part", ".lock"} {
		if err := os.Chtimes(working.path(ext), past, past); err != nil {
			t.Fatal(err)
		}
	}
	stranger := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	freed, err := CleanParts(dir, func(oid string) bool { return oid == wanted.oid() }, 24*time.Hour)
	if err != nil || freed < 1000 {
		t.Errorf("%d, %v", freed, err)
	}
	left := map[string]bool{}
	for _, n := range partsIn(dir, func(string) bool { return true }) {
		left[n.oid] = true
	}
	if left[old.oid()] || !left[wanted.oid()] || !left[young.oid()] || !left[busy.oid()] {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Lstat(stranger); err != nil {
		t.Error("a file of somebody else was removed")
	}
	if _, err := CleanParts(filepath.Join(dir, "none"), nil, 0); err != nil {
		t.Error(err)
	}
}

// The journal at every length, and with every bit of its records flipped: what is read is what was written, an older record, or nothing.
func TestJournalDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := createJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	var wrote []record
	for i := range 3 {
		r := record{OID: strings.Repeat("a", 64), Size: 1 << 40, ETag: `"x"`, Spans: [][2]int64{{0, int64(i+1) * 1000}, {5000, 6000 + int64(i)}}, Hashed: 10, Sum: strings.Repeat("b", 64)}
		if err := j.write(r); err != nil {
			t.Fatal(err)
		}
		wrote = append(wrote, r)
	}
	j.file.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		r, ok := decodeJournal(data)
		if !ok {
			return
		}
		for _, w := range wrote[1:] {
			if r.Hashed == w.Hashed && r.Sum == w.Sum && r.OID == w.OID && r.Size == w.Size && len(r.Spans) == 2 && r.Spans[0] == w.Spans[0] && r.Spans[1] == w.Spans[1] {
				return
			}
		}
		t.Fatalf("%s: %+v", what, r)
	}
	if r, ok := decodeJournal(data); !ok || r.Spans[0][1] != 3000 {
		t.Fatalf("%+v", r)
	}
	for n := 0; n <= len(data); n += 61 {
		check("cut", data[:n])
	}
	for at := 0; at < len(data); at++ {
		if at%slotSize > 350 && at%499 > 0 { // padding: a sample
			continue
		}
		for bit := range 8 {
			data[at] ^= 1 << bit
			check("flip", data)
			data[at] ^= 1 << bit
		}
	}
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
}

func TestSpans(t *testing.T) {
	var s spans
	have := make([]bool, 64)
	for i := range 400 {
		from := int64(i * 37 % 61)
		x := span{from, min(from+int64(i%5), 64)}
		var fresh, want int64
		s, fresh = s.add(x)
		for b := x.from; b < x.to; b++ {
			if !have[b] {
				have[b] = true
				want++
			}
		}
		if fresh != want {
			t.Fatalf("add(%v): %d new, want %d", x, fresh, want)
		}
		for k := 1; k < len(s); k++ {
			if s[k-1].to >= s[k].from {
				t.Fatalf("%v", s)
			}
		}
		missing := make([]bool, 64)
		for _, g := range s.gaps(span{3, 60}) {
			for b := g.from; b < g.to; b++ {
				missing[b] = true
			}
		}
		for b := 3; b < 60; b++ {
			if missing[b] == have[b] {
				t.Fatalf("gaps of %v at %d", s, b)
			}
		}
		if i == 200 {
			s, have = nil, make([]bool, 64)
		}
	}
}
