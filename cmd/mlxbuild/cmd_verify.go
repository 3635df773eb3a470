package main

import (
	"fmt"

	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/planner"
)

type verifyCmd struct {
	Folder []string `arg:"" sep:"none" help:"MLX model folders."`
}

func (verifyCmd) Help() string {
	return `Reads every byte: files against the digests of mlxbuild.json, the index against the headers, the headers against config.json. It works on folders of others
too; without mlxbuild.json there are no digests to compare.

Exit codes: 0 all is right, 3 something is not.`
}

func (c verifyCmd) Run(a *app) error {
	found := map[string][]convert.Problem{}
	n := 0
	for _, dir := range c.Folder {
		if !isDir(dir) {
			return &fault{code: exitUsage, msg: "there is no folder " + dir}
		}
		found[dir] = convert.VerifyFolder(a.ctx, dir)
		n += len(found[dir])
	}
	if err := a.ctx.Err(); err != nil {
		return &fault{code: exitInterrupted, msg: "interrupted"}
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"version": 1, "ok": n == 0, "folders": found}); err != nil {
			return err
		}
	} else {
		for _, dir := range c.Folder {
			for _, p := range found[dir] {
				a.term.Line("%s: %s", dir, p)
			}
			if len(found[dir]) == 0 && !a.quiet {
				fmt.Fprintf(a.stdout, "ok: %s\n", dir)
			}
		}
	}
	if n > 0 {
		return &fault{code: exitBadInput, msg: planner.Count(n, "problem", "problems") + " found"}
	}
	return nil
}

func rounding() string { return quant.Profile }
