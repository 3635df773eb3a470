// Emulate runs a program and carries out for it the instructions on tiles (AMX) that this processor does not have:
//
//	go build -o /tmp/emulate ./internal/emulate
//	go test -exec /tmp/emulate ./internal/tensor
//
// It traces the program as a debugger does: an instruction that the processor does not know stops a thread, and is carried out on its registers and memory before it goes on. Each thread has tiles of its own. The program is
// told by its environment (MLXBUILD_TEST_EMULATED_TILES), as the processor goes on saying that it has no tiles. It works on Linux/amd64.
package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: emulate PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "MLXBUILD_TEST_EMULATED_TILES=1")
	code, err := run(cmd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "emulate:", err)
	}
	os.Exit(code)
}
