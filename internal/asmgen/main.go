// Asmgen writes the assembly of mlxbuild: kernels that plain Go would run many times slower, each beside a reference in Go that has the same bits.
//
//	go run ./internal/asmgen
//
// from the top of the repository writes all files again; a test holds what is committed to it. A kernel is a Go function that emits lines; what two kernels share is a function that
// takes registers as arguments, and loops of the generator do the unrolling.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// files are all that there are.
func files() []*file {
	all := []*file{panelAVX2(), floatAVX2(), panelAVX512(), floatAVX512(), panelAMX(), panelNEON(), floatNEON(), opsNEON(), attendFileNEON(), quantNEON(), quantAVX2(), quantAVX512(), shaAVX512(), bandwidthAMD64(false), bandwidthAMD64(true), bandwidthNEON()}
	for _, l := range widths {
		all = append(all, ops(l), attend(l))
	}
	return all
}

func main() {
	for _, f := range files() {
		for path, content := range f.outputs() {
			if err := os.WriteFile(filepath.FromSlash(path), content, 0o644); err != nil {
				fmt.Fprintln(os.Stderr, "asmgen:", err)
				os.Exit(1)
			}
		}
	}
}
