package builtin

import "runtime/debug"

// catchCut is deferred by whoever reads mapped weights, as `defer catchCut(dir, &err)()`. A file that is cut while it is mapped has no bytes where its end was; reading there is a fault, which becomes a *CutError.
func catchCut(dir string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		switch e := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // only faults have an address
			*err = &CutError{dir}
		default:
			panic(e)
		}
	}
}

// CutError says that weights went away under a model.
type CutError struct{ Dir string }

func (e *CutError) Error() string {
	return e.Dir + ": a file of its weights was cut short, or cannot be read any more, while the model was in use"
}

// Hint says what to do.
func (e *CutError) Hint() string {
	return "leave the folder as it is while it is in use; what mlxbuild has built is made again when it is deleted"
}
