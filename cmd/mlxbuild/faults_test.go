package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// program builds mlxbuild and lays out a recipe for it; what it returns runs the program there.
func program(t *testing.T, cacheDir string) (dir string, command func(args ...string) *exec.Cmd) {
	t.Helper()
	dir = t.TempDir()
	bin := filepath.Join(dir, "mlxbuild")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.CopyFS(filepath.Join(dir, "m"), os.DirFS(oracle.TinyStories(t))); err != nil {
		t.Fatal(err)
	}
	recipe := "version: 1\nmodels: {m: \"path:m\"}\nquantizations:\n  bf16: {quantize: false}\n  q3: {bits: 3}\n  q4: {bits: 4}\n  q8: {bits: 8}\n  mx: {mode: mxfp8}\n"
	if err := os.WriteFile(filepath.Join(dir, "r.yaml"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func(args ...string) *exec.Cmd {
		cmd := exec.Command(bin, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "MLXBUILD_CACHE="+cacheDir)
		return cmd
	}
}

func mustRun(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// right checks that everything is built and is what it says it is.
func right(t *testing.T, dir string) {
	t.Helper()
	for _, target := range []string{"bf16", "q3", "q4", "q8", "mx"} {
		if problems := convert.VerifyFolder(context.Background(), filepath.Join(dir, "build", "m", target)); problems != nil {
			t.Fatalf("%s: %v", target, problems)
		}
	}
}

// Killed at any moment, with the cache and the output folders in any state that leaves behind, the next build is right.
func TestKilledBuilds(t *testing.T) {
	cacheDir := filepath.Join(t.TempDir(), "cache")
	dir, mlxbuild := program(t, cacheDir)
	start := time.Now()
	mustRun(t, mlxbuild("build", "r.yaml"))
	whole := time.Since(start)
	right(t, dir)
	rng := rand.New(rand.NewPCG(11, 12))
	killed := 0
	for i := range 40 {
		if i%4 == 0 {
			if err := os.RemoveAll(cacheDir); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			if err := os.RemoveAll(filepath.Join(dir, "build")); err != nil {
				t.Fatal(err)
			}
		}
		cmd := mlxbuild("build", "r.yaml")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(whole))))
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		mustRun(t, mlxbuild("build", "r.yaml"))
		right(t, dir)
	}
	mustRun(t, mlxbuild("cache", "verify"))
	if killed < 10 {
		t.Errorf("only %d of 40 builds were still running when they were killed", killed)
	}
	t.Logf("%d of 40 were killed while they ran", killed)
}

// Two builds at once, on one cache and one build folder: both succeed, and each step is made once.
func TestBuildsAtOnce(t *testing.T) {
	dir, mlxbuild := program(t, filepath.Join(t.TempDir(), "cache"))
	var cmds []*exec.Cmd
	var outs []*strings.Builder
	for range 4 {
		cmd, out := mlxbuild("build", "r.yaml"), &strings.Builder{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	made := 0
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, outs[i])
		}
		made += strings.Count(outs[i].String(), "converted ")
	}
	right(t, dir)
	if made != 5 {
		t.Errorf("%d conversions for 5 targets", made)
	}
}

// A disk that is read-only: the place is named with what to do, and what was made is taken from the cache when it can be written.
func TestReadOnlyOutput(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		oracle.Missing(t, "a read-only disk can be mounted by root on Linux only")
	}
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk).CombinedOutput(); err != nil {
		oracle.Missing(t, "a read-only disk cannot be mounted here: "+string(out))
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
	dir, mlxbuild := program(t, filepath.Join(t.TempDir(), "cache"))
	if err := os.Symlink(disk, filepath.Join(dir, "build")); err != nil {
		t.Fatal(err)
	}
	out, err := mlxbuild("build", "-k", "r.yaml").CombinedOutput()
	if text := string(out); err == nil || !strings.Contains(text, "cannot be written") || !strings.Contains(text, "hint: mend the permissions") {
		t.Errorf("%v, said:\n%s", err, text)
	}
	if out, err := exec.Command("mount", "-o", "remount,rw", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, err = mlxbuild("build", "r.yaml").CombinedOutput()
	if err != nil || strings.Contains(string(out), "converted") {
		t.Errorf("%v: what was made is made again:\n%s", err, out)
	}
	right(t, dir)
}

// A disk that fills up: a clear error that names it, and when there is room again everything is made.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		oracle.Missing(t, "a small disk can be mounted by root on Linux only")
	}
	for _, full := range []string{"cache", "build"} {
		t.Run(full, func(t *testing.T) {
			disk := t.TempDir()
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk).CombinedOutput(); err != nil {
				oracle.Missing(t, "a small disk cannot be mounted here: "+string(out))
			}
			t.Cleanup(func() { _ = exec.Command("umount", "-l", disk).Run() })
			cacheDir := filepath.Join(t.TempDir(), "cache")
			if full == "cache" {
				cacheDir = disk
			}
			dir, mlxbuild := program(t, cacheDir)
			if full == "build" {
				if err := os.Symlink(disk, filepath.Join(dir, "build")); err != nil {
					t.Fatal(err)
				}
			}
			out, err := mlxbuild("build", "r.yaml").CombinedOutput()
			if err == nil {
				t.Fatal("3.5 MB went onto a disk of 2 MB")
			}
			if text := string(out); !strings.Contains(text, "disk is full") && !strings.Contains(text, "not enough room") || !strings.Contains(text, "hint:") {
				t.Errorf("said:\n%s", text)
			}
			if out, err := exec.Command("mount", "-o", "remount,size=200m", disk).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			mustRun(t, mlxbuild("build", "r.yaml"))
			right(t, dir)
		})
	}
}

// begun starts a build with nothing made and waits until it has a stage, so that what happens to it then happens in the middle.
func begun(t *testing.T, cmd *exec.Cmd, cacheDir string) *strings.Builder {
	t.Helper()
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if stages, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*", "*")); len(stages) > 0 {
			return &said
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("it never began:\n%s", said.String())
	return nil
}

// What a CI runner sends to a job that is cancelled is taken like Ctrl-C: what was finished is kept, the exit code says so, nothing is left.
func TestTerminated(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if runtime.GOOS == "windows" {
			oracle.Missing(t, "Windows has no signals to send")
		}
		cacheDir := filepath.Join(t.TempDir(), "cache")
		dir, mlxbuild := program(t, cacheDir)
		interrupted := false
		for range 20 { // a build this small may be through before the signal comes
			if err := os.RemoveAll(cacheDir); err != nil {
				t.Fatal(err)
			}
			cmd := mlxbuild("build", "r.yaml")
			said := begun(t, cmd, cacheDir)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if err == nil {
				continue
			}
			interrupted = true
			if cmd.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(said.String(), "interrupted") {
				t.Errorf("%v: %v\n%s", signal, err, said.String())
			}
			if left, _ := filepath.Glob(filepath.Join(cacheDir, "tmp", "*")); left != nil {
				t.Errorf("%v left %v", signal, left)
			}
		}
		if !interrupted {
			t.Errorf("%v never came in time", signal)
		}
		mustRun(t, mlxbuild("build", "r.yaml"))
		right(t, dir)
	}
}

// A second Ctrl-C ends the program at once, and what is on the disk is right even so.
func TestInterruptedTwice(t *testing.T) {
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "Windows has no signals to send")
	}
	cacheDir := filepath.Join(t.TempDir(), "cache")
	dir, mlxbuild := program(t, cacheDir)
	for i := range 10 {
		if err := os.RemoveAll(cacheDir); err != nil {
			t.Fatal(err)
		}
		cmd := mlxbuild("build", "r.yaml")
		begun(t, cmd, cacheDir)
		for range 2 {
			_ = cmd.Process.Signal(os.Interrupt) // it may be through by now
			time.Sleep(time.Duration(i) * 200 * time.Microsecond)
		}
		_ = cmd.Wait()
		mustRun(t, mlxbuild("build", "r.yaml"))
		right(t, dir)
		mustRun(t, mlxbuild("cache", "verify"))
	}
}

// A clock that was wrong by days when files were written: nothing is wrong, nothing is lost that is needed, and the build ends up with nothing to do.
func TestWrongClock(t *testing.T) {
	cacheDir := filepath.Join(t.TempDir(), "cache")
	dir, mlxbuild := program(t, cacheDir)
	mustRun(t, mlxbuild("build", "r.yaml"))
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour, 10 * 365 * 24 * time.Hour, -50 * 365 * 24 * time.Hour} {
		for _, root := range []string{cacheDir, filepath.Join(dir, "build"), filepath.Join(dir, "m")} {
			err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Chtimes(path, time.Now().Add(by), time.Now().Add(by))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		mustRun(t, mlxbuild("cache", "gc", "--max-size", "1kB"))
		mustRun(t, mlxbuild("build", "r.yaml"))
		right(t, dir)
		mustRun(t, mlxbuild("cache", "verify"))
		time.Sleep(30 * time.Millisecond) // older than a file system's tick
		mustRun(t, mlxbuild("build", "r.yaml"))
		if by < 0 { // files of the future are not remembered by their metadata: they are hashed each time, and still nothing is made
			mustRun(t, mlxbuild("plan", "--check", "r.yaml"))
		}
	}
}

// Whatever the umask, a build works, and nobody but its owner may write what it made.
func TestUmask(t *testing.T) {
	if runtime.GOOS == "windows" {
		oracle.Missing(t, "Windows has no umask")
	}
	for _, mask := range []string{"000", "077", "002"} {
		cacheDir := filepath.Join(t.TempDir(), "cache")
		dir, mlxbuild := program(t, cacheDir)
		cmd := mlxbuild("build", "r.yaml")
		cmd.Args = append([]string{"sh", "-c", "umask " + mask + `; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		mustRun(t, cmd)
		right(t, dir)
		for _, root := range []string{cacheDir, filepath.Join(dir, "build")} {
			err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := e.Info()
				if err == nil && info.Mode().Perm()&0o022 != 0 {
					t.Errorf("umask %s: %s has mode %v", mask, path, info.Mode())
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Names that a case-insensitive disk takes for one are refused before they overwrite each other.
func TestNamesThatDifferInCase(t *testing.T) {
	dir, mlxbuild := program(t, filepath.Join(t.TempDir(), "cache"))
	for _, recipe := range []string{
		"version: 1\nmodels: {m: \"path:m\"}\nquantizations: {q4: {bits: 4}, Q4: {bits: 8}}\n",
		"version: 1\nmodels: {m: \"path:m\", M: \"path:m\"}\nquantizations: {q4: {bits: 4}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "r.yaml"), []byte(recipe), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := mlxbuild("build", "r.yaml").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "hint:") {
			t.Errorf("%v\n%s\n%s", err, recipe, out)
		}
	}
}
