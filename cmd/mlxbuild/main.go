// Command mlxbuild is make for MLX language models: recipe files say which models to take, how to quantize them and what to try them on; mlxbuild makes what is
// out of date.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	debug.SetGCPercent(400) // a build with nothing to do is over before the first collection; buffers of weights are few and reused
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // a second signal ends the program at once; what is on disk is right at every instant
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
