// Command soak tries for minutes or hours what tests try for seconds: that no fault gives a wrong byte.
//
//	go run ./internal/soak                     every part, each in its usual time
//	go run ./internal/soak kills power         only these
//	go run ./internal/soak -minutes 40 fuzz    each for about so long
//
// Each part prints a line of what it did and found, and adds it to the file that -out names. The exit code is 1 when a byte was wrong, or when a part found anything else that must not be. The tests of
// this package are the same parts, sampled so that they fit into a minute.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
)

// A part is one kind of fault.
type part struct {
	name, what string
	run        func(*soak) (*findings, error)
}

// parts, in the order they run when none is named.
var parts = []part{
	{"kills", "kill each command at each call that changes a file, then run it again", (*soak).kills},
	{"disk", "have the disk fail in every way at every call of each command, then run it again", (*soak).disk},
	{"power", "cut the power after each call, with each way of losing what was not synced, and read what is left", (*soak).power},
	{"state", "cut, flip and mangle every state file, and read it", (*soak).state},
	{"corrupt", "damage a cache, and want verify and repair to find just that", (*soak).corrupt},
	{"concurrency", "build on one cache with many processes, while it is collected and some are killed", (*soak).concurrency},
	{"network", "build from a Hub that goes wrong in seeded ways, then from one that does not", (*soak).network},
	{"fuzz", "give every parser of strangers' bytes inputs that are nearly right", (*soak).fuzz},
}

// soak is what every part works with.
type soak struct {
	ctx     context.Context
	root    string    // the checkout
	work    string    // scratch
	bin     string    // the program
	minutes float64   // for each part, 0 = as it likes
	ends    time.Time // of the part that runs; zero = when it is through
	sample  int       // 0 = everything
	seed    uint64
	workers int
	hub     *hubtest.Hub                     // that scenes fetch from
	staged  map[string]scene                 // see stages
	say     func(format string, args ...any) // what a person may want to see while it runs
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == storeCommand { // a child of this program
		if err := store(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == fuzzCommand {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // and then it still says what it has found
		defer stop()
		if err := fuzzChild(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := &soak{ctx: ctx, say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	flag.Float64Var(&s.minutes, "minutes", 0, "about how long each part may take (default: as the part likes)")
	flag.IntVar(&s.sample, "sample", 0, "so many points of kills and disk, spread over all (default: every point)")
	flag.Uint64Var(&s.seed, "seed", 1, "of everything random")
	flag.IntVar(&s.workers, "j", 2, "scenes at a time")
	out := flag.String("out", "", "file of results to add to, such as docs/soak.md")
	work := flag.String("work", "", "scratch folder (default: a temporary one, in memory where there is room)")
	flag.Usage = usage
	flag.Parse()
	ok, err := s.main(*work, *out, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintf(os.Stderr, "usage: go run ./internal/soak [flags] [part...]\n\n")
	for _, p := range parts {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", p.name, p.what)
	}
	fmt.Fprintln(os.Stderr)
	flag.PrintDefaults()
}

// main runs parts; ok says that all found nothing.
func (s *soak) main(work, out string, names []string) (ok bool, err error) {
	picked, err := pick(names)
	if err != nil {
		return false, err
	}
	if work == "" {
		work = inMemory()
	}
	if work, err = os.MkdirTemp(work, "mlxbuild-soak-"); err != nil {
		return false, err
	}
	defer removeAll(work)
	if err := s.prepare(work); err != nil {
		return false, err
	}
	defer s.hub.Close()
	return s.all(picked, out)
}

// all runs parts one after the other. What a part has found is told, whatever ended it.
func (s *soak) all(picked []part, out string) (ok bool, err error) {
	ok = true
	for _, p := range picked {
		started := time.Now()
		if s.minutes > 0 {
			s.ends = started.Add(time.Duration(s.minutes * float64(time.Minute)))
		}
		f, err := p.run(s)
		if f != nil {
			f.seconds = time.Since(started).Seconds()
			if err := s.tell(out, p, f); err != nil {
				return false, err
			}
			ok = ok && len(f.wrong) == 0
		}
		if s.ctx.Err() != nil {
			return false, errors.New("interrupted")
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return ok, nil
}

// tell prints what a part has found, and adds it to the file of results where there is one.
func (s *soak) tell(out string, p part, f *findings) error {
	fmt.Printf("%s: %s (%.0fs)\n", p.name, f, f.seconds)
	for _, w := range f.wrong {
		fmt.Println("  " + strings.ReplaceAll(w, "\n", "\n    "))
	}
	if out == "" {
		return nil
	}
	return s.note(out, p, f)
}

func pick(names []string) ([]part, error) {
	if len(names) == 0 {
		return parts, nil
	}
	var picked []part
	for _, name := range names {
		before := len(picked)
		for _, p := range parts {
			if p.name == name {
				picked = append(picked, p)
			}
		}
		if len(picked) == before {
			return nil, fmt.Errorf("there is no part %q (go run ./internal/soak -help lists them)", name)
		}
	}
	return picked, nil
}

// prepare finds the checkout and builds the program.
func (s *soak) prepare(work string) error {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(mod)), "go.mod") {
		return errors.New("run it inside the checkout: go run ./internal/soak")
	}
	s.root, s.work = filepath.Dir(strings.TrimSpace(string(mod))), work
	s.bin = filepath.Join(s.work, "mlxbuild")
	build := exec.Command("go", "build", "-o", s.bin, "./cmd/mlxbuild")
	build.Dir = s.root
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/mlxbuild: %w\n%s", err, said)
	}
	tiny := filepath.Join(s.work, "tiny")
	if err := os.CopyFS(tiny, os.DirFS(filepath.Join(s.root, "models", "tiny-stories"))); err != nil {
		return err
	}
	s.hub, err = startHub(tiny)
	return err
}

// startHub starts a Hub that has the model.
func startHub(dir string) (*hubtest.Hub, error) {
	h, err := hubtest.Start(hubtest.Options{LFSOver: 200_000})
	if err != nil {
		return nil, err
	}
	if _, err := h.Repo("models", "org/tiny").CommitDir("main", dir); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// env says to the program where the Hub is.
func (s *soak) env() []string { return []string{"HF_ENDPOINT=" + s.hub.Endpoint()} }

// inMemory is a folder on a disk in memory, "" when there is none with room. Nothing here needs a real disk: what a disk may do wrong is done to the calls.
func inMemory() string {
	const dir = "/dev/shm"
	if free := freeBytes(dir); free > 3<<30 {
		return dir
	}
	return ""
}

// over reports whether a part has to end.
func (s *soak) over() bool {
	return s.ctx.Err() != nil || !s.ends.IsZero() && time.Now().After(s.ends)
}

// overAfter is over for what could go on for ever: it ends after so many minutes where nobody says how long.
func (s *soak) overAfter(started time.Time, usual float64) bool {
	return s.over() || s.ends.IsZero() && time.Since(started) > time.Duration(usual*float64(time.Minute))
}

// removeAll removes read-only folders too.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o777)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
