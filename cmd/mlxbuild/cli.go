package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/cpu"
	"github.com/mlxbuild/mlxbuild/internal/term"
)

// cli is the whole command line, in the order that help shows it.
type cli struct {
	Directory string `short:"C" placeholder:"DIR" help:"Work in this folder."`
	JSON      bool   `name:"json" help:"Answer in JSON; while building, one event a line."`
	Quiet     bool   `help:"Say only what is wrong."`
	Locked    bool   `help:"Refuse to change mlxbuild.lock: what is not in it is an error (exit code 7)."`
	Offline   bool   `help:"Use no network: what is not here already is an error."`
	Python    string `placeholder:"FILE" help:"Python with mlx-lm or PyTorch, for the runtimes mlx and torch (default: $MLXBUILD_PYTHON, an active virtual environment, or what mlxbuild runtime install made)."`

	Build     buildCmd     `cmd:"" group:"Recipes" help:"Make what is out of date: models, then the text they write."`
	Lock      lockCmd      `cmd:"" group:"Recipes" help:"Pin what recipes take from the Hub: commits, files and their digests."`
	Fetch     fetchCmd     `cmd:"" group:"Recipes" help:"Bring the models of recipes here, for building without a network."`
	Plan      planCmd      `cmd:"" group:"Recipes" help:"Show what build would do, and why."`
	Check     checkCmd     `cmd:"" group:"Recipes" help:"Find every mistake in recipes and model folders."`
	Explain   explainCmd   `cmd:"" group:"Recipes" help:"Show how a target is made, tensor by tensor, and why it is rebuilt."`
	Validate  validateCmd  `cmd:"" group:"Recipes" help:"Say whether targets are right, and what quantization cost them."`
	Benchmark benchmarkCmd `cmd:"" group:"Recipes" help:"Time targets on runtimes, and hold them against a baseline."`
	Report    reportCmd    `cmd:"" group:"Recipes" help:"Write what was built, validated and timed as one page."`
	Accept    acceptCmd    `cmd:"" group:"Recipes" help:"Take measured figures as what later builds are held against."`
	Show      showCmd      `cmd:"" group:"Recipes" help:"Show what was built: sizes and generated text."`
	Diff      diffCmd      `cmd:"" group:"Recipes" help:"Compare two files of results."`
	List      listCmd      `cmd:"" group:"Recipes" help:"List models and targets with their state."`
	Init      initCmd      `cmd:"" group:"Recipes" help:"Write a first recipe."`
	Convert   convertCmd   `cmd:"" group:"Models" help:"Convert one model without a recipe; a drop-in for mlx_lm.convert."`
	Generate  generateCmd  `cmd:"" group:"Models" help:"Write text with a target or any MLX model folder."`
	Verify    verifyCmd    `cmd:"" group:"Models" help:"Check a model folder against its manifest, index and config."`
	Llama     llamaCmd     `cmd:"" group:"Models" help:"The commands of pytorch_to_mlx llama: convert, validate, benchmark and list."`

	Runtime    runtimeCmd    `cmd:"" group:"Housekeeping" help:"Look after what runs models: list, install."`
	Cache      cacheCmd      `cmd:"" group:"Housekeeping" help:"Look after the cache: stats, gc, verify, repair."`
	Schema     schemaCmd     `cmd:"" group:"Housekeeping" help:"Print the JSON Schema of recipes, for editors."`
	Completion completionCmd `cmd:"" group:"Housekeeping" help:"Print completions for bash, zsh or fish."`
	Version    versionCmd    `cmd:"" group:"Housekeeping" help:"Print version and platform."`
	Worker     workerCmd     `cmd:"" hidden:"" help:"Serve a runtime over standard input and output."`
}

const description = `mlxbuild is make for MLX language models. A recipe (YAML) says which models to take, how to quantize them and what to try them on; mlxbuild makes
what is out of date, and nothing else.

  mlxbuild init                               write a first recipe, mlxbuild.yaml
  mlxbuild build                              make everything in it
  mlxbuild build recipes/smollm2.yaml 'smollm2/q*'
  mlxbuild plan                               what would be done, and why
  mlxbuild generate smollm2/q4 -p "Once upon a time"
  mlxbuild convert --hf-path models/SmolLM2-135M-Instruct -q`

// app is what every command works with.
type app struct {
	ctx     context.Context
	stdout  io.Writer
	stderr  io.Writer
	term    *term.Term
	json    bool
	quiet   bool
	locked  bool
	offline bool
	calm    bool // say nothing when there is nothing to do
	streams bool // the answer is events in JSON, and run_end is still to come
	github  bool

	began    time.Time // when this program did
	snapshot string    // where one of this build would be; see unchanged
	answer   answer    // what a build with nothing to do says
	answers  *counted  // what a build answered, for leaveSnapshot

	runtimes *backend.Set
	quick    bool // benchmarks: three runs, no verdict
	commands bool // benchmarks may run programs that a recipe names
}

// exitPanic carries the exit code out of kong's --help.
type exitPanic int

// run is the program: it parses, runs one command and maps its error to an exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	a := &app{ctx: ctx, began: time.Now(), stdout: stdout, stderr: stderr, term: term.New(stderr, os.Getenv), github: os.Getenv("GITHUB_ACTIONS") == "true"}
	defer func() {
		if p := recover(); p != nil {
			exit, ok := p.(exitPanic)
			if !ok {
				fmt.Fprintf(stderr, "error: this is a bug in mlxbuild: %v\n%s", p, debug.Stack())
				exit = exitFailed
			}
			code = int(exit)
		}
	}()
	if a.unchanged(args) {
		return 0
	}
	var c cli
	parser, err := kong.New(&c, kong.Name("mlxbuild"), kong.Description(description), kong.Writers(stdout, stderr), kong.Exit(func(n int) { panic(exitPanic(n)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}), kong.ShortUsageOnError(), kong.Vars{"exitcodes": exitHelp()},
		kong.ExplicitGroups([]kong.Group{{Key: "Recipes", Title: "Recipes"}, {Key: "Models", Title: "Single models"}, {Key: "Housekeeping", Title: "Housekeeping"}}))
	if err != nil {
		panic(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(flagsFirst(parser, args))
	if err != nil {
		a.sayError(usage(err))
		return exitUsage
	}
	a.json, a.quiet, a.locked, a.offline = c.JSON, c.Quiet, c.Locked, c.Offline
	if c.Directory != "" {
		if err := a.enter(c.Directory); err != nil {
			a.sayError(&fault{code: exitUsage, msg: fmt.Sprintf("-C %s: %v", c.Directory, errors.Unwrap(err)), hints: hintsOf(err)})
			return exitUsage
		}
	}
	if _, err := cpu.Forced(); err != nil {
		a.sayError(&fault{code: exitUsage, msg: err.Error(), hints: []string{"without " + cpu.Variable + " the fastest is used; results are the same"}})
		return exitUsage
	}
	a.runtimes = a.openRuntimes(c.Python)
	defer a.runtimes.Close()
	err = parsed.Run(a)
	if err != nil && !errors.Is(err, errSaid) {
		a.sayError(err)
	}
	if a.streams {
		a.endEvents(endState(nil, err), err)
	}
	return exitCode(err)
}

// errSaid is wrapped by errors that have been printed already.
var errSaid = errors.New("said")

// usage turns a parser's error into ours.
func usage(err error) error {
	f := &fault{code: exitUsage, msg: err.Error(), hints: []string{"mlxbuild --help lists the commands, mlxbuild COMMAND --help their flags"}}
	if what, near, ok := strings.Cut(err.Error(), ", did you mean "); ok {
		f.msg, f.hints = what, []string{"did you mean " + strings.TrimSuffix(near, "?") + "?"}
	}
	return f
}

func exitHelp() string {
	var b strings.Builder
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "%d %s; ", e.Code, e.Meaning)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// openCache opens the cache that MLXBUILD_CACHE names, or the user's.
func (a *app) openCache() (*cache.Cache, error) { return cache.Open("", cache.Options{}) }

// version of the program, from the build; "devel" for a build from a checkout without a tag.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func machine() string { return runtime.GOOS + "/" + runtime.GOARCH }

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	v := map[string]string{"mlxbuild": version(), "go": runtime.Version(), "platform": machine(), "rounding": rounding()}
	if a.json {
		return printJSON(a.stdout, v)
	}
	fmt.Fprintf(a.stdout, "mlxbuild %s (%s, %s), arithmetic of %s\n", v["mlxbuild"], v["platform"], v["go"], v["rounding"])
	return nil
}
