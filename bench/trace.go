package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// access is what a process did to one file.
type access struct {
	opens  int
	read   int64  // bytes that read calls returned
	mapped int64  // bytes mapped into memory, looked at or not
	parts  []part // what was read, where
	asked  []part // what of mappings was asked for by madvise, in whole pages: our code asks for each part of a source before it looks at it. What it looks at without asking, the file cache tells (watch)
}

// part is a run of bytes of a file.
type part struct{ from, to int64 }

// union are the same bytes in parts that do not overlap, in order.
func union(parts []part) (out []part) {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from, b.from) })
	for _, p := range parts {
		if last := len(out) - 1; last >= 0 && p.from <= out[last].to {
			out[last].to = max(out[last].to, p.to)
		} else {
			out = append(out, p)
		}
	}
	return out
}

func total(parts []part) (n int64) {
	for _, p := range parts {
		n += p.to - p.from
	}
	return n
}

// overlap counts the bytes that are in both; each list is a union.
func overlap(a, b []part) (n int64) {
	for _, p := range a {
		for _, q := range b {
			n += max(0, min(p.to, q.to)-max(p.from, q.from))
		}
	}
	return n
}

// pages are the whole pages that have bytes of parts.
func pages(parts []part) []part {
	page := int64(os.Getpagesize())
	var out []part
	for _, p := range parts {
		out = append(out, part{p.from / page * page, (p.to + page - 1) / page * page})
	}
	return union(out)
}

// accesses by path.
type accesses map[string]*access

func (a accesses) of(is func(path string) bool) accesses {
	some := accesses{}
	for path, x := range a {
		if is(path) {
			some[path] = x
		}
	}
	return some
}

func (a accesses) bytes() (n int64) {
	for _, x := range a {
		n += x.read
	}
	return n
}

func (a accesses) mapped() (n int64) {
	for _, x := range a {
		n += x.mapped
	}
	return n
}

func (a accesses) opened() (n int) {
	for _, x := range a {
		n += x.opens
	}
	return n
}

// trace runs a command under strace and returns what it did to files. Only Linux has it.
func (b *bench) trace(cmd *exec.Cmd) (accesses, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("bytes read are counted with strace, which is not installed: %w", err)
	}
	log := filepath.Join(b.work, "strace.log")
	cmd.Args = append([]string{strace, "-f", "-y", "-s", "0", "-e", "trace=open,openat,read,pread64,readv,preadv,preadv2,lseek,mmap,munmap,madvise,sendfile,copy_file_range", "-o", log}, cmd.Args...)
	cmd.Path = strace
	if _, err := once(cmd); err != nil {
		return nil, err
	}
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseTrace(f)
}

var (
	tracedCall    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (0x[0-9a-f]+|-?\d+)(<[^>]*>)?`)
	tracedStart   = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	tracedResumed = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	tracedFile    = regexp.MustCompile(`(\d+)<(/[^>]*)>`)
)

// parseTrace reads strace's log (-f -y). Calls that other threads interrupted stand in two lines, which are put together again.
func parseTrace(r io.Reader) (accesses, error) {
	seen, waiting := tracer{accesses{}, map[string]int64{}, map[int64]mapping{}}, map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := tracedStart.FindStringSubmatch(line); m != nil {
			waiting[m[1]] = m[2]
			continue
		}
		if m := tracedResumed.FindStringSubmatch(line); m != nil {
			line = m[1] + " " + waiting[m[1]] + m[2]
		}
		if m := tracedCall.FindStringSubmatch(line); m != nil {
			seen.add(m[2], m[3], m[4], m[5])
		}
	}
	return seen.accesses, lines.Err()
}

// tracer knows where each open file stands, by descriptor and path, and what is mapped, by address: what a program maps that another process has mapped at the same address is not told apart, but nothing that is traced starts others.
type tracer struct {
	accesses
	position map[string]int64
	mappings map[int64]mapping
}

// mapping is a part of a file in memory.
type mapping struct {
	path         string
	offset, size int64
}

// add takes one call to account.
func (a tracer) add(call, args, result, resultFile string) {
	n, err := strconv.ParseInt(result, 0, 64)
	if err != nil || n < 0 {
		return
	}
	if call == "open" || call == "openat" {
		if path := strings.Trim(resultFile, "<>"); strings.HasPrefix(path, "/") {
			a.file(path).opens++
			a.position[result+"<"+path+">"] = 0
		}
		return
	}
	if call == "sendfile" { // the file that is read comes second
		_, args, _ = strings.Cut(args, ", ")
	}
	fields := strings.Split(args, ", ")
	switch call {
	case "munmap":
		delete(a.mappings, number(fields[0]))
		return
	case "madvise":
		if advice := fields[len(fields)-1]; strings.Contains(advice, "MADV_WILLNEED") || strings.Contains(advice, "MADV_POPULATE_READ") {
			a.ask(number(fields[0]), number(fields[1]))
		}
		return
	}
	m := tracedFile.FindStringSubmatch(args)
	if m == nil {
		return
	}
	key, x := m[0], a.file(m[2])
	switch call {
	case "mmap":
		x.mapped += number(fields[1])
		a.mappings[n] = mapping{m[2], number(fields[len(fields)-1]), number(fields[1])}
	case "lseek":
		a.position[key] = n
	case "pread64", "preadv", "preadv2":
		at := number(fields[3])
		x.parts = append(x.parts, part{at, at + n})
		x.read += n
	default: // read, readv, and what copies from a descriptor inside the kernel
		x.parts = append(x.parts, part{a.position[key], a.position[key] + n})
		a.position[key] += n
		x.read += n
	}
}

// ask notes what of a file lies at addresses.
func (a tracer) ask(address, length int64) {
	for start, m := range a.mappings {
		from, to := max(address, start), min(address+length, start+m.size)
		if from < to {
			x := a.file(m.path)
			x.asked = append(x.asked, part{m.offset + from - start, m.offset + to - start})
		}
	}
}

// number is an argument that strace prints as one; another one is 0.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 0, 64)
	return n
}

func (a accesses) file(path string) *access {
	if a[path] == nil {
		a[path] = &access{}
	}
	return a[path]
}
