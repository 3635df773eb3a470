package safetensors

import "runtime/debug"

// Faults does something with mapped files, and reports whether their bytes went away meanwhile: the file was cut short, or the disk cannot read it.
func Faults(do func() error) (cut bool, err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		switch e := recover(); {
		case e == nil:
		case IsFault(e):
			cut = true
		default:
			panic(e)
		}
	}(debug.SetPanicOnFault(true))
	return false, do()
}

// IsFault reports whether a recovered panic is that of bytes that went away: only faults have an address.
func IsFault(panicked any) bool {
	_, is := panicked.(interface{ Addr() uintptr })
	return is
}
