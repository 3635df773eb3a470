// Package rebuild makes again, in a place of its own, what the cache and the build folders hold, and compares: a proof that results repeat, and that nobody changed them since.
//
// What is made again uses no result of the cache. A step's inputs are made again too, unless only a sample is asked for or they cannot be made again byte for byte: then they are those that the step was
// once made of. So a difference is always the step's own, or one of a step before it that is named.
package rebuild

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/planner"
)

// Options of Run.
type Options struct {
	Cache   *cache.Cache     // whose records are checked; it is not changed
	Built   *planner.Graph   // the plan of what was built
	Again   *planner.Graph   // the same plan with build folders in Dir
	Want    []step.ID        // of either
	Dir     string           // an empty folder
	Sample  float64          // share of the steps that are made again; 0 and 1 = all
	Seed    uint64           // of the sample
	Inexact bool             // make steps again too whose results may differ in the last bits
	Run     executor.Options // jobs, memory, events, and what records say of the program
}

// What a Finding says.
const (
	Equal      = "equal"
	Differs    = "differs"
	MayDiffer  = "may differ"  // made again with another result, by a step that makes no promise of bytes
	NotBuilt   = "not built"   // there is no record to compare with
	NotChecked = "not checked" // not made again: not in the sample, or it measures what is another each time
	Unjudged   = "unjudged"    // one of its inputs came out differently, so nothing follows from it
	Failed     = "failed"      // it could not be made again
)

// Finding is what came of one step.
type Finding struct {
	Step        string           `json:"step"`
	Kind        string           `json:"kind"`
	Class       step.Determinism `json:"class"`
	State       string           `json:"state"`
	Reason      string           `json:"reason,omitempty"`
	Key         string           `json:"key,omitempty"`
	Files       int              `json:"files"` // that were compared
	Seconds     float64          `json:"seconds,omitempty"`
	Differences []Difference     `json:"differences,omitempty"`
	Err         error            `json:"-"`
	Error       string           `json:"error,omitempty"`
}

// Difference is a file that is not what the record says.
type Difference struct {
	File     string       `json:"file"`
	Where    string       `json:"where"`             // Remade, or the build folder that it lies in
	Recorded cache.Digest `json:"recorded,omitzero"` // zero: the record has no such file
	Found    cache.Digest `json:"found,omitzero"`    // zero: there is no such file
	Tensor   *Tensor      `json:"tensor,omitempty"`
}

// Remade says of a Difference that it was found in what was made again.
const Remade = "made again"

// Counts of a report, by state.
func Counts(all []Finding) map[string]int {
	n := map[string]int{}
	for _, f := range all {
		n[f.State]++
	}
	return n
}

// audit is one run.
type audit struct {
	Options
	again    *cache.Cache
	findings map[step.ID]*Finding
	closure  []step.ID
	trees    []cache.Digest  // recorded, by step; of sources as remembered, else as read
	recalled []bool          // sources whose digest was remembered
	records  []*cache.Record // nil: not built
	chosen   []bool          // made again
	lost     []bool          // cannot be made again, and not be taken either
	taken    []*executor.Taken
	outcomes []executor.Outcome
}

// Run makes the wanted steps and what they need again, and compares. The findings are in the order of the plan. An error is one of the run as a whole; a step's own is in its finding.
func Run(ctx context.Context, o Options) ([]Finding, error) {
	c, err := cache.Open(filepath.Join(o.Dir, "cache"), cache.Options{MaxSize: 1 << 62})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	n := len(o.Built.Steps)
	a := &audit{Options: o, again: c, findings: map[step.ID]*Finding{}, closure: o.Built.Closure(o.Want), trees: make([]cache.Digest, n), recalled: make([]bool, n), records: make([]*cache.Record, n),
		chosen: make([]bool, n), lost: make([]bool, n), taken: make([]*executor.Taken, n)}
	if err := a.samePlan(); err != nil {
		return nil, err
	}
	if err := a.recall(ctx); err != nil {
		return nil, err
	}
	a.choose()
	if err := a.supply(ctx); err != nil {
		return nil, err
	}
	if a.outcomes, err = a.run(ctx, a.picked(a.chosen)); err != nil {
		return nil, err
	}
	for _, id := range a.closure {
		if err := ctx.Err(); err != nil {
			return nil, executor.ErrInterrupted
		}
		if err := a.judge(ctx, id); err != nil {
			return nil, err
		}
	}
	var out []Finding
	for _, id := range a.closure {
		if f := a.findings[id]; f != nil {
			out = append(out, *f)
		}
	}
	return out, nil
}

// samePlan holds the caller to the two plans being one.
func (a *audit) samePlan() error {
	if len(a.Again.Steps) != len(a.Built.Steps) {
		return fmt.Errorf("BUG: %d steps were built and %d would be made again", len(a.Built.Steps), len(a.Again.Steps))
	}
	for id, s := range a.Built.Steps {
		if s.Name != a.Again.Steps[id].Name || s.Folder != "" && s.Folder == a.Again.Steps[id].Folder {
			return fmt.Errorf("BUG: %s and %s are to be the same step in two places", s.Name, a.Again.Steps[id].Name)
		}
	}
	return nil
}

// run makes steps in the separate place.
func (a *audit) run(ctx context.Context, want []step.ID) ([]executor.Outcome, error) {
	o := a.Options.Run
	o.Cache, o.KeepGoing, o.Taken = a.again, true, func(id step.ID) *executor.Taken { return a.taken[id] }
	return executor.Run(ctx, a.Again, want, o)
}

func (a *audit) picked(of []bool) (ids []step.ID) {
	for id, yes := range of {
		if yes {
			ids = append(ids, step.ID(id))
		}
	}
	return ids
}

// recall finds the record of each step: sources by what is remembered of them, or by reading them in the separate place, and then key by key.
func (a *audit) recall(ctx context.Context) error {
	unknown := make([]bool, len(a.trees))
	for _, id := range a.closure {
		if src := a.Built.Steps[id].Source; src != nil {
			a.trees[id], a.recalled[id] = src.Known(a.Cache)
			unknown[id] = !a.recalled[id]
		}
	}
	if ids := a.picked(unknown); ids != nil {
		outcomes, err := a.run(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if outcomes[id].State == executor.Failed {
				a.find(id, Failed, "").fail(outcomes[id].Err)
			}
			a.trees[id] = outcomes[id].Tree
		}
	}
	for _, id := range a.closure {
		if a.Built.Steps[id].Source != nil {
			continue
		}
		if key, ok := a.key(id); ok {
			if rec, ok := a.Cache.Record(key); ok {
				a.records[id], a.trees[id] = rec, rec.Tree
			}
		}
	}
	return nil
}

// key that a step had when its inputs were what the records say.
func (a *audit) key(id step.ID) (cache.Digest, bool) {
	var inputs []cache.Digest
	for _, maker := range a.Built.Needs(id) {
		if a.trees[maker] == (cache.Digest{}) {
			return cache.Digest{}, false
		}
		inputs = append(inputs, a.trees[maker])
	}
	_, key := a.Built.Key(id, inputs)
	return key, true
}

// find notes what came of a step.
func (a *audit) find(id step.ID, state, reason string) *Finding {
	s := a.Built.Steps[id]
	f := &Finding{Step: s.Name, Kind: s.Kind, Class: s.Class(), State: state, Reason: reason}
	if rec := a.records[id]; rec != nil {
		f.Key = rec.Key.String()
	}
	a.findings[id] = f
	return f
}

func (f *Finding) fail(err error) { f.Err, f.Error = err, err.Error() }

// mayRun says whether a step that is built may be made again.
func (a *audit) mayRun(id step.ID) bool {
	class := a.Built.Steps[id].Class()
	return a.records[id] != nil && (class == step.Exact || class == step.Tolerant && a.Inexact)
}

// choose what is made again: all that may be, or a share of it, at least one step.
func (a *audit) choose() {
	var may []step.ID
	for _, id := range a.closure {
		if a.mayRun(id) {
			may = append(may, id)
		}
	}
	n := len(may)
	if a.Sample > 0 && a.Sample < 1 && n > 0 {
		n = max(1, int(float64(n)*a.Sample+0.5))
		rng := rand.New(rand.NewPCG(a.Seed, 0))
		rng.Shuffle(len(may), func(i, j int) { may[i], may[j] = may[j], may[i] })
	}
	for _, id := range may[:n] {
		a.chosen[id] = true
	}
}

// supply finds the inputs of what is made again that are not made again themselves. Where an input is no longer there it is made too, or, when it cannot be, what needs it is left out.
func (a *audit) supply(ctx context.Context) error {
	for again := true; again; {
		again = false
		for id := len(a.chosen) - 1; id >= 0; id-- {
			if !a.chosen[id] {
				continue
			}
			for _, need := range a.Built.Needs(step.ID(id)) {
				if ctx.Err() != nil {
					return executor.ErrInterrupted
				}
				if a.Built.Steps[need].Source != nil || a.chosen[need] || a.taken[need] != nil {
					continue
				}
				again = true
				if a.taken[need] = a.take(need); a.taken[need] != nil {
					continue
				}
				if !a.lost[need] && a.mayRun(need) {
					a.chosen[need] = true
					continue
				}
				a.chosen[id], a.lost[id] = false, true
				a.find(step.ID(id), NotChecked, "what "+a.Built.Steps[need].Name+" made is no longer there")
				break
			}
		}
	}
	return nil
}

// take finds what a step made, whole: in the cache, else in its build folder. nil when it is not there.
func (a *audit) take(id step.ID) *executor.Taken {
	rec, s := a.records[id], a.Built.Steps[id]
	if rec == nil {
		return nil
	}
	t := &executor.Taken{Tree: rec.Tree, Files: map[string]string{}}
	for _, o := range rec.Outputs {
		path := a.recorded(s, o)
		if path == "" {
			return nil
		}
		t.Files[o.Path] = path
	}
	if s.Folder == "" {
		return t
	}
	t.Dir = filepath.Join(a.Dir, "inputs", fmt.Sprint(id))
	for name, path := range t.Files {
		link := filepath.Join(t.Dir, filepath.FromSlash(name))
		if os.MkdirAll(filepath.Dir(link), 0o755) != nil || os.Symlink(path, link) != nil {
			return nil
		}
	}
	return t
}

// recorded finds a file with the content that a record names; "" when there is none.
func (a *audit) recorded(s step.Step, o cache.Output) string {
	if path, _, err := a.Cache.Blob(o.Digest); err == nil {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
	}
	if s.Folder == "" {
		return ""
	}
	path := filepath.Join(s.Folder, filepath.FromSlash(o.Path))
	if d, err := hashFile(path); err == nil && d == o.Digest {
		return path
	}
	return ""
}

// judge says what came of a step.
func (a *audit) judge(ctx context.Context, id step.ID) error {
	s := a.Built.Steps[id]
	switch {
	case a.findings[id] != nil: // said already
	case s.Source != nil:
		return a.judgeSource(ctx, id)
	case s.Class() == step.Sampled:
		if a.wanted(id) {
			a.find(id, NotChecked, "it is measured anew each time")
		}
	case a.records[id] == nil:
		a.find(id, NotBuilt, "")
	case a.chosen[id]:
		a.judgeMade(id)
	case a.Sample > 0 && a.Sample < 1 && a.mayRun(id):
		a.find(id, NotChecked, "not in the sample")
		return nil
	default:
		a.find(id, NotChecked, "its last bits may differ (--inexact makes it again)")
	}
	if a.records[id] == nil || s.Folder == "" {
		return nil
	}
	return a.judgeFolder(ctx, id)
}

func (a *audit) wanted(id step.ID) bool {
	for _, w := range a.Want {
		if w == id {
			return true
		}
	}
	return false
}

// judgeSource compares a source with what is remembered of it, when it was read.
func (a *audit) judgeSource(ctx context.Context, id step.ID) error {
	o := a.outcomes[id]
	switch {
	case o.State == executor.Failed:
		a.find(id, Failed, "").fail(o.Err)
	case o.Tree == (cache.Digest{}), a.recalled[id] && o.State != executor.Done:
		return nil // nothing that was made again needs it
	case !a.recalled[id]:
		a.find(id, NotChecked, "nothing is remembered of it")
	case o.Tree == a.trees[id]:
		f := a.find(id, Equal, "")
		f.Seconds = o.Seconds
		if f.Files = len(listing(a.again, o.Tree)); f.Files == 0 {
			return a.judgePinned(ctx, id)
		}
	default:
		f := a.find(id, Differs, "its content is not what was read before, and nothing else shows that")
		f.Seconds = o.Seconds
		f.Differences = listingDifferences(listing(a.Cache, a.trees[id]), listing(a.again, o.Tree))
		if f.Differences == nil {
			f.Differences = []Difference{{File: "(all files)", Where: Remade, Recorded: a.trees[id], Found: o.Tree}}
		}
	}
	return nil
}

// judgePinned hashes the files of a source that is known by its pin. Reading such a source proves nothing anew where its files are at hand: they are taken for what they were when they arrived.
func (a *audit) judgePinned(ctx context.Context, id step.ID) error {
	f, src := a.findings[id], a.Again.Steps[id].Source
	for _, name := range sortedNames(listing(a.Cache, a.trees[id])) {
		if ctx.Err() != nil {
			return executor.ErrInterrupted
		}
		want := listing(a.Cache, a.trees[id])[name]
		f.Files++
		if d, err := hashFile(filepath.Join(src.Dir(), filepath.FromSlash(name))); err != nil || d != want {
			f.State, f.Reason = Differs, "its content is not what is pinned"
			f.Differences = append(f.Differences, Difference{File: name, Where: Remade, Recorded: want, Found: d})
		}
	}
	return nil
}

func sortedNames(m map[string]cache.Digest) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// listing of a source's files by path, from the cache that read it.
func listing(c *cache.Cache, tree cache.Digest) map[string]cache.Digest {
	data, err := c.ReadBlob(tree, 1<<20)
	if err != nil {
		return nil
	}
	out := map[string]cache.Digest{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) != 4 {
			return nil
		}
		if out[parts[3]], err = cache.ParseDigest(parts[2]); err != nil {
			return nil
		}
	}
	return out
}

func listingDifferences(recorded, found map[string]cache.Digest) (out []Difference) {
	if recorded == nil || found == nil {
		return nil
	}
	for name, d := range recorded {
		if found[name] != d {
			out = append(out, Difference{File: name, Where: Remade, Recorded: d, Found: found[name]})
		}
	}
	for name, d := range found {
		if recorded[name] == (cache.Digest{}) {
			out = append(out, Difference{File: name, Where: Remade, Found: d})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].File < out[j].File })
	return out
}

// judgeMade compares what was made again with the record.
func (a *audit) judgeMade(id step.ID) {
	o, rec := a.outcomes[id], a.records[id]
	switch {
	case o.State == executor.Failed:
		a.find(id, Failed, "").fail(o.Err)
		return
	case o.State == executor.Skipped:
		a.find(id, Unjudged, o.Reason)
		return
	case o.Key != rec.Key:
		a.find(id, Unjudged, a.strayed(id))
		return
	}
	made := o.Record
	if made == nil {
		var ok bool
		if made, ok = a.again.Record(o.Key); !ok {
			a.find(id, Failed, "").fail(fmt.Errorf("what was made again of %s has disappeared from %s", a.Built.Steps[id].Name, a.Dir))
			return
		}
	}
	f := a.find(id, Equal, "")
	f.Seconds = o.Seconds
	f.Files, f.Differences = a.compare(a.Built.Steps[id], rec, made)
	switch {
	case f.Differences == nil:
	case f.Class == step.Exact:
		f.State = Differs
	default:
		f.State, f.Reason = MayDiffer, "it runs on what does not promise the same bits"
	}
}

// strayed names the inputs that came out differently.
func (a *audit) strayed(id step.ID) string {
	var names []string
	for _, need := range a.Built.Needs(id) {
		if a.outcomes[need].Tree != a.trees[need] {
			names = append(names, a.Built.Steps[need].Name)
		}
	}
	return "other inputs: " + strings.Join(names, ", ") + " came out differently"
}

// compare two records of one key, file by file. Of steps without files it compares the result.
func (a *audit) compare(s step.Step, rec, made *cache.Record) (files int, out []Difference) {
	now := map[string]cache.Output{}
	for _, o := range made.Outputs {
		now[o.Path] = o
	}
	for _, o := range rec.Outputs {
		files++
		n, ok := now[o.Path]
		delete(now, o.Path)
		if ok && n.Digest == o.Digest {
			continue
		}
		d := Difference{File: o.Path, Where: Remade, Recorded: o.Digest, Found: n.Digest}
		if path, _, err := a.again.Blob(n.Digest); ok && err == nil {
			d.Tensor = firstTensor(a.recorded(s, o), path)
		}
		out = append(out, d)
	}
	for _, o := range now {
		out = append(out, Difference{File: o.Path, Where: Remade, Found: o.Digest})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].File < out[j].File })
	if len(rec.Outputs) == 0 {
		files++
	}
	if then, now := cache.SumBytes(rec.Result), cache.SumBytes(made.Result); then != now {
		out = append(out, Difference{File: "(result)", Where: Remade, Recorded: then, Found: now})
	}
	return files, out
}

// judgeFolder compares the files in a step's build folder with the record. A folder that is not there, or holds what another recipe made, is none of the record's.
func (a *audit) judgeFolder(ctx context.Context, id step.ID) error {
	f, rec, folder := a.findings[id], a.records[id], a.Built.Steps[id].Folder
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		f.note("it is not in its build folder")
		return nil
	}
	if p := executor.ReadProvenance(folder); p == nil || p.Key != rec.Key {
		f.note("its build folder holds something else")
		return nil
	}
	before := len(f.Differences)
	for _, o := range rec.Outputs {
		if ctx.Err() != nil {
			return executor.ErrInterrupted
		}
		path := filepath.Join(folder, filepath.FromSlash(o.Path))
		d, err := hashFile(path)
		if err == nil && d == o.Digest {
			continue
		}
		diff := Difference{File: o.Path, Where: folder, Recorded: o.Digest, Found: d}
		if blob, _, err := a.Cache.Blob(o.Digest); err == nil {
			diff.Tensor = firstTensor(blob, path)
		} else if made, _, err := a.again.Blob(o.Digest); err == nil { // made again with what the record says
			diff.Tensor = firstTensor(made, path)
		}
		f.Differences = append(f.Differences, diff)
	}
	if len(f.Differences) > before {
		f.State = Differs
	}
	return nil
}

func (f *Finding) note(what string) {
	if f.Reason != "" {
		f.Reason += "; "
	}
	f.Reason += what
}

func hashFile(path string) (cache.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return cache.Digest{}, err
	}
	defer f.Close()
	return cache.SumReader(f)
}
