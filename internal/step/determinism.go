package step

// Determinism says what a step makes when it is run again on the same inputs.
type Determinism string

// The classes.
const (
	// Exact steps make the same bytes, on every machine.
	Exact Determinism = "exact"
	// Tolerant steps run on what makes no promise about the last bits: another device, version or thread count may give others.
	Tolerant Determinism = "tolerance"
	// Sampled steps measure something that is another each time.
	Sampled Determinism = "sampled"
)

// Classed is an Action that says how its results repeat. One that does not say promises to be exact.
type Classed interface{ Determinism() Determinism }

// Runner is an Action that has models run by runtimes.
type Runner interface{ Runtimes() []string }

// Runtimes that a step uses.
func (s Step) Runtimes() []string {
	if r, ok := s.Action.(Runner); ok {
		return r.Runtimes()
	}
	return nil
}

// Class of a step: what it says, else by what it runs on.
func (s Step) Class() Determinism {
	if c, ok := s.Action.(Classed); ok {
		return c.Determinism()
	}
	return ClassOf(s.Runtimes()...)
}

// ClassOf what a runtime computes: the built-in one gives the same bits everywhere.
func ClassOf(runtimes ...string) Determinism {
	for _, r := range runtimes {
		if r != "builtin" {
			return Tolerant
		}
	}
	return Exact
}
