package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/git"
	"github.com/mlxbuild/mlxbuild/internal/report"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/step/benchmark"
)

// historyName is the file beside results.jsonl that keeps what was measured over commits.
const historyName = "history.jsonl"

// maxPast is how many lines of history are kept.
const maxPast = 20_000

// remember adds measured cells to the history, with the commit that the recipe's repository was at. Lines that stand there already are kept word for word, also those of a newer program.
func (a *app) remember(results string, lines []result.Line) error {
	path := filepath.Join(filepath.Dir(results), historyName)
	past := pastLines(path)
	commit := git.Head(context.WithoutCancel(a.ctx), filepath.Dir(filepath.Dir(results)))
	for _, l := range lines {
		var r benchmark.Report
		if err := json.Unmarshal(l.Value, &r); err != nil {
			return err
		}
		line, err := json.Marshal(report.Past{Step: l.Step(), Key: l.Key, Commit: commit, Machine: r.Machine.String(), When: r.Started.Truncate(time.Second), Metrics: r.Side.Metrics})
		if err != nil {
			return err
		}
		past = append(past, line)
	}
	past = past[max(0, len(past)-maxPast):]
	return atomicfile.Write(path, append(bytes.Join(past, []byte("\n")), '\n'), 0o644)
}

// pastLines are the lines of a history that are JSON objects.
func pastLines(path string) (out [][]byte) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > 256<<20 {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for _, line := range bytes.Split(data, []byte("\n")) {
		var object map[string]json.RawMessage
		if json.Unmarshal(line, &object) == nil && object != nil {
			out = append(out, line)
		}
	}
	return out
}

// readPast reads a history. What cannot be read is left out: it is there to be looked at, and nothing depends on it.
func readPast(path string) (out []report.Past) {
	for _, line := range pastLines(path) {
		var p report.Past
		if json.Unmarshal(line, &p) == nil && p.Step != "" {
			out = append(out, p)
		}
	}
	return out
}
