package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// access is what a process did to one file.
type access struct {
	opens  int
	read   int64  // bytes that read calls returned
	mapped int64  // bytes mapped into memory: read or not, nobody can tell
	parts  []part // what was read, where
}

// part is a run of bytes of a file.
type part struct{ from, to int64 }

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
	cmd.Args = append([]string{strace, "-f", "-y", "-s", "0", "-e", "trace=open,openat,read,pread64,readv,preadv,preadv2,lseek,mmap,sendfile,copy_file_range", "-o", log}, cmd.Args...)
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
	tracedCall    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)(<[^>]*>)?`)
	tracedStart   = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	tracedResumed = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	tracedFile    = regexp.MustCompile(`(\d+)<(/[^>]*)>`)
)

// parseTrace reads strace's log (-f -y). Calls that other threads interrupted stand in two lines, which are put together again.
func parseTrace(r io.Reader) (accesses, error) {
	seen, waiting, position := accesses{}, map[string]string{}, map[string]int64{}
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
			seen.add(m[2], m[3], m[4], m[5], position)
		}
	}
	return seen, lines.Err()
}

// add takes one call to account. position knows where each open file stands, by descriptor and path.
func (a accesses) add(call, args, result, resultFile string, position map[string]int64) {
	n, err := strconv.ParseInt(result, 0, 64)
	if err != nil || n < 0 {
		return // a mapping's address may be any number; mappings are counted by their length below
	}
	if call == "open" || call == "openat" {
		if path := strings.Trim(resultFile, "<>"); strings.HasPrefix(path, "/") {
			a.file(path).opens++
			position[result+"<"+path+">"] = 0
		}
		return
	}
	if call == "sendfile" { // the file that is read comes second
		_, args, _ = strings.Cut(args, ", ")
	}
	m := tracedFile.FindStringSubmatch(args)
	if m == nil {
		return
	}
	key, x := m[0], a.file(m[2])
	fields := strings.Split(args, ", ")
	switch call {
	case "mmap":
		if length, err := strconv.ParseInt(fields[1], 0, 64); err == nil {
			x.mapped += length
		}
	case "lseek":
		position[key] = n
	case "pread64", "preadv", "preadv2":
		if at, err := strconv.ParseInt(fields[3], 0, 64); err == nil {
			x.parts = append(x.parts, part{at, at + n})
		}
		x.read += n
	default: // read, readv, and what copies from a descriptor inside the kernel
		x.parts = append(x.parts, part{position[key], position[key] + n})
		position[key] += n
		x.read += n
	}
}

func (a accesses) file(path string) *access {
	if a[path] == nil {
		a[path] = &access{}
	}
	return a[path]
}
