package builtin

import (
	"os"
	"runtime/debug"

	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// catchCut is deferred by whoever reads weights that are being opened, as `defer catchCut(dir, &err)()`. A file that is cut while it is mapped has no bytes where its end was; reading there is a fault, which becomes a *CutError.
func catchCut(dir string, err *error) func() { return (&weights{dir: dir}).guard(err) }

// guard is catchCut for a call that computes with the weights, as `defer w.guard(&err)()`. It refuses the result, too, when a file was written to meanwhile.
func (w *weights) guard(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		switch e := recover(); {
		case e == nil && (*err != nil || !w.written()):
		case e == nil || safetensors.IsFault(e):
			*err = &CutError{w.dir}
		default:
			panic(e)
		}
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
