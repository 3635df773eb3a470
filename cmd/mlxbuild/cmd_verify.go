package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/term"
	"github.com/mlxbuild/mlxbuild/planner"
)

type verifyCmd struct {
	Args    []string `arg:"" optional:"" sep:"none" name:"folder-or-selector" help:"MLX model folders; or recipes (.yaml; default mlxbuild.yaml) and selectors, whose build folders are checked."`
	Rebuild bool     `help:"Make what was built again, in a place of its own, and compare every byte."`
	Sample  string   `placeholder:"P" help:"With --rebuild: only this share of the steps, such as 10%."`
	Seed    *uint64  `placeholder:"N" help:"With --sample: which ones (default: by chance)."`
	Inexact bool     `help:"With --rebuild: also what mlx and torch made, whose last bits may differ."`
	Keep    string   `placeholder:"DIR" help:"With --rebuild: make it in this new folder, and leave it there."`
}

func (verifyCmd) Help() string {
	return `Reads every byte of a folder: files against the digests of mlxbuild.json, the index against the headers, the headers against config.json. It works on folders
of others too; without mlxbuild.json there are no digests to compare. Without folders it checks what the recipe has built.

  mlxbuild verify ./SmolLM2-135M-Instruct-4bit
  mlxbuild verify                          every build folder of mlxbuild.yaml
  mlxbuild verify --rebuild 'smollm2/*'    make it again and compare
  mlxbuild verify --rebuild --sample 10%

--rebuild takes nothing from the cache: sources are read again, steps run again in a temporary folder of the cache's disk, and what they make is compared with
the cache's records and with build/. Timings are not made again. It changes nothing.

Exit codes: 0 all is right; 3 a folder is not; 1 something came out differently, or could not be made again.`
}

func (c verifyCmd) Run(a *app) error {
	if c.Rebuild {
		return c.rebuild(a)
	}
	if c.Sample != "" || c.Seed != nil || c.Inexact || c.Keep != "" {
		return &fault{code: exitUsage, msg: "--sample, --seed, --inexact and --keep go with --rebuild"}
	}
	var folders, others []string
	for _, arg := range c.Args {
		if namesFolder(arg) {
			folders = append(folders, arg)
		} else {
			others = append(others, arg)
		}
	}
	for _, dir := range folders {
		if !isDir(dir) {
			return &fault{code: exitUsage, msg: "there is no folder " + dir}
		}
	}
	if len(others) > 0 || len(folders) == 0 {
		built, err := a.builtFolders(others)
		if err != nil {
			return err
		}
		folders = append(folders, built...)
	}
	return a.verifyFolders(folders)
}

// namesFolder reports whether an argument is a model folder rather than a selector: it looks like a path, or it is a folder of that name with a model in it, whole or not.
func namesFolder(arg string) bool {
	if isFolderArg(arg) {
		return true
	}
	if !isDir(arg) {
		return false
	}
	for _, pattern := range []string{"config.json", convert.ManifestName, "*.safetensors"} {
		if found, _ := filepath.Glob(filepath.Join(globEscape(arg), pattern)); len(found) > 0 {
			return true
		}
	}
	return false
}

func globEscape(path string) string {
	return strings.NewReplacer("[", "\\[", "*", "\\*", "?", "\\?").Replace(path)
}

// builtFolders are the build folders of what the arguments pick.
func (a *app) builtFolders(args []string) (folders []string, err error) {
	p, err := a.open(args)
	if err != nil {
		return nil, folderHint(err, args)
	}
	defer p.close()
	missing := 0
	for _, id := range p.want {
		s := p.graph.Steps[id]
		if s.Folder == "" {
			continue
		}
		if _, err := os.Stat(s.Folder); errors.Is(err, fs.ErrNotExist) {
			missing++
			if !a.quiet && !a.json {
				a.term.Line("not built: %s", s.Target)
			}
			continue
		}
		folders = append(folders, shortPath(s.Folder))
	}
	if folders == nil && missing == 0 {
		return nil, &fault{code: exitUsage, msg: "this picks nothing that has a folder", hints: []string{"mlxbuild list shows the targets"}}
	}
	return folders, nil
}

// folderHint adds to an error about a selector that it may have been meant as a folder.
func folderHint(err error, args []string) error {
	for _, arg := range args {
		if isDir(arg) {
			return &fault{code: exitCode(err), msg: err.Error(), hints: []string{"to check the folder, write ./" + arg}}
		}
	}
	var f *fault
	if errors.As(err, &f) && len(args) > 0 && strings.Contains(f.msg, "there is no "+defaultRecipe) {
		return &fault{code: exitUsage, msg: "there is no folder " + args[0] + ", and no " + defaultRecipe + " either", hints: f.hints}
	}
	return err
}

func (a *app) verifyFolders(dirs []string) error {
	found := map[string][]convert.Problem{}
	n := 0
	for _, dir := range dirs {
		problems := append(convert.VerifyFolder(a.ctx, dir), changedManifest(dir)...)
		if a.ctx.Err() != nil {
			return &fault{code: exitInterrupted, msg: "interrupted"}
		}
		wrong := 0
		for _, p := range problems {
			if !p.Note {
				wrong++
			}
		}
		found[dir] = problems
		n += wrong
		if !a.json {
			a.sayProblems(dir, problems, wrong)
		}
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"version": 1, "ok": n == 0, "folders": found}); err != nil {
			return err
		}
	}
	if n > 0 {
		return &fault{code: exitBadInput, msg: planner.Count(n, "problem", "problems") + " found", hints: []string{"mlxbuild build puts right what it made; what came from elsewhere has to be fetched again"}}
	}
	return nil
}

func (a *app) sayProblems(dir string, problems []convert.Problem, wrong int) {
	for _, p := range problems {
		text := term.Clean(p.String())
		switch {
		case !p.Note:
			a.term.Line("%s: %s", dir, text)
		case !a.quiet:
			a.term.Line("%s: note: %s", dir, text)
		}
	}
	if wrong == 0 && !a.quiet {
		fmt.Fprintf(a.stdout, "ok: %s\n", dir)
	}
}

// changedManifest holds mlxbuild.json, which has the digests of all other files, against the provenance file beside the folder. A folder that was taken elsewhere has none.
func changedManifest(dir string) []convert.Problem {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	p := executor.ReadProvenance(abs)
	if p == nil {
		return nil
	}
	want, ok := p.Files[convert.ManifestName]
	if !ok {
		return nil
	}
	f, err := os.Open(filepath.Join(abs, convert.ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return []convert.Problem{{File: convert.ManifestName, What: "it is missing"}}
	}
	if err != nil {
		return []convert.Problem{{File: convert.ManifestName, What: err.Error()}}
	}
	defer f.Close()
	if d, err := cache.SumReader(f); err != nil || d != want {
		return []convert.Problem{{File: convert.ManifestName, What: fmt.Sprintf("it is not the one that was made (sha256 %s, not %s)", d.Short(), want.Short())}}
	}
	return nil
}

func rounding() string { return quant.Profile }
