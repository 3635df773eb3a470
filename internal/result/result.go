// Package result is what a build found out, one JSON line each: build/results.jsonl.
package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// Line is one result. It is versioned by Schema; fields are only ever added.
type Line struct {
	Schema  int             `json:"schema"` // 1
	Kind    string          `json:"kind"`   // "generate"
	Name    string          `json:"name"`   // of the recipe entry
	Target  string          `json:"target"`
	Key     string          `json:"key"` // hex, of the step that found it
	Seconds float64         `json:"seconds"`
	Machine string          `json:"machine"` // os/arch it was found on
	Value   json.RawMessage `json:"value"`
	Verdict string          `json:"verdict,omitempty"` // of a validation: ok, warned, undecided, failed
	Checks  json.RawMessage `json:"checks,omitempty"`  // why
}

// maxFile is the largest results file that is read.
const maxFile = 256 << 20

// Read the lines of a results file. A missing file has none; a damaged line is left out, as results are made again from records.
func Read(path string) ([]Line, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, more than any results file", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []Line
	for _, raw := range bytes.Split(data, []byte("\n")) {
		var l Line
		if json.Unmarshal(raw, &l) == nil && l.Schema == 1 {
			lines = append(lines, l)
		}
	}
	return lines, nil
}

// stands reports whether all lines are in a file already, word for word: then nobody has to take the file apart.
func stands(path string, lines []Line) bool {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxFile {
		return false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for _, l := range lines {
		line, err := encode(l)
		if err != nil || !bytes.Contains(data, line) {
			return false
		}
	}
	return true
}

// encode writes a line, its end included.
func encode(l Line) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(l)
	return out.Bytes(), err
}

// Update puts lines into a results file: those of the same kind, name and target replace older ones. It writes only when something changed.
func Update(path string, lines []Line) error {
	if stands(path, lines) {
		return nil
	}
	have, err := Read(path)
	if err != nil {
		return err
	}
	place := map[string]int{}
	for i, l := range have {
		place[l.Kind+"\n"+l.Name+"\n"+l.Target] = i
	}
	changed := false
	for _, l := range lines {
		i, ok := place[l.Kind+"\n"+l.Name+"\n"+l.Target]
		switch {
		case !ok:
			have, changed = append(have, l), true
		case have[i].Key != l.Key || have[i].Verdict != l.Verdict || !bytes.Equal(have[i].Checks, l.Checks):
			have[i], changed = l, true
		}
	}
	if !changed {
		return nil
	}
	var out bytes.Buffer
	for _, l := range have {
		line, err := encode(l)
		if err != nil {
			return err
		}
		out.Write(line)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, out.Bytes(), 0o644)
}
