package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hello is the version of the protocol.
const Hello = 1

// Limits of what a worker may send and of how long it may be silent.
type Limits struct {
	Start   time.Duration // until hello
	Silence time.Duration // between lines; a worker beats every ten seconds
	Term    time.Duration // from a cancel to SIGTERM
	Kill    time.Duration // from a cancel to SIGKILL
	Line    int           // bytes
	Words   int           // bytes of standard error that are kept
}

// DefaultLimits are those of SPEC: importing PyTorch from a cold disk takes a minute, and it beats meanwhile.
var DefaultLimits = Limits{Start: 3 * time.Minute, Silence: time.Minute, Term: 5 * time.Second, Kill: 10 * time.Second, Line: 8 << 20, Words: 64 << 10}

// Greeting is the first line of a worker.
type Greeting struct {
	Hello    int               `json:"hello"`
	Runtime  string            `json:"runtime"`
	Versions map[string]string `json:"versions"`
	Device   Device            `json:"device"`
	TF32     bool              `json:"tf32"`
	Path     []string          `json:"path"` // folders that Python imports from
}

// Device that a worker computes on.
type Device struct {
	Kind   string `json:"kind"` // cpu, gpu
	Name   string `json:"name"`
	Memory int64  `json:"memory_bytes"`
}

// line is one message of a worker.
type line struct {
	Greeting
	ID       int             `json:"id"`
	OK       *bool           `json:"ok"`
	Beat     *float64        `json:"beat"`
	Progress json.RawMessage `json:"progress"`
	Error    *failure        `json:"error"`
	Fatal    *failure        `json:"fatal"`
	raw      []byte
	err      error // the worker sent what is no message
}

type failure struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}

// Error is what went wrong in a worker.
type Error struct {
	Runtime string
	Op      string
	Class   string // oom, unsupported, internal, not_finite, died, hung, protocol, missing
	Message string
	Words   string // the end of what it wrote to standard error
}

// ErrorClass is the class, for those that do not know this type.
func (e *Error) ErrorClass() string { return e.Class }

func (e *Error) Error() string {
	text := fmt.Sprintf("the %s worker, at %s: %s", e.Runtime, e.Op, e.Message)
	if words := lastLines(e.Words, 6); words != "" {
		text += "\n" + words
	}
	return text
}

// Hint says what to do.
func (e *Error) Hint() string {
	switch e.Class {
	case "oom":
		return "the model does not fit this machine in this arithmetic; take a smaller one, or runtime: builtin"
	case "unsupported":
		return "runtime: builtin runs LLaMA models"
	case "protocol":
		return "see that the disk of " + os.TempDir() + " is well and has room, then run the same command again; mlxbuild runtime list says what is installed"
	}
	return ""
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i, l := range lines {
		lines[i] = "  | " + strings.TrimRight(l, "\r")
	}
	if len(lines) == 1 && lines[0] == "  | " {
		return ""
	}
	return strings.Join(lines, "\n")
}

// process is a running worker.
type process struct {
	name   string // of the runtime
	limits Limits
	dir    string // its own: the script, and arrays on their way
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan line
	words  *tail
	exited chan struct{}
	hello  Greeting
	nextID int
}

// start runs a script with an interpreter, or a program, and waits for its greeting.
func start(ctx context.Context, c Config, python, script string) (*process, error) {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return nil, err
	}
	p := &process{name: c.Name, limits: c.Limits, dir: dir, lines: make(chan line, 64), words: &tail{max: c.Limits.Words}, exited: make(chan struct{})}
	if err := p.launch(c, python, script); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := p.greet(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// dirPrefix of the folders of workers; what follows is the process that started one.
const dirPrefix = "mlxbuild-worker-"

// sweep removes the folders that processes left behind which were killed.
func sweep() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range found {
		pid, _, ok := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if n, err := strconv.Atoi(pid); ok && err == nil && n > 0 && gone(n) {
			os.RemoveAll(dir)
		}
	}
}

func (p *process) launch(c Config, python, script string) error {
	argv := c.Program
	if argv == nil {
		path := filepath.Join(p.dir, "worker.py")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			return err
		}
		// -I: no PYTHON* variables, no user site, not the current folder. -u: what it says last is not lost.
		argv = []string{python, "-I", "-u", path}
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(environment(), c.Env...)
	p.cmd.Dir = p.dir
	p.cmd.Stderr = p.words
	p.cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	ownGroup(p.cmd)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout = out
	started := make(chan error)
	go p.attend(stdout, out, started)
	if err := <-started; err != nil {
		return fmt.Errorf("%s cannot be started: %w", argv[0], err)
	}
	return nil
}

// attend starts the worker and stays with it until it has ended. It keeps its thread: the kernel ends a worker when the thread that started it is gone (see ownGroup), and threads of Go come and go.
func (p *process) attend(stdout, out *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer close(p.exited)
	defer os.RemoveAll(p.dir)
	defer stdout.Close()
	err := p.cmd.Start()
	out.Close()
	started <- err
	if err != nil {
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(stdout)
	}()
	_ = p.cmd.Wait()
	_ = stdout.SetReadDeadline(time.Now().Add(time.Second)) // a grandchild may still hold the pipe
	<-read
}

// environment is what a worker needs of ours: no tokens, no network, TF32 off.
func environment() []string {
	env := []string{"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "TOKENIZERS_PARALLELISM=false", "MLX_ENABLE_TF32=0", "PYTHONUTF8=1", "HF_HUB_DISABLE_TELEMETRY=1"}
	for _, name := range []string{"PATH", "HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
		"CC", "CXX", "XDG_CACHE_HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// read turns lines into messages until the worker closes its end, or sends what is no message.
func (p *process) read(r io.Reader) {
	defer close(p.lines)
	in := bufio.NewReaderSize(r, p.limits.Line)
	for {
		raw, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			p.lines <- line{err: fmt.Errorf("it sent a line of more than %d bytes", p.limits.Line)}
			io.Copy(io.Discard, in)
			return
		}
		if err != nil {
			return
		}
		l := line{raw: append([]byte(nil), raw...)}
		if json.Unmarshal(l.raw, &l) != nil {
			l.err = fmt.Errorf("it sent %q, which is no message", clip(string(raw), 80))
		}
		p.lines <- l
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// next waits for a message; beats count as life and are not passed on.
func (p *process) next(ctx context.Context, op string, deadline <-chan time.Time) (line, error) {
	silence := time.NewTimer(p.limits.Silence)
	defer silence.Stop()
	for {
		select {
		case l, ok := <-p.lines:
			switch {
			case !ok:
				return l, p.died(op)
			case l.err != nil:
				p.kill()
				return l, p.failed(op, "protocol", l.err.Error())
			case l.Beat != nil:
				silence.Reset(p.limits.Silence)
				continue
			}
			return l, nil
		case <-silence.C:
			p.kill()
			return line{}, p.failed(op, "hung", fmt.Sprintf("nothing was heard of it for %v, so it was ended", p.limits.Silence))
		case <-deadline:
			p.kill()
			return line{}, p.failed(op, "hung", "it took too long and was ended")
		case <-ctx.Done():
			return line{}, ctx.Err()
		}
	}
}

func (p *process) failed(op, class, message string) *Error {
	return &Error{Runtime: p.name, Op: op, Class: class, Message: message, Words: p.words.String()}
}

// died says how a worker ended that should not have.
func (p *process) died(op string) error {
	select {
	case <-p.exited:
	case <-time.After(2 * time.Second): // it closed its end and lives on
		p.kill()
	}
	class, message := "died", "it ended without a word"
	if state := p.cmd.ProcessState; state != nil {
		message = "it ended by itself: " + state.String()
		if killedBySystem(state) {
			class, message = "oom", "it was killed, most likely because memory ran out"
		}
	}
	return p.failed(op, class, message)
}

func (p *process) greet(ctx context.Context) error {
	limit := time.NewTimer(p.limits.Start)
	defer limit.Stop()
	l, err := p.next(ctx, "start", limit.C)
	switch {
	case err != nil:
		return err
	case l.Fatal != nil:
		return p.failed("start", l.Fatal.Class, l.Fatal.Message)
	case l.Hello != Hello:
		return p.failed("start", "protocol", fmt.Sprintf("it speaks version %d of the protocol, and mlxbuild version %d", l.Hello, Hello))
	case l.Runtime != p.name:
		return p.failed("start", "protocol", fmt.Sprintf("it says that it is %q", l.Runtime))
	}
	p.hello = l.Greeting
	return nil
}

// call sends a request and waits for its answer, which is decoded into answer. progress gets what comes before it; its error cancels the call and is returned. A cancelled call is waited for: if the
// worker does not answer soon, it is ended.
func (p *process) call(ctx context.Context, op string, request map[string]any, progress func(json.RawMessage) error, answer any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.nextID++
	id := p.nextID
	request["id"], request["op"] = id, op
	if err := p.send(request); err != nil {
		return p.died(op)
	}
	var ended error // why the call is to end before its answer
	for {
		l, err := p.next(ctx, op, nil)
		if ctx.Err() != nil && err != nil && errors.Is(err, ctx.Err()) {
			return p.cancel(id, op, ctx.Err())
		}
		switch {
		case err != nil:
			return err
		case l.OK == nil && l.Progress == nil:
			p.kill()
			return p.failed(op, "protocol", fmt.Sprintf("it sent %q, which is no answer", clip(string(l.raw), 80)))
		case l.ID != id:
			p.kill()
			return p.failed(op, "protocol", fmt.Sprintf("it answered request %d instead of %d", l.ID, id))
		case l.Progress != nil:
			if ctx.Err() != nil {
				return p.cancel(id, op, ctx.Err())
			}
			if progress != nil {
				if ended = progress(l.Progress); ended != nil {
					return p.cancel(id, op, ended)
				}
			}
		case *l.OK:
			if answer == nil {
				return nil
			}
			if err := json.Unmarshal(l.raw, answer); err != nil {
				p.kill()
				return p.failed(op, "protocol", "its answer cannot be read: "+err.Error())
			}
			return nil
		case l.Error == nil:
			p.kill()
			return p.failed(op, "protocol", "its answer is an error without one")
		default:
			return p.failed(op, l.Error.Class, l.Error.Message)
		}
	}
}

func (p *process) send(message map[string]any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = p.stdin.Write(append(data, '\n'))
	return err
}

// cancel asks the worker to leave a call, and ends it when it does not; why is returned.
func (p *process) cancel(id int, op string, why error) error {
	_ = p.send(map[string]any{"id": -id, "op": "cancel", "of": id})
	term, kill := time.NewTimer(p.limits.Term), time.NewTimer(p.limits.Kill)
	defer term.Stop()
	defer kill.Stop()
	for {
		select {
		case l, ok := <-p.lines:
			if !ok || l.err != nil {
				p.kill()
				return why
			}
			if l.ID == id && l.OK != nil {
				return why // it is ready for the next request
			}
		case <-term.C:
			terminate(p.cmd)
		case <-kill.C:
			p.kill()
			return why
		}
	}
}

// kill ends the worker and everything it started.
func (p *process) kill() {
	killGroup(p.cmd)
	p.stdin.Close()
	for range p.lines { // so that the reader can end
	}
	<-p.exited
}

// close asks the worker to leave; one that does not is ended.
func (p *process) close() error {
	_ = p.send(map[string]any{"id": 0, "op": "bye"})
	p.stdin.Close()
	go func() {
		for range p.lines {
		}
	}()
	select {
	case <-p.exited:
	case <-time.After(p.limits.Term):
		killGroup(p.cmd)
		<-p.exited
	}
	return nil
}

// dead reports whether the worker has ended.
func (p *process) dead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex
	max  int
	data []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data = append(t.data, b...); len(t.data) > 2*t.max {
		t.data = append([]byte(nil), t.data[len(t.data)-t.max:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data[max(0, len(t.data)-t.max):])
}
