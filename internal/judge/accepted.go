package judge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/step/validate"
)

// AcceptedName is the file beside a recipe that holds what was accepted; it is meant to be committed.
const AcceptedName = "mlxbuild.accepted.jsonl"

// Acceptance is one accepted figure, one line of the file.
type Acceptance struct {
	Target     string        `json:"target"`
	Validation string        `json:"validation,omitempty"`
	Benchmark  string        `json:"benchmark,omitempty"`
	Cell       string        `json:"cell,omitempty"` // of a benchmark: "builtin float32 b1 512+128"
	Metric     string        `json:"metric"`
	Value      metric.Number `json:"value"`
	Machine    string        `json:"machine"`          // any for the built-in runtime, whose results are the same everywhere; else os/arch; of a benchmark the machine's fingerprint
	Tokens     string        `json:"tokens,omitempty"` // digest of the ids
	Runtime    string        `json:"runtime"`
	Compute    string        `json:"compute"`
	// Values of a benchmark, each of another session, the last behind; Value is their median.
	Values []metric.Number `json:"values,omitempty"`
	// Measured is when the last of them was measured.
	Measured string `json:"measured,omitempty"`
}

// key is what must be equal for two figures to be compared.
func (a Acceptance) key() string {
	return a.Target + "\n" + a.Validation + "\n" + a.Benchmark + "\n" + a.Cell + "\n" + a.Metric + "\n" + a.Machine + "\n" + a.Tokens + "\n" + a.Runtime + "\n" + a.Compute
}

// on reports whether it would be of the same as other, were it on these tokens.
func (a Acceptance) on(tokens string, other Acceptance) bool {
	a.Tokens = tokens
	return a.key() == other.key()
}

// acceptance of a report's figure.
func acceptance(validation string, r *validate.Report, name string) Acceptance {
	a := Acceptance{Target: r.Target.Name, Validation: validation, Metric: name, Value: r.Metrics[name].Value, Machine: "any", Tokens: r.Tokens.Digest, Runtime: r.Target.Runtime, Compute: r.Target.Compute}
	if a.Runtime != "builtin" {
		a.Machine = runtime.GOOS + "/" + runtime.GOARCH
	}
	return a
}

// AcceptedFile is what such a file holds.
type AcceptedFile struct {
	path  string
	lines []Acceptance
}

// maxAccepted is the largest such file that is read.
const maxAccepted = 64 << 20

// ReadAccepted reads a file of accepted figures; a missing one is empty. Errors name the line.
func ReadAccepted(path string) (*AcceptedFile, error) {
	f := &AcceptedFile{path: path}
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return f, nil
	}
	if err == nil && info.Size() > maxAccepted {
		err = fmt.Errorf("%s has %d bytes, more than accepted figures can", path, info.Size())
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var a Acceptance
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&a); err != nil || a.Target == "" || a.Metric == "" {
			return nil, &AcceptedError{Path: path, Line: i + 1, Newer: err != nil && strings.Contains(err.Error(), "unknown field")}
		}
		f.lines = append(f.lines, a)
	}
	return f, nil
}

// AcceptedError is a line that is no accepted figure, such as a conflict mark of a merge.
type AcceptedError struct {
	Path  string
	Line  int
	Newer bool // it has a field that this version does not know
}

func (e *AcceptedError) Error() string {
	if e.Newer {
		return fmt.Sprintf("%s:%d: this figure has a field that this version does not know: a newer mlxbuild wrote it", e.Path, e.Line)
	}
	return fmt.Sprintf("%s:%d: this is not an accepted figure", e.Path, e.Line)
}

// Hint says what to do.
func (e *AcceptedError) Hint() string {
	if e.Newer {
		return "update mlxbuild, or take the line out; mlxbuild accept writes figures anew"
	}
	return "take the line out; mlxbuild accept writes figures anew"
}

// Of finds the accepted figures that a report is held against.
func (f *AcceptedFile) Of(validation string, r *validate.Report) Accepted {
	return func(name string) (float64, string) {
		want := acceptance(validation, r, name)
		other := ""
		for _, a := range f.lines {
			switch {
			case a.key() == want.key():
				return float64(a.Value), ""
			case a.Target != want.Target || a.Validation != validation || a.Metric != name:
			case a.Tokens != want.Tokens:
				other = "it was accepted on other tokens; mlxbuild accept takes the figure of these"
			case other == "":
				other = fmt.Sprintf("it was accepted with %s in %s on %s; mlxbuild accept takes the figure of this run", a.Runtime, a.Compute, a.Machine)
			}
		}
		if other == "" {
			other = "nothing was accepted yet; mlxbuild accept takes this figure"
		}
		return 0, other
	}
}

// Accept takes the mean KL of a report in place of what was accepted of it before, on these or other tokens. known is false when nothing comparable was.
func (f *AcceptedFile) Accept(validation string, r *validate.Report) (before float64, known bool) {
	a := acceptance(validation, r, metric.KLDMean)
	var kept []Acceptance
	for _, have := range f.lines {
		if have.key() == a.key() {
			before, known = float64(have.Value), true
		}
		if !have.on(a.Tokens, a) {
			kept = append(kept, have)
		}
	}
	f.lines = append(kept, a)
	return before, known
}

// Write the file, a line a figure, sorted, so that it merges well.
func (f *AcceptedFile) Write() error {
	sort.Slice(f.lines, func(i, j int) bool { return f.lines[i].key() < f.lines[j].key() })
	var out bytes.Buffer
	for _, a := range f.lines {
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	return atomicfile.Write(f.path, out.Bytes(), 0o644)
}
