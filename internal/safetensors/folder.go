package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// IndexName is the file that says which shard holds which tensor.
const IndexName = "model.safetensors.index.json"

// File is one weight file of a folder.
type File struct {
	Name   string // plain name in the folder
	Path   string
	Size   int64
	Header *Header
}

// Folder is the weights of a model folder. Only headers have been read.
type Folder struct {
	Dir   string
	Files []File // by name

	place map[string]place
}

type place struct{ file, tensor int }

// OpenFolder reads the headers of a folder's weight files: those of its index when it has one, else model*.safetensors. Every tensor of the index must be in exactly the file that it
// names, and the other way round. Symbolic links are followed, as the Hugging Face cache is made of them.
func OpenFolder(dir string) (*Folder, error) {
	index, err := readIndex(filepath.Join(dir, IndexName))
	if err != nil {
		return nil, err
	}
	names := indexFiles(index)
	if index == nil {
		if names, err = globWeights(dir); err != nil {
			return nil, err
		}
	}
	f := &Folder{Dir: dir, place: map[string]place{}}
	for _, name := range names {
		if err := f.open(name, index); err != nil {
			return nil, err
		}
	}
	return f, f.checkIndex(index)
}

// OpenFiles opens what can be opened of a folder's files and says what is wrong with the others. It compares nothing with an index.
func OpenFiles(dir string, names []string) (*Folder, []error) {
	f := &Folder{Dir: dir, place: map[string]place{}}
	var errs []error
	for _, name := range names {
		if err := f.open(name, nil); err != nil {
			errs = append(errs, err)
		}
	}
	return f, errs
}

func (f *Folder) open(name string, index map[string]string) error {
	path := filepath.Join(f.Dir, name)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &FormatError{name, fmt.Sprintf("this shard is missing; %s says that it holds %d tensors", IndexName, countIn(index, name))}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &FormatError{name, "it is not a file"}
	}
	h, err := ParseHeader(file, info.Size())
	if err != nil {
		var fe *FormatError
		if errors.As(err, &fe) {
			return &FormatError{name, fe.What}
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	at := len(f.Files)
	f.Files = append(f.Files, File{Name: name, Path: path, Size: info.Size(), Header: h})
	for i, t := range h.Tensors {
		if other, twice := f.place[t.Name]; twice {
			return &FormatError{name, fmt.Sprintf("tensor %s is also in %s", t.Name, f.Files[other.file].Name)}
		}
		f.place[t.Name] = place{at, i}
	}
	return nil
}

// Find a tensor: the number of its file, and its entry.
func (f *Folder) Find(name string) (file int, t Tensor, ok bool) {
	p, ok := f.place[name]
	if !ok {
		return 0, Tensor{}, false
	}
	return p.file, f.Files[p.file].Header.Tensors[p.tensor], true
}

// Tensors of all files, by name.
func (f *Folder) Tensors() []Tensor {
	out := make([]Tensor, 0, len(f.place))
	for _, file := range f.Files {
		out = append(out, file.Header.Tensors...)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// readIndex reads the weight_map, nil when there is no index.
func readIndex(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxHeader {
		return nil, &FormatError{IndexName, fmt.Sprintf("it has %d bytes, too many for an index", info.Size())}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := ParseIndex(data)
	if err != nil {
		return nil, &FormatError{IndexName, err.Error()}
	}
	return m, nil
}

// ParseIndex reads the weight_map of an index file. Its values come from outside: each must be a plain name in the folder.
func ParseIndex(data []byte) (map[string]string, error) {
	d := decoder{json.NewDecoder(bytes.NewReader(data))}
	d.UseNumber()
	var out map[string]string
	err := d.object(func(key string) error {
		if key != "weight_map" {
			var skipped json.RawMessage
			return d.Decode(&skipped)
		}
		if out != nil {
			return bad("weight_map is there twice")
		}
		out = map[string]string{}
		return d.object(func(name string) error {
			v, err := d.Token()
			if err != nil {
				return err
			}
			file, ok := v.(string)
			if !ok || !plainName(file) {
				return bad("tensor %s is said to be in %v, which is not a plain file name in the folder", name, v)
			}
			if _, twice := out[name]; twice {
				return bad("tensor %s is in it twice", name)
			}
			out[name] = file
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, bad("it has no weight_map")
	}
	return out, nil
}

// plainName reports whether a name from outside stays in its folder on every system and is a weight file's.
func plainName(name string) bool {
	if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\\:\x00") || strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".safetensors") {
		return false
	}
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	for _, device := range []string{"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"} {
		if stem == device {
			return false
		}
	}
	return true
}

func indexFiles(index map[string]string) []string {
	seen := map[string]bool{}
	var names []string
	for _, file := range index {
		if !seen[file] {
			seen[file] = true
			names = append(names, file)
		}
	}
	sort.Strings(names)
	return names
}

func countIn(index map[string]string, file string) (n int) {
	for _, f := range index {
		if f == file {
			n++
		}
	}
	return n
}

// checkIndex compares what the index says with what the files hold.
func (f *Folder) checkIndex(index map[string]string) error {
	if index == nil {
		return nil
	}
	names := make([]string, 0, len(index))
	for n := range index {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if p, ok := f.place[n]; !ok || f.Files[p.file].Name != index[n] {
			return &FormatError{index[n], fmt.Sprintf("tensor %s is not in it, although %s says so", n, IndexName)}
		}
	}
	for _, t := range f.Tensors() {
		if _, ok := index[t.Name]; !ok {
			return &FormatError{IndexName, fmt.Sprintf("it does not name tensor %s, which the files hold", t.Name)}
		}
	}
	return nil
}

// globWeights finds model*.safetensors, as mlx-lm does.
func globWeights(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names, others []string
	for _, e := range entries {
		n := e.Name()
		switch {
		case strings.HasPrefix(n, "model") && strings.HasSuffix(n, ".safetensors"):
			names = append(names, n)
		case strings.HasSuffix(n, ".bin") || strings.HasSuffix(n, ".gguf") || strings.HasSuffix(n, ".pth") || strings.HasSuffix(n, ".safetensors"):
			others = append(others, n)
		}
	}
	if names == nil && others != nil {
		return nil, &FormatError{dir, fmt.Sprintf("there is no model*.safetensors in it, only %s, which this version does not read", strings.Join(others, ", "))}
	}
	if names == nil {
		return nil, &FormatError{dir, "there is no model*.safetensors in it"}
	}
	return names, nil
}
