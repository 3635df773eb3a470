package executor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// input is the i-th of a step that is about to run, where it lies now.
func (w worker) input(ctx context.Context, i int) (in step.Input, err error) {
	r := w.run
	artifact := r.graph.Steps[w.id].Ins[i].Artifact
	id := r.graph.Maker(artifact)
	maker, taken := r.graph.Steps[id], r.look.taken(id)
	in = step.Input{Name: r.graph.Artifacts[artifact].Name, Digest: w.inputs[i], Dir: maker.Folder}
	switch {
	case taken != nil:
		in.Dir, in.Files = taken.Dir, taken.Files
	case maker.Source != nil:
		in.Dir = maker.Source.Dir()
		in.Check = func(ctx context.Context) error { return maker.Source.Check(ctx, r.o.Cache, in.Digest) }
		return in, nil
	case maker.Folder == "":
		in.Files, err = w.files(w.keys[i])
	default:
		err = worker{run: r, id: id}.stillThere(ctx, w.keys[i])
	}
	if err != nil {
		return in, err
	}
	before, err := stateOf(in)
	if err != nil {
		return in, err
	}
	in.Check = func(context.Context) error {
		if after, err := stateOf(in); err != nil || !slices.Equal(before, after) {
			return &InputError{Name: in.Name, Where: in.Dir}
		}
		return nil
	}
	return in, nil
}

// unchanged reports whether all inputs of a step are still what they were before it ran. If one is not, what the step made of it may be anything, and must not stand under the step's key.
func unchanged(ctx context.Context, inputs []step.Input) error {
	for _, in := range inputs {
		if err := in.Check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// InputError is an input that changed while a step read it.
type InputError struct{ Name, Where string }

func (e *InputError) Error() string {
	if e.Where == "" {
		return e.Name + " changed in the cache while it was read"
	}
	return fmt.Sprintf("%s changed while it was read, in %s", e.Name, e.Where)
}

// Hint says how to go on.
func (e *InputError) Hint() string {
	return "run again: what was changed is made again or put back; nothing else may write there"
}

// stillThere makes sure that the step's folder, which was in place when it was settled, has not been changed since: a step that takes it may run much later.
func (w worker) stillThere(ctx context.Context, key cache.Digest) error {
	c, folder := w.run.o.Cache, w.run.graph.Steps[w.id].Folder
	print, err := Fingerprint(folder)
	if want, ok := c.Memo(placeMemo(key, folder)); err == nil && ok && want == print {
		return nil
	}
	rec, ok := c.Record(key)
	if !ok {
		return goneRecord(key)
	}
	_, err = w.putInPlace(ctx, rec)
	return err
}

// stateOf is what tells whether somebody wrote to an input's files: their names, sizes and times of the last change of content. Links that others make to the same content change neither.
func stateOf(in step.Input) (state []string, err error) {
	note := func(name, path string) error {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			state = append(state, fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano()))
		}
		return err
	}
	for name, path := range in.Files {
		if err := note(name, path); err != nil {
			return nil, err
		}
	}
	if in.Dir != "" {
		dir, err := filepath.EvalSymlinks(in.Dir)
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return note(path, path)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(state)
	return state, nil
}

// files finds the outputs of a step that lie in the cache only.
func (w worker) files(key cache.Digest) (map[string]string, error) {
	rec, ok := w.run.o.Cache.Record(key)
	if !ok {
		return nil, goneRecord(key)
	}
	files := map[string]string{}
	for _, o := range rec.Outputs {
		path, _, err := w.run.o.Cache.Blob(o.Digest)
		if err != nil {
			return nil, err
		}
		files[o.Path] = path
	}
	return files, nil
}

func goneRecord(key cache.Digest) error {
	return &cache.Error{What: "the record " + key.Short() + " went away, or cannot be read, while it was needed", Do: "run the same command again; mlxbuild cache verify says what is damaged"}
}
