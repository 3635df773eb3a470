package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// Every console block of these documents is run, from the first to the last in one folder, and every line that is shown comes out. Models on the Hub come from a Hub of our own: acme/tiny-stories and
// acme/gated are the model of this repository, datasets/acme/stories has its text. Times and hashes differ, and where the Hub is; nothing else.
func TestDocuments(t *testing.T) {
	for _, name := range []string{"ci.md", "sources.md"} {
		t.Run(name, func(t *testing.T) {
			d := newDocument(t)
			text, err := os.ReadFile(filepath.Join(d.root, "docs", name))
			if err != nil {
				t.Fatal(err)
			}
			for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
				for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
					command, shown, _ := strings.Cut(part, "\n")
					d.run(command, shown)
				}
			}
			if d.ran < 5 {
				t.Errorf("only %d commands were run", d.ran)
			}
			if d.code != 0 {
				t.Errorf("the last command ended with %d, which is not shown", d.code)
			}
		})
	}
}

// document is one that is being run.
type document struct {
	t    *testing.T
	root string // of the repository
	hub  *hubtest.Hub
	ran  int
	code int // of the last command, not shown yet
}

func newDocument(t *testing.T) *document {
	t.Helper()
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "the documents show a POSIX shell")
	}
	tiny := oracle.TinyStories(t)
	d := &document{t: t, root: filepath.Dir(filepath.Dir(tiny)), hub: hubtest.New(t, hubtest.Options{LFSOver: 200_000})}
	for _, id := range []string{"acme/tiny-stories", "acme/gated"} {
		if _, err := d.hub.Repo("models", id).CommitDir("main", tiny); err != nil {
			t.Fatal(err)
		}
	}
	d.hub.Repo("models", "acme/gated").Commit("main", map[string][]byte{"generation_config.json": []byte(`{"eos_token_id": 2}`)}) // what is the same elsewhere would not be asked for
	d.hub.Repo("models", "acme/gated").Gate("auto")
	text, err := os.ReadFile(filepath.Join(tiny, "heldout.txt"))
	if err != nil {
		t.Fatal(err)
	}
	d.hub.Repo("datasets", "acme/stories").Commit("main", map[string][]byte{"data/heldout.txt": text})
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "GITHUB_ACTIONS"} {
		t.Setenv(name, "")
	}
	t.Setenv("MLXBUILD_CACHE", filepath.Join(dir, "cache"))
	t.Setenv("HOME", dir)
	t.Setenv("HF_HOME", filepath.Join(dir, ".cache", "huggingface"))
	t.Setenv("HF_ENDPOINT", d.hub.Endpoint())
	t.Setenv("NO_PROXY", "127.0.0.1,localhost")
	return d
}

// requestID is the Hub's name for one request, which is told with what it refuses.
var requestID = regexp.MustCompile(` \(request [^)]*\)`)

var someHash = regexp.MustCompile(`\b([0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{8,10})\b`)

// lines of what came or is shown, in one form.
func (d *document) lines(text string) []string {
	text = requestID.ReplaceAllString(strings.ReplaceAll(text, d.hub.Endpoint(), "https://huggingface.co"), "")
	return shownLines(someHash.ReplaceAllString(text, "HASH"))
}

// run a command, and look for what is shown.
func (d *document) run(command, shown string) {
	d.t.Helper()
	d.ran++
	if command == "echo $?" {
		if got := fmt.Sprint(d.code); got != strings.TrimSpace(shown) {
			d.t.Errorf("the exit code is %s, and %s is shown", got, shown)
		}
		d.code = 0
		return
	}
	if d.code != 0 {
		d.t.Errorf("the command before `%s` ended with %d, which is not shown", command, d.code)
		d.code = 0
	}
	if file, ok := strings.CutPrefix(command, "cat "); ok {
		if _, err := os.Stat(file); err != nil { // the document says what is in it
			if err := os.WriteFile(file, []byte(shown), 0o644); err != nil {
				d.t.Fatal(err)
			}
			return
		}
	}
	var out bytes.Buffer
	if args, ok := strings.CutPrefix(command, "mlxbuild "); ok {
		d.code = run(context.Background(), strings.Fields(strings.ReplaceAll(args, "'", "")), &out, &out)
	} else {
		cmd := exec.Command("sh", "-c", command)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			d.t.Fatalf("$ %s: %v\n%s", command, err, out.String())
		}
	}
	got := d.lines(out.String())
	for _, line := range d.lines(shown) {
		if !slices.Contains(got, line) {
			d.t.Errorf("$ %s\nshown is\n  %s\nand what came was\n  %s", command, line, strings.Join(strings.Split(out.String(), "\n"), "\n  "))
		}
	}
}

// The tables of exit codes are the program's.
func TestDocumentedExitCodes(t *testing.T) {
	root := filepath.Dir(filepath.Dir(oracle.TinyStories(t)))
	for _, name := range []string{"README.md", "docs/ci.md"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		want := "| exit code | meaning |\n| --- | --- |\n"
		for _, e := range exitCodes {
			want += fmt.Sprintf("| %d | %s |\n", e.Code, e.Meaning)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not have the table\n%s", name, want)
		}
	}
}
