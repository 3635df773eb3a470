// Package term is the only place that knows terminals: plain lines for everybody, and one progress bar for a run where a person is looking.
//
// It keeps no counts that matter: the bar is one listener to a run's events. Without a terminal nothing but whole lines is written, without control codes.
package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/schollz/progressbar/v3"
	xterm "golang.org/x/term"
)

// Term writes lines to the diagnostic stream, and a bar below them on a terminal.
type Term struct {
	mu     sync.Mutex
	w      io.Writer
	bar    *progressbar.ProgressBar
	idle   int           // ticks of the bar since it moved
	gone   chan struct{} // closed when the bar is taken away
	status string        // the line that Status shows
	lines  int           // that Line has printed
	live   bool
	color  bool
	width  int
}

// New decides once what the stream is. A bar is drawn only on a terminal that is not dumb, outside CI.
func New(w io.Writer, env func(string) string) *Term {
	t := &Term{w: w, width: 80}
	f, ok := w.(*os.File)
	if !ok || !xterm.IsTerminal(int(f.Fd())) || env("TERM") == "dumb" {
		return t
	}
	if width, _, err := xterm.GetSize(int(f.Fd())); err == nil && width > 20 {
		t.width = width
	}
	t.live = env("CI") == ""
	t.color = env("NO_COLOR") == ""
	return t
}

// Live reports whether a person is looking.
func (t *Term) Live() bool { return t.live }

// Color reports whether what is painted has colors.
func (t *Term) Color() bool { return t.color }

// Line prints one line, above the bar if there is one.
func (t *Term) Line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := t.status
	t.hide()
	if t.bar != nil {
		_ = t.bar.Clear()
	}
	t.lines++
	fmt.Fprintln(t.w, strings.TrimRight(fmt.Sprintf(format, args...), "\n"))
	switch {
	case shown != "":
		t.show(shown)
	case t.bar != nil:
		_ = t.bar.RenderBlank()
	}
}

// Lines is how many lines were printed.
func (t *Term) Lines() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines
}

// Status shows one line in place of the bar, for work that no bar can measure, until something else is shown.
func (t *Term) Status(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live {
		return
	}
	if t.bar != nil {
		_ = t.bar.Clear()
	}
	t.hide()
	t.show(what)
}

func (t *Term) show(what string) {
	t.status = what
	fmt.Fprint(t.w, cut(Clean(what), t.width-1))
}

// hide takes the status line away.
func (t *Term) hide() {
	if t.status != "" {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.status = ""
	}
}

func cut(s string, room int) string {
	if r := []rune(s); len(r) > room {
		return string(r[:room-1]) + "…"
	}
	return s
}

// Start begins a bar of so many bytes; without a person looking it does nothing.
func (t *Term) Start(total int64, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live || total <= 0 || t.bar != nil {
		return
	}
	t.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(t.w), progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(80*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetDescription(t.fit(what)), progressbar.OptionUseANSICodes(true))
	t.idle, t.gone = 0, make(chan struct{})
	go t.tick(t.gone)
}

// The rate that a bar shows is the mean of the last ten that it was told, so it has to be told that nothing comes. After so many ticks, seven seconds, it is zero and not shown, and neither is when all would be here.
const (
	tickEvery = 600 * time.Millisecond // a bar takes a rate every half second
	stalled   = 11
)

// tick keeps a bar true while nothing moves it.
func (t *Term) tick(gone chan struct{}) {
	ticks := time.NewTicker(tickEvery)
	defer ticks.Stop()
	for {
		select {
		case <-gone:
			return
		case <-ticks.C:
			t.still()
		}
	}
}

func (t *Term) still() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar == nil {
		return
	}
	if t.idle++; t.idle == stalled {
		progressbar.OptionSetPredictTime(false)(t.bar)
	}
	_ = t.bar.Add64(0)
	if t.status == "" {
		_ = t.bar.RenderBlank()
	}
}

// Add moves the bar. Reading a little more than was forecast is no error.
func (t *Term) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar == nil {
		return
	}
	if left := t.bar.GetMax64() - t.bar.State().CurrentNum; n > left-1 {
		n = left - 1 // Finish says when it is done, not the count
	}
	if n > 0 {
		t.idle = 0
		progressbar.OptionSetPredictTime(true)(t.bar)
		_ = t.bar.Add64(n)
	}
}

// Describe says what is being done.
func (t *Term) Describe(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hide()
	if t.bar != nil {
		t.bar.Describe(t.fit(what))
	}
}

// Finish takes the bar away.
func (t *Term) Finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hide()
	if t.bar != nil {
		_ = t.bar.Finish()
		_ = t.bar.Clear()
		t.bar = nil
		close(t.gone)
	}
}

// fit cuts a name to what leaves room for the bar and takes control characters out of it.
func (t *Term) fit(s string) string {
	return cut(Clean(s), max(t.width-60, 12))
}

// Clean replaces control characters, so that a name from outside cannot write to the terminal.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '�'
		}
		return r
	}, s)
}

// Color styles.
const (
	Bold   = "1"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
	Dim    = "2"
)

// Paint colours a text for a terminal, or leaves it.
func (t *Term) Paint(style, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}
