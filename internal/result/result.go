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

// Schema of the lines that this version writes.
const Schema = 1

// Line is one result. It is versioned by Schema; fields are only ever added.
type Line struct {
	Schema  int             `json:"schema"` // 1
	Kind    string          `json:"kind"`   // "generate"
	Name    string          `json:"name"`   // of the recipe entry
	Target  string          `json:"target"`
	Cell    string          `json:"cell,omitempty"` // of a benchmark
	Key     string          `json:"key"`            // hex, of the step that found it
	Seconds float64         `json:"seconds"`
	Machine string          `json:"machine"` // os/arch it was found on
	Value   json.RawMessage `json:"value"`
	Verdict string          `json:"verdict,omitempty"` // of a validation: ok, warned, undecided, failed; of a benchmark: ok, slower, larger, noisy, undecided, error
	Checks  json.RawMessage `json:"checks,omitempty"`  // why
}

// id is what one result of has a place in a file.
func (l Line) id() string { return l.Kind + "\n" + l.Name + "\n" + l.Target + "\n" + l.Cell }

// Step is the name of the step that found it.
func (l Line) Step() string {
	name := l.Kind + " " + l.Name + " " + l.Target
	if l.Cell != "" {
		name += " " + l.Cell
	}
	return name
}

// maxFile is the largest results file that is read.
const maxFile = 256 << 20

// Read the lines of a results file. A missing file has none; a damaged line is left out, as results are made again from records.
func Read(path string) ([]Line, error) {
	lines, _, _, err := read(path)
	return lines, err
}

// ReadAll is Read for a file that somebody names: a missing one is an error, and what is left out is told, a sentence each.
func ReadAll(path string) (lines []Line, left []string, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, nil, err
	}
	lines, _, left, err = read(path)
	return lines, left, err
}

// read takes a file apart: lines of this version, those that a newer program wrote as they are, and what is to be said of what was left out.
func read(path string) (lines []Line, newer [][]byte, left []string, err error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if info.Size() > maxFile {
		return nil, nil, nil, fmt.Errorf("%s has %d bytes, more than any results file", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, nil, err
	}
	for i, raw := range bytes.Split(data, []byte("\n")) {
		var l Line
		switch err := json.Unmarshal(raw, &l); {
		case len(bytes.TrimSpace(raw)) == 0:
		case err != nil || l.Schema < 1:
			left = append(left, fmt.Sprintf("%s:%d is damaged and left out", path, i+1))
		case l.Schema > Schema:
			newer = append(newer, raw)
			left = append(left, fmt.Sprintf("%s:%d has schema %d, which a newer mlxbuild wrote; this one reads schema %d", path, i+1, l.Schema, Schema))
		default:
			lines = append(lines, l)
		}
	}
	return lines, newer, left, nil
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
		line, err := l.Encode()
		if err != nil || !bytes.Contains(data, line) {
			return false
		}
	}
	return true
}

// Encode writes a line, its end included.
func (l Line) Encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(l)
	return out.Bytes(), err
}

// Update puts lines into a results file: those of the same kind, name, target and cell replace older ones. It writes only when something changed.
func Update(path string, lines []Line) error {
	if stands(path, lines) {
		return nil
	}
	have, newer, _, err := read(path)
	if err != nil {
		return err
	}
	place := map[string]int{}
	for i, l := range have {
		place[l.id()] = i
	}
	changed := false
	for _, l := range lines {
		i, ok := place[l.id()]
		switch {
		case !ok:
			have, changed = append(have, l), true
		case have[i].Key != l.Key || have[i].Verdict != l.Verdict || !bytes.Equal(have[i].Checks, l.Checks) || !bytes.Equal(have[i].Value, l.Value):
			have[i], changed = l, true
		}
	}
	if !changed {
		return nil
	}
	var out bytes.Buffer
	for _, l := range have {
		line, err := l.Encode()
		if err != nil {
			return err
		}
		out.Write(line)
	}
	for _, raw := range newer {
		out.Write(append(raw, '\n'))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, out.Bytes(), 0o644)
}
