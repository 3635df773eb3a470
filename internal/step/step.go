// Package step says what a plan is made of: targets, steps, the actions behind them, and the kinds that plan them.
//
// A step is plain data: what it is called, what it needs, what it makes and which recipe line asked for it. What differs from kind to kind is its
// Action. A step sees its inputs, its parameters and nothing else; the state of a run is the executor's.
package step

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"path/filepath"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/spec"
)

// ID and ArtifactID are indexes into a plan's steps and artifacts.
type (
	ID         int
	ArtifactID int
)

// Pools that limit what runs together. A step of PoolCPU uses every core by itself, one of PoolNet waits for the network beside others, one of PoolDevice has the machine to itself.
const (
	PoolCPU    = "cpu"
	PoolNet    = "net"
	PoolDevice = "device"
)

// Step is one node that does work. Exactly one of Source and Action is set.
type Step struct {
	Kind   string // "source", "convert", "generate"
	Name   string // unique in a plan: "convert tiny/q4"
	Target string // id of the target it belongs to, "" for a source
	Labels Labels
	Recipe string   // file that asked for it, for messages
	Pos    spec.Pos // the line in it
	Ins    []In
	Out    ArtifactID
	Pool   string
	// Pass is equal for steps that can share one reading of their inputs, "" for a step that cannot. Those that are ready together run together, as one of their pool, and meet at Env.Seat.
	Pass string
	// Auxiliary steps are made only when another step needs what they make.
	Auxiliary bool

	Source Source
	Action Action

	// Folder is where the outputs are linked for the user, "" when the record is all there is.
	Folder string
	// Origin is written to the folder's provenance file: facts that are input to nothing.
	Origin map[string]string
}

// In is an input of a step: the artifact and the role it plays in the key.
type In struct {
	Role     string // "source", "model"
	Artifact ArtifactID
	Held     bool // in memory, all of it, while the step runs
}

// Source takes content from outside, which then is known by digest.
type Source interface {
	// Known answers from what is remembered or pinned, by looking at files' metadata only.
	Known(c *cache.Cache) (cache.Digest, bool)
	// Ready reports whether the content lies in Dir. What is known need not be there: it is brought by Read, and only when a step that runs takes it.
	Ready(c *cache.Cache) bool
	// Read brings the content to Dir and proves what it is.
	Read(ctx context.Context, e *Env) (cache.Digest, error)
	// Check reports whether the content that Read proved lies there unchanged, after a step has used it.
	Check(ctx context.Context, c *cache.Cache, proved cache.Digest) error
	// Dir is the folder that holds it.
	Dir() string
	// Size in bytes, as far as it can be told without reading.
	Size() int64
	// After names what has to happen before the content is there: "hashing", "fetch".
	After() string
}

// Watched is a Source that can name what Known looked at, so that a build with nothing to do is known again by that alone. false: it depends on something else.
type Watched interface{ Watch(t *snapshot.Taker) bool }

// Action makes a step's outputs from its inputs.
type Action interface {
	// Key writes everything but the inputs that the result depends on: code versions, normalised parameters, tools.
	Key(k *cache.KeyWriter)
	// Prepare decides all that can be decided before running and forecasts the work. It reads headers, never weights, and is called at most
	// once before Run. Its error is the user's to mend: spec.Diags or an error in plain words.
	Prepare() (*Forecast, error)
	// Run writes the outputs into e.Stage.
	Run(ctx context.Context, e *Env) (*Result, error)
}

// Where says which recipe line a changed part of a key comes from: name is the parameter, path the place inside its value.
type Where interface {
	Where(name, path string) (spec.Pos, bool)
}

// Forecast is what is known of a step's work before it runs. Bytes are exact where they follow from headers; zero means unknown.
type Forecast struct {
	Summary    string   // one phrase: "4.5 bits per weight, 73.9 MB"
	Notes      []string // repairs and warnings, a sentence each
	ReadBytes  int64
	WriteBytes int64
	PeakMemory int64   // without the inputs that are Held, which a plan adds
	Seconds    float64 // that it will take, where bytes do not say; 0 when unknown
	After      string  // set when nothing can be said yet: "after fetch"
	Missing    error   // a runtime or tool that the step needs and that is not here
	Rules      []RuleUse
}

// RuleUse says whether one of a target's override rules matched any of its modules.
type RuleUse struct {
	Rule    spec.Rule
	Matched bool
}

// Env is what a running step gets.
type Env struct {
	Cache    *cache.Cache
	Stage    *cache.Stage
	Inputs   []Input           // in the order of Step.Ins
	Progress func(bytes int64) // bytes done since the last call, against Forecast.ReadBytes
	Status   func(text string) // what the step is at: "chunk 3 of 64"
	Warn     func(sentence string)
	Message  func(text string)     // what a person should know at once: "waiting for process 123"
	Hold     func(...cache.Digest) // keeps blobs from eviction while the run lasts
	Seat     *Seat                 // where the other steps of a pass are met; nil for a step that runs by itself
}

// Input is a finished artifact: its digest, and the folder where its content lies.
type Input struct {
	Name   string
	Digest cache.Digest
	Dir    string
	Files  map[string]string // of a step whose outputs lie in the cache only: path of each by name
	// Check says whether it is still what Digest says. The executor asks when the step has run; a step may ask before.
	Check func(ctx context.Context) error
}

// File is one finished output in the stage, hashed while it was written.
type File struct {
	Path     string // slash-separated, relative to the output folder
	Digest   cache.Digest
	Size     int64
	Describe bool // says how the others were made (mlxbuild.json): not part of what later steps take as input
}

// Result is what a step made.
type Result struct {
	Files []File
	Value json.RawMessage // the record artifact of steps that make no files
	// Volatile results may be others tomorrow (a timing that ran out of memory): they are told and not kept, so that the next run tries again. Only for steps that make no files and that no step needs.
	Volatile bool
}

// Kind plans the steps of one recipe section. It only adds steps; it cannot see the graph.
type Kind interface {
	Name() string
	Plan(b Builder) spec.Diags
}

// Builder is the plan under construction. Kinds meet in it by artifact names, without knowing each other.
type Builder interface {
	Recipe() *spec.Recipe
	// BuildDir is the absolute folder that outputs go to.
	BuildDir() string
	// Targets are the cells of the convert matrix.
	Targets() []Target
	// At is the folder for the outputs, and the targets, of this recipe at another revision; why says why there are none.
	At(revision string) (buildDir string, targets []Target, why string)
	// Artifact finds or declares an artifact.
	Artifact(name string) ArtifactID
	Add(Step)
}

// ModelArtifact names the artifact of a model source, TargetArtifact that of a built target.
func ModelArtifact(m spec.Model) string {
	at := m.Revision
	if m.Pin != nil {
		at = m.Pin.Commit
	}
	return "source " + m.Source.Kind + ":" + m.Source.Path + m.Source.Ref + "@" + at
}

// TextArtifact names the artifact of a corpus that lies elsewhere.
func TextArtifact(c spec.Corpus) string {
	if c.Pin != nil {
		return "corpus " + c.Asked() + "@" + c.Pin.Commit + " " + c.File
	}
	return "corpus " + c.Source.Kind + ":" + c.Source.Ref + " " + c.File + " " + hex.EncodeToString(c.SHA256[:])
}

func TargetArtifact(buildDir, target string) string { return "target " + target + " in " + buildDir }

// TargetDir is the folder of a target's outputs.
func TargetDir(buildDir, target string) string {
	return filepath.Join(buildDir, filepath.FromSlash(target))
}
