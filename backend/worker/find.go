package worker

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
)

// Finder says where a runtime's Python may be: what a person named, an active virtual environment, or the environment that `mlxbuild runtime install` made. Nothing is taken from PATH by chance.
type Finder struct {
	Flag   string              // of the command line
	Env    func(string) string // nil: the process's environment
	Dir    string              // <cache>/runtimes
	Pins   string              // requirements of an environment made by Install
	Module string              // what the environment has to have, as it is installed: "torch"
}

// Found is an interpreter and how it was found.
type Found struct {
	Path string `json:"path"`
	How  string `json:"how"` // "--python", "MLXBUILD_PYTHON", "VIRTUAL_ENV", "mlxbuild runtime install"

	dir string
}

func (f Finder) getenv(name string) string {
	if f.Env != nil {
		return f.Env(name)
	}
	return os.Getenv(name)
}

// Installed is the folder of the environment that Install makes: named by its pins, so that other pins are another environment.
func (f Finder) Installed(name string) string {
	sum := sha256.Sum256([]byte(f.Pins))
	return filepath.Join(f.Dir, fmt.Sprintf("%s-%x", name, sum[:6]))
}

// interpreter of a virtual environment.
func interpreter(env string) string {
	if runtime.GOOS == "windows" {
		return filepath.Join(env, "Scripts", "python.exe")
	}
	return filepath.Join(env, "bin", "python")
}

// find looks in order. What a person named counts alone, right or wrong; an active environment only when it has the module.
func (f Finder) find(r *Runtime) (Found, error) {
	for _, named := range []struct{ path, how string }{{f.Flag, "--python"}, {f.getenv("MLXBUILD_PYTHON"), "MLXBUILD_PYTHON"}} {
		if named.path == "" {
			continue
		}
		path, err := filepath.Abs(named.path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return Found{}, &backend.MissingError{Runtime: r.config.Name, What: fmt.Sprintf("%s names %s, which is not there", named.how, named.path), Do: "name the python of an environment that has " + f.Module}
		}
		return Found{Path: path, How: named.how, dir: f.Dir}, nil
	}
	if env := f.getenv("VIRTUAL_ENV"); env != "" && hasModule(env, f.Module) {
		return Found{Path: interpreter(env), How: "VIRTUAL_ENV", dir: f.Dir}, nil
	}
	installed := interpreter(f.Installed(r.config.Name))
	if isFile(installed) {
		return Found{Path: installed, How: "mlxbuild runtime install", dir: f.Dir}, nil
	}
	until := installed
	if f.getenv("VIRTUAL_ENV") != "" {
		until = "" // the module may be installed there
	}
	looked := "no --python, no MLXBUILD_PYTHON, no active virtual environment with " + f.Module
	return Found{}, &backend.MissingError{Runtime: r.config.Name, What: looked + ", and nothing was installed", Until: until,
		Do: fmt.Sprintf("mlxbuild runtime install %s makes an environment for it; or set MLXBUILD_PYTHON to a python that has %s", r.config.Name, f.Module)}
}

// lacks is the error of an interpreter without the packages.
func (f Found) lacks(r *Runtime, what string) error {
	return &backend.MissingError{Runtime: r.config.Name, What: fmt.Sprintf("%s (%s) cannot run it: %s", f.Path, f.How, what),
		Do: fmt.Sprintf("mlxbuild runtime install %s makes an environment of its own; or install %s into this one", r.config.Name, r.config.Find.Module)}
}

// hasModule looks for a package in the usual places of a virtual environment, without starting Python.
func hasModule(env, module string) bool {
	for _, pattern := range []string{"lib/python3*/site-packages", "lib64/python3*/site-packages", "Lib/site-packages"} {
		found, _ := filepath.Glob(filepath.Join(env, filepath.FromSlash(pattern), module))
		if len(found) > 0 {
			return true
		}
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// knownFile remembers what workers said of themselves.
const knownFile = "known.json"

// known is a greeting and the state of the environment that it came from.
type known struct {
	Print    string   `json:"print"`
	Greeting Greeting `json:"greeting"`
}

// key of an interpreter in the file.
func (f Found) key(r *Runtime) string { return r.config.Name + " " + f.Path }

// remembered is what the worker of this interpreter said when its environment was as it is now.
func (f Found) remembered(r *Runtime) (Greeting, bool) {
	k, ok := readKnown(f.dir)[f.key(r)]
	if !ok || k.Print != f.print(r, k.Greeting.Path) {
		return Greeting{}, false
	}
	return k.Greeting, true
}

// remember is a shortcut for later; without it the worker is started to be asked.
func (f Found) remember(r *Runtime, g Greeting) {
	all := readKnown(f.dir)
	all[f.key(r)] = known{f.print(r, g.Path), g}
	if data, err := json.MarshalIndent(all, "", " "); err == nil && os.MkdirAll(f.dir, 0o755) == nil {
		_ = atomicfile.Write(filepath.Join(f.dir, knownFile), data, 0o644)
	}
}

func readKnown(dir string) map[string]known {
	all := map[string]known{}
	data, err := os.ReadFile(filepath.Join(dir, knownFile))
	if err != nil || json.Unmarshal(data, &all) != nil {
		return map[string]known{}
	}
	return all
}

// print is of everything that says that an environment is as it was: the interpreter, the folders that it imports from, in which installing and removing leaves traces, the worker's code, the machine
// and its driver.
func (f Found) print(r *Runtime, path []string) string {
	h := sha256.New()
	fmt.Fprintln(h, r.script())
	host, _ := os.Hostname()
	fmt.Fprintln(h, host, runtime.GOOS, runtime.GOARCH)
	for _, p := range append([]string{f.Path, filepath.Join(filepath.Dir(filepath.Dir(f.Path)), "pyvenv.cfg")}, path...) {
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			fmt.Fprintln(h, p, err)
			continue
		}
		fmt.Fprintln(h, p, info.Size(), info.ModTime().UnixNano())
	}
	if driver, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		fmt.Fprintln(h, string(driver))
	}
	for _, name := range []string{"CUDA_VISIBLE_DEVICES"} {
		fmt.Fprintln(h, name, r.config.Find.getenv(name))
	}
	return strings.ToLower(fmt.Sprintf("%x", h.Sum(nil)))
}
