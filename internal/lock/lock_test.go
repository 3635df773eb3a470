package lock

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/cache"
)

const commitA, commitB = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"

func example() *Lock {
	l := New()
	l.Set("hf:org/name@main", Pin{Kind: "model", Commit: commitA, Type: "llama"}, []File{
		{"model.safetensors", 1 << 40, cache.SumBytes([]byte("w"))}, {"config.json", 658, cache.SumBytes([]byte("c"))},
		{"a name \"with\" ünusual letters.txt", 1, cache.SumBytes([]byte("n"))}})
	l.Set("hf:other", Pin{Kind: "model", Commit: commitB, Type: "-"}, []File{{"additional_chat_templates/tool.jinja", 0, cache.SumBytes(nil)}})
	l.Set("hf:datasets/org/text@refs/pr/1", Pin{Kind: "dataset", Commit: commitB, Type: "-"}, []File{{"data/a.jsonl", 10, cache.SumBytes([]byte("d"))}})
	l.Tools["mlx"], l.Tools["python"] = "0.32.4", "3.13.1 (main, x)"
	return l
}

const written = `mlxbuild-lock 1
dataset hf:datasets/org/text@refs/pr/1 fedcba9876543210fedcba9876543210fedcba98 -
file hf:datasets/org/text@fedcba9876543210fedcba9876543210fedcba98 data/a.jsonl 10 sha256:18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4
file hf:org/name@0123456789abcdef0123456789abcdef01234567 "a name \"with\" \u00fcnusual letters.txt" 1 sha256:1b16b1df538ba12dc3f97edbb85caa7050d46c148134290feba80f8236c83db9
file hf:org/name@0123456789abcdef0123456789abcdef01234567 config.json 658 sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6
file hf:org/name@0123456789abcdef0123456789abcdef01234567 model.safetensors 1099511627776 sha256:50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326
file hf:other@fedcba9876543210fedcba9876543210fedcba98 additional_chat_templates/tool.jinja 0 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
model hf:org/name@main 0123456789abcdef0123456789abcdef01234567 llama sha256:06b43c60c4ffff082f71838d7cdad3cacee0ec475dd6a34ff1d97b5615e12587
model hf:other fedcba9876543210fedcba9876543210fedcba98 - sha256:b2aaa2435e18f6b0c4a52804d93ed509e0b5f5ae61e8f1e6062576f45e429780
tool mlx 0.32.4
tool python "3.13.1 (main, x)"
`

func TestFormat(t *testing.T) {
	if got := string(example().Format()); got != written {
		t.Errorf("wrote\n%s\nwant\n%s", got, written)
	}
	back, err := Parse(Name, []byte(written))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(back.Format()); got != written {
		t.Errorf("read back\n%s", got)
	}
	if p, files, ok := back.Of("hf:org/name@main"); !ok || p.Commit != commitA || p.Type != "llama" || len(files) != 3 || p.Tree != Tree(files) {
		t.Errorf("Of: %v %v %v", p, files, ok)
	}
	if _, _, ok := back.Of("hf:org/name"); ok {
		t.Error("the default branch is another question than main")
	}
}

// Two branches that each lock a model merge line by line, in whatever order git leaves the lines.
func TestMerge(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimPrefix(written, "mlxbuild-lock 1\n"), "\n")
	mixed := "mlxbuild-lock 1\n\n"
	for i := len(lines) - 1; i >= 0; i-- {
		mixed += lines[i] + lines[i]
	}
	l, err := Parse(Name, []byte(mixed))
	if err != nil {
		t.Fatal(err)
	}
	if string(l.Format()) != written {
		t.Errorf("merged to\n%s", l.Format())
	}
}

// writtenLine is the line of written about a file.
func writtenLine(path string) string {
	for _, line := range strings.SplitAfter(written, "\n") {
		if strings.Contains(line, " "+path+" ") {
			return line
		}
	}
	return ""
}

const tree = " sha256:50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326"

func TestBad(t *testing.T) {
	file := "file hf:org/name@" + commitA + " config.json 658 sha256:2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "mlxbuild.lock:1: this is no lock of mlxbuild"},
		"something else":     {"{}\n", "mlxbuild.lock:1: this is no lock of mlxbuild"},
		"binary":             {"mlxbuild-lock 1\n\x00", "mlxbuild.lock: it is not text"},
		"newer":              {"mlxbuild-lock 2\nnode x\n", "mlxbuild.lock:1: a newer mlxbuild wrote it (format 2; this one knows 1)"},
		"cut":                {"mlxbuild-lock 1\n" + file[:60], "mlxbuild.lock:2: the last line is cut off"},
		"conflict":           {"mlxbuild-lock 1\n<<<<<<< HEAD\n", "mlxbuild.lock:2: here is a mark of a merge conflict"},
		"conflict at once":   {"<<<<<<< HEAD\nmlxbuild-lock 1\n", "mlxbuild.lock:1: here is a mark of a merge conflict"},
		"two commits":        {"mlxbuild-lock 1\nmodel hf:a/b " + commitA + " llama" + tree + "\nmodel hf:a/b " + commitB + " llama" + tree + "\n", "mlxbuild.lock:3: hf:a/b is pinned twice, in another way on line 2"},
		"two contents":       {"mlxbuild-lock 1\n" + file + strings.Replace(file, "658", "659", 1), "mlxbuild.lock:3: config.json of hf:org/name is there twice, in another way on line 2"},
		"two versions":       {"mlxbuild-lock 1\ntool mlx 1\ntool mlx 2\n", "mlxbuild.lock:3: the tool mlx is there twice"},
		"a line is lost":     {strings.Replace(written, writtenLine("config.json"), "", 1), "mlxbuild.lock:7: the files of hf:org/name@main are not those that it was locked with"},
		"a line is changed":  {strings.Replace(written, " config.json 658 ", " config.json 659 ", 1), "mlxbuild.lock:8: the files of hf:org/name@main are not those"},
		"all lines are lost": {"mlxbuild-lock 1\nmodel hf:a/b " + commitA + " llama" + tree + "\n", "mlxbuild.lock:2: the files of hf:a/b are not those"},
		"no tree":            {"mlxbuild-lock 1\nmodel hf:a/b " + commitA + " llama\n", "mlxbuild.lock:2: this is not an entry"},
		"unknown entry":      {"mlxbuild-lock 1\nnode 22\n", `mlxbuild.lock:2: no entry begins with "node"`},
		"short commit":       {"mlxbuild-lock 1\nmodel hf:a/b 0123 llama\n", "mlxbuild.lock:2: this is not an entry"},
		"upper-case digest":  {"mlxbuild-lock 1\n" + strings.Replace(file, "2e7d", "2E7D", 1), "mlxbuild.lock:2: this is not an entry"},
		"negative size":      {"mlxbuild-lock 1\n" + strings.Replace(file, "658", "-8", 1), "mlxbuild.lock:2: this is not an entry"},
		"size with zeros":    {"mlxbuild-lock 1\n" + strings.Replace(file, "658", "0658", 1), "mlxbuild.lock:2: this is not an entry"},
		"two blanks":         {"mlxbuild-lock 1\ntool  mlx 1\n", "mlxbuild.lock:2: this is not an entry"},
		"other source":       {"mlxbuild-lock 1\nmodel https://a/b " + commitA + " llama\n", "mlxbuild.lock:2: this is not an entry"},
	} {
		_, err := Parse(Name, []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
			continue
		}
		if e := err.(*Error); e.Hint() == "" && name != "too long" {
			t.Errorf("%s: no hint", name)
		}
	}
	if l, err := Parse(Name, []byte(strings.ReplaceAll(written, "\n", "\r\n"))); err != nil || string(l.Format()) != written {
		t.Errorf("with Windows line ends: %v", err)
	}
}

// A lock cut at any byte is refused, or has only whole entries of the original.
func TestCut(t *testing.T) {
	whole, _ := Parse(Name, []byte(written))
	for n := range len(written) {
		l, err := Parse(Name, []byte(written[:n]))
		if err != nil {
			continue
		}
		for _, line := range Diff(whole, l) {
			if strings.HasPrefix(line, "+") {
				t.Fatalf("cut at %d: %s", n, line)
			}
		}
	}
}

func TestDiff(t *testing.T) {
	old, new := example(), example()
	new.Tools["mlx"] = "0.33.0"
	new.Prune(map[string][]string{"hf:org/name@main": nil, "hf:datasets/org/text@refs/pr/1": nil})
	got := strings.Join(Diff(old, new), "\n")
	for _, want := range []string{"-tool mlx 0.32.4", "+tool mlx 0.33.0", "-model hf:other ", "-file hf:other@"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if n := len(Diff(old, example())); n != 0 {
		t.Errorf("%d differences of equal locks", n)
	}
}

// What is read can be written, and is then the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(written))
	seeds, _ := filepath.Glob("testdata/*.lock")
	for _, s := range seeds {
		data, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(Name, data)
		if err != nil {
			return
		}
		text := l.Format()
		again, err := Parse(Name, text)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, text)
		}
		if !bytes.Equal(again.Format(), text) {
			t.Fatalf("not the same again:\n%s\n%s", text, again.Format())
		}
	})
}
