package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

func open(t testing.TB, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// put stores a step's worth: one blob of a file, and its record.
func put(t testing.TB, c *cache.Cache, name string, content []byte) *cache.Record {
	t.Helper()
	stage, err := c.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Remove()
	if err := os.WriteFile(stage.Path("out"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	d := cache.SumBytes(content)
	if err := c.AddFile(stage.Path("out"), d); err != nil {
		t.Fatal(err)
	}
	k := key(name)
	r := &cache.Record{Key: k.Sum(), KeyText: k.Text(), Step: name, Tree: d, Seconds: 1, Outputs: []cache.Output{{Path: "out", Digest: d, Size: int64(len(content)), Mode: 0o644}}}
	if err := c.AddRecord(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func key(name string) *cache.KeyWriter {
	k := cache.NewKey("test")
	k.Param("name", name)
	return k
}

func TestKeyText(t *testing.T) {
	k := cache.NewKey("convert")
	k.Input("source", cache.SumBytes([]byte("x")))
	k.Param("quantization", map[string]any{"mode": "affine", "bits": 4, "group_size": nil, "overrides": []any{map[string]any{"match": []string{"lm_head"}}}})
	k.Param("dtype", "é<&\u2028")
	k.Param("a", 1e-7)
	k.Code("quant/1", "convert/3")
	k.Tool("mlx", "0.32.4")
	want := "mlxbuild-key 1\nkind convert\ncode convert/3 quant/1\nparam a 1e-7\nparam dtype \"é<&\u2028\"\n" +
		`param quantization {"bits":4,"group_size":null,"mode":"affine","overrides":[{"match":["lm_head"]}]}` + "\ntool mlx 0.32.4\n" +
		"input source 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\n"
	if k.Text() != want {
		t.Errorf("got\n%s\nwant\n%s", k.Text(), want)
	}
	if k.Sum() != cache.SumBytes([]byte(want)) {
		t.Error("the key is not the digest of its text")
	}
}

func TestDiffKeys(t *testing.T) {
	text := func(bits int, rules ...string) string {
		k := cache.NewKey("convert")
		list := []any{}
		for _, r := range rules {
			list = append(list, map[string]any{"match": r, "bits": 8})
		}
		k.Param("quantization", map[string]any{"bits": bits, "overrides": list})
		k.Code(fmt.Sprintf("quant/%d", len(rules)))
		return k.Text()
	}
	for _, c := range []struct{ old, new, want string }{
		{text(4), text(4), "[]"},
		{text(4, "a"), text(8, "a"), "[{param quantization bits 4 8}]"},
		{text(4, "a", "c"), text(4, "a", "b", "c"), `[{code quant  2 3} {param quantization overrides[1]  {"bits":8,"match":"b"}}]`},
		{text(4, "a", "b"), text(4, "a", "x"), `[{param quantization overrides[1].match "b" "x"}]`},
	} {
		if got := fmt.Sprint(cache.DiffKeys(c.old, c.new)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestBlobsAndRecords(t *testing.T) {
	c := open(t, t.TempDir())
	r := put(t, c, "one", []byte("hello"))
	path, size, err := c.Blob(r.Tree)
	info, _ := os.Stat(path)
	if err != nil || size != 5 || info.Mode().Perm() != 0o444 {
		t.Fatalf("%s %d %v %v", path, size, info.Mode(), err)
	}
	got, ok := c.Record(r.Key)
	if !ok || got.Step != "one" || !c.Complete(got) {
		t.Fatalf("%+v %v", got, ok)
	}
	if _, ok := c.Record(key("two").Sum()); ok {
		t.Error("a record that was never written")
	}
	if _, _, err := c.Blob(cache.SumBytes([]byte("other"))); !errors.Is(err, cache.ErrMissing) {
		t.Errorf("missing blob: %v", err)
	}
	if stages, _ := os.ReadDir(filepath.Join(c.Dir(), "tmp")); len(stages) != 0 {
		t.Errorf("stages are left: %v", stages)
	}
}

// Every way of damaging a record, at every byte: it is found to be damaged, or says what it said.
func TestDamagedRecords(t *testing.T) {
	c := open(t, t.TempDir())
	r := put(t, c, "one", []byte("hello"))
	path := filepath.Join(c.Dir(), "records", r.Key.String()[:2], r.Key.String())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Record(r.Key); ok && !bytes.Equal(data, whole) {
			t.Errorf("%s: a damaged record is believed", what)
		}
	}
	for n := range whole {
		check(fmt.Sprint("cut at ", n), whole[:n])
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[n] ^= 1 << bit
			check(fmt.Sprint("bit ", n, ".", bit), flipped)
		}
	}
	check("zeros", make([]byte, len(whole)))
}

// The memo, cut at every length and with every byte changed, is empty or right.
func TestDamagedMemo(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	for i := range 5 {
		c.SetMemo(cache.SumBytes([]byte{byte(i)}), cache.SumBytes([]byte{byte(i), 1}))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "stat")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := cache.Open(dir, cache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if v, ok := again.Memo(cache.SumBytes([]byte{byte(i)})); ok && v != cache.SumBytes([]byte{byte(i), 1}) {
				t.Error("a wrong fact")
			}
		}
	}
	for n := range whole {
		check(whole[:n])
		changed := bytes.Clone(whole)
		changed[n] ^= 0x10
		check(changed)
	}
	check(whole)
}

// What several processes learn is kept: saving merges.
func TestMemoMerges(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	k1, k2 := cache.SumBytes([]byte("1")), cache.SumBytes([]byte("2"))
	a.SetMemo(k1, k2)
	b.SetMemo(k2, k1)
	if a.Close() != nil || b.Close() != nil {
		t.Fatal("cannot save")
	}
	c := open(t, dir)
	if v, ok := c.Memo(k1); !ok || v != k2 {
		t.Error("the first is lost")
	}
	if v, ok := c.Memo(k2); !ok || v != k1 {
		t.Error("the second is lost")
	}
}

// A blob that somebody else wrote, or changed, is hashed before it is used.
func TestForeignBlobs(t *testing.T) {
	c := open(t, t.TempDir())
	r := put(t, c, "one", bytes.Repeat([]byte("x"), 1000))
	path, _, _ := c.Blob(r.Tree)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("y"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if c.Complete(r) {
		t.Error("a changed blob is believed")
	}
	d := cache.SumBytes([]byte("from elsewhere"))
	foreign := filepath.Join(c.Dir(), "blobs", d.String()[:2], d.String())
	if err := os.MkdirAll(filepath.Dir(foreign), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(foreign, []byte("from elsewhere"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Blob(d); err != nil {
		t.Errorf("a right blob from elsewhere: %v", err)
	}
}

func TestFileDigest(t *testing.T) {
	c := open(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "f")
	old := time.Now().Add(-time.Hour)
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	write("abc")
	read := 0
	d, _, err := c.FileDigest(path, func(int64) { read++ })
	if err != nil || d != cache.SumBytes([]byte("abc")) || read == 0 {
		t.Fatal(d, err, read)
	}
	read = 0
	if again, _, err := c.FileDigest(path, func(int64) { read++ }); err != nil || again != d || read != 0 {
		t.Errorf("a known file was read: %d, %v", read, err)
	}
	write("abd") // same size, same mtime: ctime tells
	if d, _, err := c.FileDigest(path, nil); err != nil || d != cache.SumBytes([]byte("abd")) {
		t.Errorf("a changed file has its old digest: %v", err)
	}
	if _, _, ok := c.KnownFileDigest(path); !ok {
		t.Error("a file that was hashed right after its writing is not known")
	}
	ahead := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.FileDigest(path, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := c.KnownFileDigest(path); ok == (runtime.GOOS == "windows") { // where nobody knows when that was said
		t.Errorf("a file that says it was written in the future: known %v", ok)
	}
	if start := time.Now(); cache.Settle(start.Add(time.Hour)) || time.Since(start) > time.Minute {
		t.Error("a file of the future settles")
	}
	if start := time.Now(); !cache.Settle(start) || time.Since(start) < 20*time.Millisecond {
		t.Error("a file of this instant settles at once")
	}
}

func TestPlace(t *testing.T) {
	c := open(t, t.TempDir())
	r := put(t, c, "one", []byte("weights"))
	dir := t.TempDir()
	target := filepath.Join(dir, "elsewhere")
	link := filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, writable := range []bool{true, false} {
		kind, err := c.Place(r.Tree, link, writable)
		if err != nil || writable && kind == cache.Hardlink {
			t.Fatalf("%s %v", kind, err)
		}
		data, _ := os.ReadFile(link)
		info, _ := os.Lstat(link)
		if string(data) != "weights" || info.Mode()&os.ModeSymlink != 0 || (info.Mode().Perm()&0o200 != 0) != writable {
			t.Errorf("writable %v: %q %v", writable, data, info.Mode())
		}
		if !c.Complete(r) {
			t.Error("the blob has to be hashed again after it was linked")
		}
	}
	if data, _ := os.ReadFile(target); string(data) != "precious" {
		t.Error("a symbolic link was followed")
	}
}

func TestGC(t *testing.T) {
	c := open(t, t.TempDir())
	var records []*cache.Record
	for i := range 6 {
		records = append(records, put(t, c, fmt.Sprint("s", i), bytes.Repeat([]byte{byte(i)}, 1000)))
	}
	build := t.TempDir()
	c.AddRoot(build, []cache.Digest{records[0].Key})
	lease, err := c.Lease([]cache.Digest{records[1].Key})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.GC(cache.GCOptions{MaxSize: 1, DryRun: true}); err != nil || r.Blobs != 4 || !c.Complete(records[5]) {
		t.Fatalf("dry run: %+v, %v", r, err)
	}
	r, err := c.GC(cache.GCOptions{MaxSize: 4500})
	if err != nil || r.Blobs != 2 || r.Records != 2 || r.BytesLeft != 4000 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err = c.GC(cache.GCOptions{MaxSize: 1}); err != nil || r.Blobs != 2 || !c.Complete(records[0]) || !c.Complete(records[1]) {
		t.Fatalf("held blobs are gone: %+v, %v", r, err)
	}
	lease.Release()
	if err := os.RemoveAll(build); err != nil {
		t.Fatal(err)
	}
	if r, err = c.GC(cache.GCOptions{MaxSize: 1}); err != nil || r.Blobs != 2 {
		t.Fatalf("after the lease and the folder: %+v, %v", r, err)
	}
	if found, err := c.Verify(context.Background(), cache.VerifyOptions{}); err != nil || len(found.Damages) != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
}

// A thousand damages of five kinds are all found, and repair leaves a cache without any.
func TestVerifyFindsEveryDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := open(t, t.TempDir())
	var paths []string
	for i := range 12 {
		r := put(t, c, fmt.Sprint(i), bytes.Repeat([]byte{byte(i), 7, 9}, 500+i))
		hex := r.Tree.String()
		paths = append(paths, filepath.Join(c.Dir(), "blobs", hex[:2], hex), filepath.Join(c.Dir(), "records", r.Key.String()[:2], r.Key.String()))
	}
	found := 0
	for range 1000 {
		path := paths[rng.IntN(len(paths))]
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(whole)
		switch at := rng.IntN(len(whole)); rng.IntN(4) {
		case 0:
			damaged[at] ^= 1 << rng.IntN(8)
		case 1:
			damaged = damaged[:at]
		case 2:
			damaged = make([]byte, len(whole))
		case 3:
			damaged = append(damaged, 'x')
		}
		replace(t, path, damaged)
		v, err := c.Verify(context.Background(), cache.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Damages) > 0 {
			found++
		}
		replace(t, path, whole)
	}
	if found != 1000 {
		t.Errorf("%d of 1000 damages were found", found)
	}
	os.Remove(paths[0])
	replace(t, paths[2], []byte("nonsense"))
	if _, err := c.Repair(context.Background()); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Verify(context.Background(), cache.VerifyOptions{}); err != nil || len(v.Damages) != 0 || v.Records != 10 {
		t.Errorf("after repair: %+v, %v", v, err)
	}
}

func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o444); err != nil {
		t.Fatal(err)
	}
}

func TestNewerCacheIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := cache.Open(dir, cache.Options{})
	var e *cache.Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), "newer") || e.Hint() == "" {
		t.Errorf("%v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"5GiB": 5 << 30, "500MB": 5e8, "1024": 1024, "1.5 KiB": 1536, "x": 0, "": 0, "-1GB": 0, "1e30GB": 0} {
		if got, err := cache.ParseSize(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// The rest runs this test binary as other processes.
func TestMain(m *testing.M) {
	switch os.Getenv("CACHE_TEST_CHILD") {
	case "builder":
		builder()
	case "killed":
		killed()
	case "taker":
		taker()
	default:
		os.Exit(m.Run())
	}
}

// builder makes 20 things under their locks, whoever comes first, and says which it made.
func builder() {
	c, err := cache.Open(os.Getenv("CACHE_TEST_DIR"), cache.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	for i := range 20 {
		k := key(fmt.Sprint(i))
		release, err := c.Lock(context.Background(), k.Sum(), func(string) {})
		if err != nil {
			panic(err)
		}
		if r, ok := c.Record(k.Sum()); !ok || !c.Complete(r) {
			put(panicker{}, c, fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 10_000))
			fmt.Println(i)
		}
		release()
	}
}

// panicker is a testing.TB for children, of which only these are used.
type panicker struct{ testing.TB }

func (panicker) Helper()           {}
func (panicker) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// Eight processes on one cache, with collections in between: each thing is made once, and nothing is lost.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	var mu sync.Mutex
	var out bytes.Buffer
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "CACHE_TEST_CHILD=builder", "CACHE_TEST_DIR="+dir)
			text, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			out.Write(text)
			if err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		}()
	}
	done := make(chan struct{})
	go func() {
		for i := 0; i < 20; i++ {
			if _, err := c.GC(cache.GCOptions{MaxSize: 1 << 30}); err != nil {
				t.Error(err)
			}
		}
		close(done)
	}()
	wg.Wait()
	<-done
	if made := len(strings.Fields(out.String())); made != 20 {
		t.Errorf("%d things were made, of 20", made)
	}
	if v, err := c.Verify(context.Background(), cache.VerifyOptions{}); err != nil || len(v.Damages) > 0 || v.Records != 20 {
		t.Errorf("%+v, %v", v, err)
	}
}

// killed stores things for ever, and says so before the first.
func killed() {
	c, err := cache.Open(os.Getenv("CACHE_TEST_DIR"), cache.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println("go")
	for i := 0; ; i++ {
		put(panicker{}, c, fmt.Sprint(os.Getpid(), i), bytes.Repeat([]byte(fmt.Sprint(i)), 5000))
		c.SetMemo(cache.SumBytes([]byte(fmt.Sprint(i))), cache.SumBytes([]byte("x")))
		c.Close()
	}
}

// Killed at any moment, the cache holds only what is whole.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CACHE_TEST_CHILD=killed", "CACHE_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.IntN(15_000)) * time.Microsecond)
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed; that is what it says
	}
	v, err := c.Verify(context.Background(), cache.VerifyOptions{})
	if err != nil || len(v.Damages) > 0 {
		t.Fatalf("%+v, %v", v.Damages, err)
	}
	if v.Records == 0 {
		t.Error("nothing was stored before the kills: the test proves nothing")
	}
}

func FuzzRecord(f *testing.F) {
	c := open(f, f.TempDir())
	r := put(f, c, "one", []byte("hello"))
	path := filepath.Join(c.Dir(), "records", r.Key.String()[:2], r.Key.String())
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, ok := c.Record(r.Key); ok && got.KeyText != r.KeyText {
			t.Fatal("a record about another key")
		}
	})
}

func FuzzMemo(f *testing.F) {
	dir := f.TempDir()
	c := open(f, dir)
	c.SetMemo(cache.SumBytes([]byte("a")), cache.SumBytes([]byte("b")))
	c.Close()
	whole, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "stat"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := cache.Open(dir, cache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := again.Memo(cache.SumBytes([]byte("a"))); ok && !bytes.Equal(data, whole) {
			t.Fatal("a damaged memo is believed")
		}
	})
}

func BenchmarkMemo(b *testing.B) {
	dir := b.TempDir()
	c := open(b, dir)
	for i := range 20_000 {
		c.SetMemo(cache.SumBytes([]byte(fmt.Sprint(i))), cache.SumBytes([]byte("x")))
	}
	c.Close()
	for b.Loop() {
		again, err := cache.Open(dir, cache.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range 1000 {
			if _, ok := again.Memo(cache.SumBytes([]byte(fmt.Sprint(i)))); !ok {
				b.Fatal("lost")
			}
		}
	}
}

// TestReserveSaysAllThatItNeeds: a disk may have more free than a result needs, and still too little.
func TestReserveSaysAllThatItNeeds(t *testing.T) {
	err := open(t, t.TempDir()).Reserve(1 << 55)
	if runtime.GOOS == "linux" && (err == nil || !strings.Contains(err.Error(), "it needs 36028797019 MB beside the 67 MB that are left to the file system, and the disk of ")) {
		t.Error(err)
	}
}
