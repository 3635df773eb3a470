package hub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseRepo(t *testing.T) {
	for ref, want := range map[string]Repo{
		"org/name":                {"models", "org/name"},
		"gpt2":                    {"models", "gpt2"},
		"Org_1/Llama-3.2-1B_x":    {"models", "Org_1/Llama-3.2-1B_x"},
		"datasets/org/name":       {"datasets", "org/name"},
		"datasets/squad":          {"datasets", "squad"},
		strings.Repeat("a", 96):   {"models", strings.Repeat("a", 96)},
		"_/_":                     {"models", "_/_"},
		"org/" + "n.gitx":         {"models", "org/n.gitx"},
		"models/x":                {"models", "models/x"},
		"datasets_/" + "datasets": {"models", "datasets_/datasets"},
	} {
		got, err := ParseRepo(ref)
		if err != nil || got != want || got.String() != ref {
			t.Errorf("%s: %+v (%s), %v", ref, got, got, err)
		}
	}
	for _, ref := range []string{"", "/", "a/", "/a", "a/b/c", "datasets/", "datasets/a/b/c", "a b", "a/b\n", "a--b", "a..b", "a.git", "-a", "a-", ".a", "a.", "a/é", "a/b?", "a/b%2f", "..", "a/..", "a\\b",
		strings.Repeat("a", 97), "a/b#c", "a@b", "a/\x00"} {
		r, err := ParseRepo(ref)
		var e *Error
		if !errors.As(err, &e) || e.Class != Name || e.Hint() == "" {
			t.Errorf("%q is accepted: %+v, %v", ref, r, err)
		}
	}
}

// hostile are names that some operating system takes for something else.
func hostile() []string {
	names := []string{"", ".", "..", "/", "//", "a//b", "/a", "a/", "a/.", "a/..", "./a", "../a", "a/../b", "a/../../b", "a/./b", `\`, `a\b`, `..\a`, `a\..\..\b`, `\\server\share`, `\\?\C:\x`, "C:", "C:a", "c:/a", `C:\a`,
		"a:stream", "a::$DATA", "a/b:c", "a\x00", "\x00", "a\nb", "a\rb", "a\tb", "a\x7fb", "a\x1b[2Jb", "a\u0085b", "\xff", "a\xc3", "a\xed\xa0\x80", "a\u202eb", "a\u2066b", "a\u2028b", "a\u2029b", "a\ufffdb",
		"a.", "a ", "a. ", "a .", "a/b./c", "a/b /c", "...", ". .", "a...", "~/a:", "a<b", "a>b", `a"b`, "a|b", "a?b", "a*b", ".git", ".GIT/config", "a/.Git/hooks/post-checkout",
		strings.Repeat("a", 256), strings.Repeat("é", 128), strings.Repeat("a/", 600) + "a", "a/" + strings.Repeat("b", 256) + "/c"}
	devices := []string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
	for i := range 10 {
		devices = append(devices, fmt.Sprint("COM", i), fmt.Sprint("LPT", i))
	}
	devices = append(devices, "COM¹", "COM²", "LPT³")
	for _, d := range devices {
		names = append(names, d, strings.ToLower(d), d+".txt", "a/"+d, d+"/b", "a/"+strings.ToLower(d)+".json/b", d+" .txt", d+".tar.gz", strings.ToLower(d[:1])+d[1:])
	}
	for _, up := range []string{"..", "../..", `..\..`, "%2e%2e\\", "..%5c:"} {
		for _, rest := range []string{"/etc/passwd", `\Windows\win.ini`, "/a:b", "/.", "/x/..", "/nul"} {
			names = append(names, "a/"+up+rest, up+rest)
		}
	}
	for _, c := range []string{"\x01", "\x02", "\x08", "\x0b", "\x0c", "\x0e", "\x1f", "\u0080", "\u009f", "\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u2067", "\u2068", "\u2069", "\u061c"} {
		names = append(names, c, "a"+c, c+"a", "a/"+c, "a"+c+"/b", "model"+c+".safetensors", c+"/"+c)
	}
	return names
}

func TestCheckPath(t *testing.T) {
	names := hostile()
	if len(names) < 500 {
		t.Errorf("only %d hostile names", len(names))
	}
	for _, n := range names {
		var e *Error
		if err := CheckPath(n); !errors.As(err, &e) || e.Class != Name || e.Hint() == "" || strings.ContainsAny(err.Error(), "\n\x1b\u202e") {
			t.Errorf("%q is accepted, or told badly: %v", n, err)
		}
	}
	for _, n := range []string{"config.json", "model-00001-of-00002.safetensors", "a/b/c.txt", ".gitattributes", ".a/b", "ünïcode/模型.bin", "a b.txt", "a~1", "console", "NULL", "com", "COM10", "a+b=c&d;e,f(g)[h]{i}!@#$%^'`", "-", "_",
		"onnx/decoder.onnx_data", "..a", "a..b", "aux_loss.py", "com1x.txt", "lpt.txt", strings.Repeat("a", 255), "👍.txt", "README"} {
		if err := CheckPath(n); err != nil {
			t.Errorf("%q: %v", n, err)
		}
	}
}

func TestCheckPaths(t *testing.T) {
	if err := CheckPaths([]string{"a", "b/a", "b/c", "B/d", "config.json", "ss"}); err != nil {
		t.Error(err)
	}
	for _, pair := range [][2]string{
		{"a", "a"}, {"a", "A"}, {"a/b", "a/B"}, {"a/b", "A/b"}, {"README.md", "readme.MD"}, {"é", "e\u0301"}, {"É", "e\u0301"}, {"ß", "SS"}, {"ß", "ẞ"}, {"ﬁ", "fi"}, {"K", "\u212a"}, {"Å", "\u212b"}, {"ς", "σ"}, {"Σ", "ς"},
		{"ǆ", "Ǆ"}, {"가", "\u1100\u1161"}, {"a\u0323\u0307", "a\u0307\u0323"}, {"ſ", "s"}, {"a", "a/b"}, {"A", "a/b"}, {"a/B", "A/b/c"}, {"ﬀ", "FF"}, {"Ω", "\u2126"},
	} {
		for _, list := range [][]string{{pair[0], "x", pair[1]}, {pair[1], pair[0]}} {
			if err := CheckPaths(list); ClassOf(err) != Name {
				t.Errorf("%q: %v", list, err)
			}
		}
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, n := range hostile() {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckPath(name)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Fatalf("%q", err)
			}
			return
		}
		if name == "" || strings.ContainsAny(name, "\\:\x00") || strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") || strings.Contains("/"+name+"/", "/./") || strings.Contains(name, "//") {
			t.Fatalf("%q is accepted", name)
		}
		if CheckPaths([]string{name, strings.ToUpper(name)}) == nil {
			t.Fatalf("%q and its upper case are kept apart", name)
		}
	})
}
