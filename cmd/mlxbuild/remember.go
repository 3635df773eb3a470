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

// remember adds measured cells to the history, with the commit that the recipe's repository was at.
func (a *app) remember(results string, lines []result.Line) error {
	path := filepath.Join(filepath.Dir(results), historyName)
	past := readPast(path)
	commit := git.Head(context.WithoutCancel(a.ctx), filepath.Dir(filepath.Dir(results)))
	for _, l := range lines {
		var r benchmark.Report
		if err := json.Unmarshal(l.Value, &r); err != nil {
			return err
		}
		past = append(past, report.Past{Step: l.Step(), Key: l.Key, Commit: commit, Machine: r.Machine.String(), When: r.Started.Truncate(time.Second), Metrics: r.Side.Metrics})
	}
	past = past[max(0, len(past)-maxPast):]
	var out bytes.Buffer
	for _, p := range past {
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	return atomicfile.Write(path, out.Bytes(), 0o644)
}

// readPast reads a history. What cannot be read is left out: it is there to be looked at, and nothing depends on it.
func readPast(path string) (out []report.Past) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > 256<<20 {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for _, line := range bytes.Split(data, []byte("\n")) {
		var p report.Past
		if json.Unmarshal(line, &p) == nil && p.Step != "" {
			out = append(out, p)
		}
	}
	return out
}
