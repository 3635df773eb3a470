// Package worker runs models in another process that speaks JSON lines: the Go half of the runtimes mlx and torch, whose other half is Python. The process decides nothing. It gets token ids, never text, and answers with
// arrays in files; when it crashes, hangs or runs out of memory, that is an error with its last words, and the next load starts another.
package worker

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/mlxbuild/mlxbuild/backend"
)

//go:embed protocol.py
var protocol string

// Config of a runtime that lives in a worker.
type Config struct {
	Name    string
	Script  string // Python, run behind protocol.py
	Compute []backend.Compute
	Find    Finder
	Limits  Limits // zero: DefaultLimits

	Program []string // instead of Script and Find: a program that speaks the protocol, and its arguments
	Env     []string // for the worker, beside what all get
	Threads int      // that models compute with; 0: as many as the runtime likes
}

// Runtime is a backend.Runtime whose models live in one worker process. The process is started when it is first needed, and shared.
type Runtime struct {
	config Config

	busy    chan struct{} // holds a value while a call is under way
	process *process
	handles int

	mu       sync.Mutex
	id       string
	versions map[string]string
}

// New makes a runtime. It starts nothing.
func New(c Config) *Runtime {
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	return &Runtime{config: c, busy: make(chan struct{}, 1)}
}

// Name of the runtime.
func (r *Runtime) Name() string { return r.config.Name }

// Alone is the same runtime in a worker of its own, with so many threads; 0: as many as it likes. It must be closed.
func (r *Runtime) Alone(threads int) *Runtime {
	c := r.config
	c.Threads = threads
	return New(c)
}

// PID of the worker; 0 when none runs.
func (r *Runtime) PID() int {
	if r.process == nil || r.process.dead() {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// Start the worker, if it does not run.
func (r *Runtime) Start(ctx context.Context) error {
	return r.do(ctx, func(*process) error { return nil })
}

// Script is what runs in the worker.
func (r *Runtime) script() string { return protocol + "\n\n" + r.config.Script }

// ID says which versions run on which device. It is remembered for as long as nothing of the environment changes, so that a build with nothing to do starts no process.
func (r *Runtime) ID(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.id != "" {
		return r.id, nil
	}
	found, err := r.find()
	if err != nil {
		return "", err
	}
	if g, ok := found.remembered(r); ok {
		r.id, r.versions = r.identity(g), g.Versions
		return r.id, nil
	}
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	defer r.leave()
	if _, err := r.started(ctx, found); err != nil {
		return "", err
	}
	r.id, r.versions = r.identity(r.process.hello), r.process.hello.Versions
	return r.id, nil
}

// Versions of what the worker runs on, by name.
func (r *Runtime) Versions(ctx context.Context) (map[string]string, error) {
	if _, err := r.ID(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.versions, nil
}

// identity is one line: the worker's code, versions sorted by name, and the device.
func (r *Runtime) identity(g Greeting) string {
	var versions []string
	for name, v := range g.Versions {
		versions = append(versions, name+" "+v)
	}
	sort.Strings(versions)
	sum := sha256.Sum256([]byte(r.script()))
	return fmt.Sprintf("%s/%x %s on %s %s", r.config.Name, sum[:4], strings.Join(versions, " "), g.Device.Kind, g.Device.Name)
}

// Load checks a folder and has the worker load it.
func (r *Runtime) Load(ctx context.Context, dir string, compute backend.Compute) (backend.Model, error) {
	if !slices.Contains(r.config.Compute, compute) {
		return nil, &backend.ComputeError{Runtime: r.config.Name, Asked: compute, Has: r.config.Compute}
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	m := &model{runtime: r}
	err = r.do(ctx, func(p *process) error {
		r.handles++
		m.process, m.handle = p, r.handles
		return p.call(ctx, "load", map[string]any{"model": m.handle, "dir": dir, "compute": string(compute), "threads": r.config.Threads}, nil, &m.loaded)
	})
	if err != nil {
		return nil, inputError(err)
	}
	if m.loaded.Vocab < 1 || m.loaded.Hidden < 1 {
		return nil, &Error{Runtime: r.config.Name, Op: "load", Class: "protocol", Message: fmt.Sprintf("it loaded a model of %d tokens and %d hidden values", m.loaded.Vocab, m.loaded.Hidden)}
	}
	m.note(m.loaded.Memory)
	return m, nil
}

// maxConfig is the largest config.json that is read.
const maxConfig = 16 << 20

// checkFolder refuses what would make a library run code that a model brings.
func checkFolder(dir string) error {
	path := filepath.Join(dir, "config.json")
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s is not a model folder: %w", dir, err)
	}
	if info.Size() > maxConfig {
		return fmt.Errorf("%s has %d bytes, too many for settings", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config struct {
		ModelFile any `json:"model_file"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if config.ModelFile != nil {
		return fmt.Errorf("%s: model_file wants code of the model's own to be run, which mlxbuild never does", path)
	}
	return nil
}

// Call has the worker do something that is no model's: see the operations in worker.py. A long answer comes as JSON in a file of the worker's folder.
func (r *Runtime) Call(ctx context.Context, op string, request map[string]any, answer any) error {
	return r.do(ctx, func(p *process) error {
		path := filepath.Join(p.dir, "answer.json")
		defer os.Remove(path)
		request["out_file"] = path
		if err := p.call(ctx, op, request, nil, nil); err != nil || answer == nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, answer)
		}
		if err != nil {
			return p.failed(op, "protocol", "its answer cannot be read: "+err.Error())
		}
		return nil
	})
}

// Greeting starts the worker, if need be, and returns what it said of itself, and where it was found.
func (r *Runtime) Greeting(ctx context.Context) (Greeting, Found, error) {
	found, err := r.find()
	if err != nil {
		return Greeting{}, found, err
	}
	if g, ok := found.remembered(r); ok {
		return g, found, nil
	}
	var g Greeting
	err = r.do(ctx, func(p *process) error {
		g = p.hello
		return nil
	})
	return g, found, err
}

// do runs a call, alone, on a worker that lives.
func (r *Runtime) do(ctx context.Context, call func(p *process) error) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.leave()
	found, err := r.find()
	if err != nil {
		return err
	}
	p, err := r.started(ctx, found)
	if err != nil {
		return err
	}
	return call(p)
}

func (r *Runtime) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Runtime) leave() { <-r.busy }

// find the interpreter; a program needs none.
func (r *Runtime) find() (Found, error) {
	if r.config.Program != nil {
		return Found{Path: r.config.Program[0], How: "itself"}, nil
	}
	return r.config.Find.find(r)
}

// started is the living worker. One whose versions are not those that keys were made with is refused.
func (r *Runtime) started(ctx context.Context, found Found) (*process, error) {
	if r.process != nil && !r.process.dead() {
		return r.process, nil
	}
	p, err := start(ctx, r.config, found.Path, r.script())
	if err != nil {
		var failed *Error
		if errors.As(err, &failed) && failed.Class == "missing" {
			return nil, found.lacks(r, failed.Message)
		}
		return nil, err
	}
	if r.config.Program != nil {
		r.process = p
		return p, nil
	}
	g, known := found.remembered(r)
	found.remember(r, p.hello)
	if known && r.identity(g) != r.identity(p.hello) {
		p.close()
		return nil, &Error{Runtime: r.config.Name, Op: "start", Class: "changed",
			Message: fmt.Sprintf("%s changed since it was last looked at: it was %s, it is %s; run again", found.Path, r.identity(g), r.identity(p.hello))}
	}
	r.process = p
	return p, nil
}

// Close ends the worker, if there is one.
func (r *Runtime) Close() error {
	r.busy <- struct{}{}
	defer r.leave()
	if r.process == nil || r.process.dead() {
		return nil
	}
	err := r.process.close()
	r.process = nil
	return err
}

// inputError turns what a worker says of bad input into the seam's error.
func inputError(err error) error {
	var failed *Error
	if errors.As(err, &failed) && failed.Class == "bad_input" {
		return &backend.InputError{What: failed.Message}
	}
	return err
}
