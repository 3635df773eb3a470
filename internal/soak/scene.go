package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// recipes of a scene. The second is the first after a change that leaves some tensors as they are. The third has something to accept.
const (
	recipeOne = "version: 1\nmodels: {m: %q}\nquantizations:\n  bf16: {quantize: false}\n  q4: {bits: 4}\n"
	recipeTwo = "version: 1\nmodels: {m: %q}\nquantizations:\n  bf16: {quantize: false}\n  q4: {bits: 4, overrides: [{match: embed_tokens, bits: 8}]}\n"
	recipeAll = "version: 1\nmodels: {m: %q}\nquantizations:\n  bf16: {quantize: false}\n  q4: {bits: 4}\nprompts: {p: [\"Once upon\"]}\n" +
		"generate: {g: {targets: [m/q4], prompts: p, max_tokens: 2}}\ncorpora: {c: {source: %q, context: 8, chunks: 2}}\n" +
		"validate: {v: {kind: fidelity, targets: [m/*], corpus: c, expect: [{for: {}, kld_vs_accepted: {max: +10%%}}]}}\nreport: [html]\n"
	recipeHub = "version: 1\nmodels: {m: {source: \"hf:org/tiny\", revision: main}}\nquantizations: {q4: {bits: 4}}\n"
)

// scene is a folder in which the program is run: recipes, their build folder, and a cache of its own.
type scene struct {
	bin, dir string
	shared   string   // the cache, where it is not the scene's own
	env      []string // where the Hub is
}

// newScene lays the recipes out in an empty folder.
func (s *soak) newScene(dir string) (scene, error) {
	sc := scene{bin: s.bin, dir: dir, env: s.env()}
	model := "path:" + filepath.Join(s.work, "tiny")
	for name, text := range map[string]string{"r.yaml": fmt.Sprintf(recipeOne, model), "r2.yaml": fmt.Sprintf(recipeTwo, model), "hub.yaml": recipeHub,
		"all.yaml": fmt.Sprintf(recipeAll, model, "path:"+filepath.Join(s.work, "tiny", "heldout.txt"))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return sc, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return sc, err
		}
	}
	return sc, nil
}

func (sc scene) cache() string {
	if sc.shared != "" {
		return sc.shared
	}
	return filepath.Join(sc.dir, "cache")
}

// command that runs the program here, with nothing of this machine's settings.
func (sc scene) command(args ...string) *exec.Cmd {
	return sc.commandContext(context.Background(), args...)
}

func (sc scene) commandContext(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, sc.bin, args...)
	cmd.Dir = sc.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(sc.dir, "home"), "MLXBUILD_CACHE=" + sc.cache(), "NO_COLOR=1"}
	cmd.Env = append(cmd.Env, sc.env...)
	return cmd
}

// run the program; what it says is in the error.
func (sc scene) run(args ...string) (said string, err error) {
	out, err := sc.command(args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("mlxbuild %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// copyTo makes another scene that is as this one is. Its files are new ones, so what the cache remembers of files' metadata does not hold there.
func (sc scene) copyTo(dir string) (scene, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return scene{}, err
	}
	return scene{bin: sc.bin, dir: dir, env: sc.env}, os.CopyFS(dir, os.DirFS(sc.dir))
}

// outputs are the digests of what was made: every file but those that tell the time. With them goes what a person is told to commit.
func (sc scene) outputs() (map[string]string, error) {
	out := map[string]string{}
	for _, sub := range []string{"build", "out", "mlxbuild.yaml", "mlxbuild.accepted.jsonl", lock.Name} {
		err := filepath.WalkDir(filepath.Join(sc.dir, sub), func(path string, e fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") {
				return filepath.SkipDir // see leftovers
			}
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(sc.dir, path)
			hidden := strings.HasPrefix(filepath.Base(rel), ".") && filepath.Base(rel) != ".gitignore"
			if err != nil || hidden || strings.HasSuffix(rel, ".provenance.json") || filepath.Base(rel) == "results.jsonl" || filepath.Base(rel) == "report.html" {
				return err
			}
			data, err := os.ReadFile(path)
			out[rel] = cache.SumBytes(data).String()
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// differences of two sets of outputs, "" when there are none.
func differences(got, want map[string]string) string {
	var out []string
	for name, d := range want {
		switch g, ok := got[name]; {
		case !ok:
			out = append(out, name+" is missing")
		case g != d:
			out = append(out, name+" has other bytes")
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			out = append(out, name+" should not be there")
		}
	}
	return strings.Join(out, ", ")
}

// check says what is wrong with the scene: outputs that are not as wanted, or do not hold what their manifest says, or a cache with damages. "" = nothing.
func (sc scene) check(want map[string]string) string {
	got, err := sc.outputs()
	if err != nil {
		return err.Error()
	}
	if d := differences(got, want); d != "" {
		return d
	}
	for name := range want {
		if filepath.Base(name) == convert.ManifestName {
			if problems := convert.VerifyFolder(context.Background(), filepath.Join(sc.dir, filepath.Dir(name))); problems != nil {
				return fmt.Sprint(problems)
			}
		}
	}
	return sc.checkCache()
}

func (sc scene) checkCache() string {
	c, err := cache.Open(sc.cache(), cache.Options{})
	if err != nil {
		return err.Error()
	}
	v, err := c.Verify(context.Background(), cache.VerifyOptions{})
	if err != nil {
		return err.Error()
	}
	if len(v.Damages) > 0 {
		return fmt.Sprintf("cache verify: %v", v.Damages)
	}
	return ""
}

// temporaries are the folders of what does not outlive a run, but for root- files, which say which build folders there are.
var temporaries = []string{filepath.Join("cache", "tmp"), filepath.Join("cache", "locks"), filepath.Join("cache", "parts"), filepath.Join("cache", "leases"),
	filepath.Join("home", ".cache", "mlxbuild", "locks")}

// leftovers finds files that no command would ever take away: it makes everything two days older, collects, and lists what is temporary and still there.
func (sc scene) leftovers() string {
	old := time.Now().Add(-48 * time.Hour)
	var temporary []string
	visit := func(list bool) error {
		return filepath.WalkDir(sc.dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(sc.dir, path)
			if err != nil {
				return err
			}
			name, home := e.Name(), filepath.Dir(rel)
			made := slices.Contains(temporaries, home) && !strings.HasPrefix(name, "root-")
			hidden := strings.HasPrefix(name, ".") && rel != "." && name != ".gitignore" && rel != filepath.Join("home", ".cache")
			if !made && !hidden {
				return nil
			}
			if list {
				temporary = append(temporary, rel)
				return nil
			}
			return os.Chtimes(path, old, old)
		})
	}
	if err := visit(false); err != nil {
		return err.Error()
	}
	removeAll(filepath.Join(sc.dir, "build", "m", "q4")) // what is written anew in a folder tidies it
	for _, args := range [][]string{{"cache", "gc"}, {"build", "r.yaml"}, {"init", "another.yaml"}} {
		if _, err := sc.run(args...); err != nil {
			return err.Error()
		}
	}
	if err := visit(true); err != nil {
		return err.Error()
	}
	if temporary != nil {
		return "left behind for ever: " + strings.Join(temporary, ", ")
	}
	return ""
}
