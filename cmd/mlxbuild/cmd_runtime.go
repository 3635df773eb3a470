package main

import (
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend/worker"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/planner"
)

type runtimeCmd struct {
	List    runtimeListCmd    `cmd:"" help:"Show which runtimes are there: where, which versions, which device."`
	Install runtimeInstallCmd `cmd:"" help:"Make a Python environment for mlx or torch, with pinned versions."`
}

type runtimeListCmd struct{}

func (runtimeListCmd) Help() string {
	return `builtin is always there. mlx and torch need Python: --python, else MLXBUILD_PYTHON, else an active virtual environment that has them, else what
mlxbuild runtime install made. The first look at an environment starts it, which takes seconds; afterwards it is remembered until something in it changes.

Exit code 5 when one is missing.`
}

// runtimeState is what is known of a runtime.
type runtimeState struct {
	Name     string            `json:"name"`
	Found    bool              `json:"found"`
	Where    string            `json:"where,omitempty"`
	How      string            `json:"how,omitempty"`
	Versions map[string]string `json:"versions,omitempty"`
	Device   *worker.Device    `json:"device,omitempty"`
	ID       string            `json:"id,omitempty"`
	Missing  string            `json:"missing,omitempty"`
	Do       string            `json:"do,omitempty"`
}

func (runtimeListCmd) Run(a *app) error {
	states := []runtimeState{{Name: "builtin", Found: true, Where: "this program", Device: &worker.Device{Kind: "cpu", Name: machine()}}}
	states[0].ID, _ = a.runtimes.ID("builtin")
	missing := 0
	for _, name := range []string{"mlx", "torch"} {
		s := a.runtimeState(name)
		if !s.Found {
			missing++
		}
		states = append(states, s)
	}
	if a.json {
		if err := printJSON(a.stdout, map[string]any{"version": 1, "runtimes": states}); err != nil {
			return err
		}
	} else {
		a.printRuntimes(states)
	}
	if missing > 0 {
		return &said{&fault{code: exitMissing, msg: planner.Count(missing, "runtime is", "runtimes are") + " missing"}}
	}
	return nil
}

func (a *app) runtimeState(name string) runtimeState {
	s := runtimeState{Name: name}
	g, found, err := a.runtimes.Find(name).(*worker.Runtime).Greeting(a.ctx)
	s.Where, s.How = found.Path, found.How
	if err != nil {
		s.Missing = err.Error()
		if h := hintsOf(err); len(h) > 0 {
			s.Do = h[0]
		}
		return s
	}
	s.Found, s.Versions, s.Device = true, g.Versions, &g.Device
	s.ID, _ = a.runtimes.ID(name)
	return s
}

func (a *app) printRuntimes(states []runtimeState) {
	rows := [][]string{{"RUNTIME", "DEVICE", "VERSIONS", "WHERE"}}
	for _, s := range states {
		if !s.Found {
			rows = append(rows, []string{s.Name, "-", "missing", orDash(s.Where)})
			continue
		}
		where := s.Where
		if s.How != "" {
			where += " (" + s.How + ")"
		}
		rows = append(rows, []string{s.Name, s.Device.Kind + " " + s.Device.Name, orDash(versionList(s.Versions)), where})
	}
	table(a.stdout, rows)
	for _, s := range states {
		if !s.Found {
			a.term.Line("\n%s: %s", s.Name, s.Missing)
			if s.Do != "" {
				a.term.Line("hint: %s", s.Do)
			}
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// versionList leaves out what only supports the rest.
func versionList(versions map[string]string) string {
	var out []string
	for name, v := range versions {
		if name != "numpy" && name != "safetensors" {
			out = append(out, name+" "+v)
		}
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

type runtimeInstallCmd struct {
	Name string `arg:"" enum:"mlx,torch" help:"mlx (mlx and mlx-lm) or torch (PyTorch and transformers)."`
}

func (runtimeInstallCmd) Help() string {
	return `Makes a virtual environment in the cache with exactly the versions that this mlxbuild was tested with, every package checked against its hash. It uses uv where it is installed, else
python3 -m venv and pip. It needs Python 3.11 or later and the package index that pip is set up with.`
}

func (c runtimeInstallCmd) Run(a *app) error {
	if a.offline {
		return &fault{code: exitUsage, msg: "--offline: an environment is made of packages that are downloaded", hints: []string{"leave --offline out, or name an environment that is there with --python"}}
	}
	dir, err := cache.DefaultDir()
	if err != nil {
		return err
	}
	r := a.runtimes.Find(c.Name).(*worker.Runtime)
	env, made, err := r.Install(a.ctx, filepath.Join(dir, "runtimes"), func(line string) {
		if !a.quiet && !a.json {
			a.term.Line("%s", line)
		}
	})
	if err != nil {
		return err
	}
	g, found, err := r.Greeting(a.ctx)
	if err != nil {
		return err
	}
	if a.json {
		return printJSON(a.stdout, map[string]any{"version": 1, "runtime": c.Name, "environment": env, "made": made, "used": found.Path, "versions": g.Versions, "device": g.Device})
	}
	word := "is there already"
	if made {
		word = "installed"
	}
	a.term.Line("%s %s: %s on %s %s", c.Name, word, versionList(g.Versions), g.Device.Kind, g.Device.Name)
	if !strings.HasPrefix(found.Path, env) {
		a.term.Line("note: %s names another python, which is used instead: %s", found.How, found.Path)
	}
	return nil
}
