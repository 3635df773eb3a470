// Command mlxbuild is make for MLX language models: recipe files say which models to take, how to quantize them and what to try them on; mlxbuild makes what is
// out of date.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // a second signal ends the program at once; what is on disk is right at every instant
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
