package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
)

// Set is the runtimes of a program, in order of their names' preference. Each is asked for its identity once.
type Set struct {
	ctx      context.Context
	runtimes []Runtime
	mu       sync.Mutex
	ids      map[string]identity
}

type identity struct {
	id  string
	err error
}

// NewSet holds runtimes together. ctx is that of the program.
func NewSet(ctx context.Context, runtimes ...Runtime) *Set {
	return &Set{ctx: ctx, runtimes: runtimes, ids: map[string]identity{}}
}

// Find a runtime by its name.
func (s *Set) Find(name string) Runtime {
	for _, r := range s.runtimes {
		if r.Name() == name {
			return r
		}
	}
	panic(fmt.Sprintf("BUG: there is no runtime %q", name))
}

// ID of a runtime; the error says what is missing.
func (s *Set) ID(name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.ids[name]
	if !ok {
		known.id, known.err = s.Find(name).ID(s.ctx)
		s.ids[name] = known
	}
	return known.id, known.err
}

// Has reports whether a runtime is here. One that is here and broken is: what is wrong with it should be said, not passed over.
func (s *Set) Has(name string) bool {
	_, err := s.ID(name)
	var missing *MissingError
	return !errors.As(err, &missing)
}

// Resolve says which runtime a recipe's word stands for: auto is mlx where it is installed and has a GPU, else builtin.
func (s *Set) Resolve(name string) string {
	if name != "auto" {
		return name
	}
	if !mayHaveGPU() {
		return "builtin" // without asking: starting mlx takes seconds the first time
	}
	if id, err := s.ID("mlx"); err == nil && strings.Contains(id, " gpu") {
		return "mlx"
	}
	return "builtin"
}

// Absent are files: as long as none of them comes, what was asked of runtimes is answered again as it was, because the only one that is here is built in. It is false where more than files decides.
func (s *Set) Absent() (files []string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, known := range s.ids {
		if name == "builtin" {
			continue
		}
		var missing *MissingError
		if !errors.As(known.err, &missing) || missing.Until == "" {
			return nil, false
		}
		files = append(files, missing.Until)
	}
	return files, true
}

// GPU is there where NVIDIA's driver is.
const GPU = "/dev/nvidiactl"

// mayHaveGPU reports whether mlx could find a GPU here: Metal on Apple's chips, CUDA where NVIDIA's driver is.
func mayHaveGPU() bool {
	if runtime.GOOS == "darwin" {
		return runtime.GOARCH == "arm64"
	}
	_, err := os.Stat(GPU)
	return err == nil
}

// Close ends the runtimes that hold something.
func (s *Set) Close() error {
	var errs []error
	for _, r := range s.runtimes {
		if c, ok := r.(interface{ Close() error }); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
