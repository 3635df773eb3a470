package hub

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

// errQuiet: nothing came for too long.
var errQuiet = errors.New("nothing came for too long")

// minSpeed, in bytes a second, is what counts as a sign of life. A server that drips is as good as dead: a new connection may be better.
const minSpeed = 1 << 10

// watcher cancels a request when less than minSpeed came for a while. It counts only the time in which we wait for the server, not that in which the server waits for us.
type watcher struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	timer  *time.Timer
	quiet  time.Duration
	left   time.Duration
	since  time.Time // of the last start; zero while paused
	got    int64
}

// watch starts to wait.
func watch(ctx context.Context, quiet time.Duration) (context.Context, *watcher) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watcher{cancel: cancel, quiet: quiet, left: quiet, since: time.Now()}
	w.timer = time.AfterFunc(quiet, func() { cancel(errQuiet) })
	return ctx, w
}

func (w *watcher) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	w.timer.Reset(w.left)
}

func (w *watcher) pause() { w.came(0) }

// came stops the clock; it is set back when enough came.
func (w *watcher) came(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	if !w.since.IsZero() {
		w.left = max(w.left-time.Since(w.since), time.Millisecond)
		w.since = time.Time{}
	}
	w.got += int64(n)
	if w.got >= max(int64(minSpeed*w.quiet.Seconds()), 1) {
		w.got, w.left = 0, w.quiet
	}
}

func (w *watcher) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// body of an answer, under watch.
type body struct {
	in    io.ReadCloser
	watch *watcher
	fail  func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	b.watch.wait()
	n, err := b.in.Read(p)
	b.watch.came(n)
	if err != nil && err != io.EOF {
		err = b.fail(err)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.in.Close()
	b.watch.stop()
	return err
}

// plain undoes gzip, which some proxies apply though it was not asked for. Other encodings are refused. Whoever reads has to count: a few bytes can become any number.
func (a *answer) plain(s subject) (io.Reader, error) {
	switch encoding := strings.ToLower(strings.TrimSpace(a.header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		return a.body, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(a.body)
		if err != nil {
			return nil, gzipError(a, s, err)
		}
		a.length = -1
		return &unzipped{r, a, s}, nil
	default:
		return nil, odd(a, s, "it is encoded as %s, which was not asked for", clean(encoding))
	}
}

type unzipped struct {
	in    *gzip.Reader
	a     *answer
	about subject
}

func (u *unzipped) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	if err != nil && err != io.EOF {
		err = gzipError(u.a, u.about, err)
	}
	return n, err
}

// gzipError: a connection that broke is no fault of the encoding.
func gzipError(a *answer, s subject, err error) error {
	var e *Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return odd(a, s, "it says that it is gzip, and is none, or broken off")
}

// readAll reads at most max bytes; more is an error.
func readAll(a *answer, s subject, max int64) ([]byte, error) {
	r, err := a.plain(s)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, odd(a, s, "it has more than the %d bytes that it may have", max)
	}
	return data, nil
}
