package safetensors

import "runtime/debug"

// Faults does something with mapped files, and reports whether their bytes went away meanwhile: the file was cut short, or the disk cannot read it.
func Faults(do func() error) (cut bool, err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		switch e := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // only faults have an address
			cut = true
		default:
			panic(e)
		}
	}(debug.SetPanicOnFault(true))
	return false, do()
}
