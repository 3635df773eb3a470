package builtin

import (
	"os"
	"runtime/debug"
)

// catchCut is deferred by whoever reads mapped weights, as `defer catchCut(dir, &err)()`. A file that is cut while it is mapped has no bytes where its end was; reading there is a fault, which becomes a *CutError.
func catchCut(dir string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		caught(dir, recover(), err)
	}
}

// guard is catchCut for a call that computes with the weights, as `defer w.guard(&err)()`. It refuses the result, too, when a file was written to meanwhile.
func (w *weights) guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		caught(w.dir, recover(), err)
		if *err == nil && w.written() {
			*err = &CutError{w.dir}
		}
	}
}

// caught makes an error of a fault; any other panic goes on.
func caught(dir string, panicked any, err *error) {
	switch e := panicked.(type) {
	case nil:
	case interface{ Addr() uintptr }: // only faults have an address
		*err = &CutError{dir}
	default:
		panic(e)
	}
}

// written reports whether a mapped file has been written to since it was opened, or cut and made longer again. One that was replaced is still mapped as it was.
func (w *weights) written() bool {
	for _, was := range w.files {
		now, err := os.Stat(was.path)
		if err == nil && os.SameFile(now, was.info) && (now.Size() != was.info.Size() || !now.ModTime().Equal(was.info.ModTime())) {
			return true
		}
	}
	return false
}

// CutError says that weights went away, or changed, under a model.
type CutError struct{ Dir string }

func (e *CutError) Error() string {
	return e.Dir + ": a file of its weights was changed or cut short, or cannot be read any more, while the model was in use"
}

// Hint says what to do.
func (e *CutError) Hint() string {
	return "leave the folder as it is while it is in use; what mlxbuild has built is made again when it is deleted"
}
