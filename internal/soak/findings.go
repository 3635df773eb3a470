package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/machine"
)

// findings of a part: what was done, counted, and what must not be. It may be filled from several goroutines.
type findings struct {
	ctx     context.Context // of the run: what goes wrong once it is interrupted is no finding, as a terminal interrupts every process
	mu      sync.Mutex
	names   []string
	counts  map[string]int64
	wrong   []string
	seconds float64
}

func (s *soak) newFindings(names ...string) *findings {
	return &findings{ctx: s.ctx, names: names, counts: map[string]int64{}}
}

// add to a count. A new one is shown behind the others.
func (f *findings) add(name string, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.counts[name]; !ok {
		known := false
		for _, have := range f.names {
			known = known || have == name
		}
		if !known {
			f.names = append(f.names, name)
		}
	}
	f.counts[name] += n
}

// bad notes something that must not be; of very many only the first are kept.
func (f *findings) bad(format string, args ...any) {
	if f.ctx.Err() != nil {
		return
	}
	f.add("wrong", 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wrong) < 50 {
		f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
	}
}

// String is the counts, such as "2,143 points, 0 wrong", and whether the part was interrupted.
func (f *findings) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, name := range f.names {
		if name != "wrong" {
			out = append(out, thousands(f.counts[name])+" "+name)
		}
	}
	out = append(out, thousands(f.counts["wrong"])+" wrong")
	if f.ctx.Err() != nil {
		out = append(out, "interrupted")
	}
	return strings.Join(out, ", ")
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

const header = `# Soak

What ` + "`go run ./internal/soak -out docs/soak.md`" + ` did and found, one line a part and run. A part is bounded by itself; docs in internal/soak say what each one tries.

| date | commit | machine | part | done and found | minutes |
| --- | --- | --- | --- | --- | ---: |
`

// note adds a line to the file of results.
func (s *soak) note(path string, p part, f *findings) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		return err
	}
	line := fmt.Sprintf("| %s | %s | %s | %s | %s | %.1f |\n", time.Now().UTC().Format(time.DateOnly), s.commit(), machine.Read(), p.name, f, f.seconds/60)
	if info.Size() == 0 {
		line = header + line
	}
	_, err = out.WriteString(line)
	return err
}

// commit of the checkout, with a + when files are changed.
func (s *soak) commit() string {
	head := exec.Command("git", "rev-parse", "--short", "HEAD")
	head.Dir = s.root
	name, err := head.Output()
	if err != nil {
		return "unknown"
	}
	status := exec.Command("git", "status", "--porcelain", "--untracked-files=no")
	status.Dir = s.root
	if changes, err := status.Output(); err != nil || len(changes) > 0 {
		return strings.TrimSpace(string(name)) + "+"
	}
	return strings.TrimSpace(string(name))
}
