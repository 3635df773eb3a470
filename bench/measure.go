package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A sample is one run of one side: wall and CPU time of the process and those it waited for, and the peak memory of the largest of them.
type sample struct {
	wall, cpu time.Duration
	peak      int64
	out       []byte // its standard output
}

// A side is what takes part in a comparison.
type side struct {
	name    string
	peer    bool                  // another program: where it cannot be run it is left out
	prepare func(round int) error // outside the clock
	command func(round int) *exec.Cmd
	samples []sample
}

// takeTurns runs every side once a round, in reverse order every other round (A B B A), so that what the machine does besides hits all alike.
func (b *bench) takeTurns(rounds int, sides ...*side) error {
	sides = slices.Clone(sides)
	for round := range rounds {
		order := slices.Clone(sides)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			err := s.turn(round)
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			if err != nil && !s.peer {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if err != nil {
				b.leaveOut(s.name, err)
				s.samples = nil
				sides = slices.DeleteFunc(sides, func(other *side) bool { return other == s })
			}
		}
	}
	return nil
}

func (s *side) turn(round int) error {
	if s.prepare != nil {
		if err := s.prepare(round); err != nil {
			return err
		}
	}
	one, err := measure(s.command(round))
	if err == nil {
		s.samples = append(s.samples, one)
	}
	return err
}

// leaveOut says in one line which peer could not be run, and why.
func (b *bench) leaveOut(name string, err error) {
	b.without = append(b.without, name)
	fmt.Printf("  without %s: %s\n", name, reason(err))
}

// failure is a command that could not be run, or did not end well.
type failure struct {
	error
	args []string
	said []byte // on standard error
}

func (f *failure) Error() string {
	var line []string
	for _, arg := range f.args {
		if strings.Contains(arg, "\n") {
			arg = "SCRIPT"
		}
		line = append(line, arg)
	}
	return strings.TrimSpace(fmt.Sprintf("%v: %s\n%s", f.error, strings.Join(line, " "), tail(f.said, 2000)))
}

func (f *failure) Unwrap() error { return f.error }

// reason is the line that matters: the last of what a command said, which is the exception of a Python script, or why there was no command.
func reason(err error) string {
	text := err.Error()
	if f := new(failure); errors.As(err, &f) {
		text = f.error.Error()
		if said := strings.TrimSpace(string(f.said)); said != "" {
			text = said
		}
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// measure runs a command to its end. Data that waits to be written to disk is written first, so that no side pays for another's.
func measure(cmd *exec.Cmd) (sample, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	settle()
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if err != nil {
		return sample{}, &failure{err, cmd.Args, errs.Bytes()}
	}
	s := sample{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: peakMemory(cmd.ProcessState), out: out.Bytes()}
	return s, nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// command is one that ends, with all that it started, when this program is interrupted.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, name, args...)
	killTogether(cmd)
	return cmd
}

// tool is the mlxbuild under test with that cache.
func (b *bench) tool(cache string, args ...string) *exec.Cmd {
	cmd := b.command(b.mlxbuild, args...)
	cmd.Dir = b.work
	cmd.Env = append(os.Environ(), "MLXBUILD_CACHE="+cache)
	return cmd
}

// py is the peers' Python.
func (b *bench) py(args ...string) *exec.Cmd {
	cmd := b.command(b.python, args...)
	cmd.Dir = b.work
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "TOKENIZERS_PARALLELISM=false", "TRANSFORMERS_VERBOSITY=error")
	return cmd
}

// once runs a command that is part of the setting, not of the measurement.
func once(cmd *exec.Cmd) ([]byte, error) {
	s, err := measure(cmd)
	return s.out, err
}

func (s *side) walls() []time.Duration {
	var w []time.Duration
	for _, one := range s.samples {
		w = append(w, one.wall)
	}
	return w
}

func (s *side) cpus() []time.Duration {
	var c []time.Duration
	for _, one := range s.samples {
		c = append(c, one.cpu)
	}
	return c
}

func (s *side) peak() int64 {
	var p int64
	for _, one := range s.samples {
		p = max(p, one.peak)
	}
	return p
}

// median of an odd or even number of values, the lower one of the middle two.
func median[T time.Duration | float64](v []T) T {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[(len(v)-1)/2]
}

// folderSize sums the sizes of a folder's files whose names match the pattern.
func folderSize(dir, pattern string) int64 {
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return 0
	}
	var n int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
