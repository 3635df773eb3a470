package builtin

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/tensor"
)

// FolderError says why a folder is not a model that this runtime can run.
type FolderError struct {
	Dir, What string
	Err       error // what it comes from, nil where What says it all
}

func (e *FolderError) Error() string { return e.Dir + ": " + e.What }

// Unwrap is what it comes from: it may be the operating system's.
func (e *FolderError) Unwrap() error { return e.Err }

// maxConfig is the largest config.json that is read.
const maxConfig = 16 << 20

// settings are what config.json and generation_config.json say.
type settings struct {
	model arch.Model
	quantization
	eos []int32
}

// quantization is the key of that name: what decides for modules that it names, and whether there is any.
type quantization struct {
	there  bool
	top    *quant.Scheme // for modules whose entry is true; nil when config.json's is not a scheme
	layers map[string]entry
}

// entry is one module's: a scheme, or false.
type entry struct {
	quantized bool
	scheme    quant.Scheme
}

// parseConfig reads config.json and generation_config.json (nil when there is none) as load_config and load_model of mlx_lm/utils.py do.
func parseConfig(config, generation []byte) (*settings, error) {
	c, err := jsonx.ParseObject(config)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if v, ok := c.Get("model_file"); ok && v != nil {
		return nil, errors.New("config.json: model_file wants code of the model's own to be run, which mlxbuild never does")
	}
	kind, ok := c.String("model_type")
	if !ok {
		return nil, errors.New("config.json: model_type is missing")
	}
	a, ok := all.Find(kind)
	if !ok {
		return nil, fmt.Errorf("config.json: model_type %q is not supported; supported are %s", kind, strings.Join(all.ModelTypes(), ", "))
	}
	s := &settings{}
	if s.model, err = a.Parse(c); err != nil {
		return nil, err
	}
	if s.quantization, err = parseQuantization(c); err != nil {
		return nil, err
	}
	s.eos, err = parseEOS(c, generation)
	return s, err
}

// parseQuantization reads `quantization`. Without it nothing is quantized: the other ways of load_model are for checkpoints that are not in MLX format yet.
func parseQuantization(c *jsonx.Object) (quantization, error) {
	q := quantization{layers: map[string]entry{}}
	if v, ok := c.Get("quantize_activations"); ok && v != false && v != nil {
		return q, errors.New("config.json: quantize_activations is not supported")
	}
	v, _ := c.Get("quantization")
	if v == nil {
		if other, ok := c.Get("quantization_config"); ok && other != nil {
			return q, errors.New("config.json: it has quantization_config without quantization: the folder is not in MLX format, convert it first")
		}
		return q, nil
	}
	o, ok := v.(*jsonx.Object)
	if !ok {
		return q, errors.New("config.json: quantization is not an object")
	}
	q.there = true
	for _, key := range []string{"group_size", "bits"} {
		if _, ok := o.Get(key); !ok {
			return q, fmt.Errorf("config.json: quantization has no %s, which mlx-lm needs", key)
		}
	}
	if top, err := parseScheme(o); err == nil { // what it says counts only where an entry says true
		q.top = &top
	}
	for _, key := range o.Keys() {
		if slices.Contains([]string{"group_size", "bits", "mode"}, key) {
			continue
		}
		v, _ := o.Get(key)
		e, err := q.entry(v)
		if err != nil {
			return q, fmt.Errorf("config.json: quantization of %s: %w", key, err)
		}
		q.layers[key] = e
	}
	return q, nil
}

func (q *quantization) entry(v any) (entry, error) {
	switch v := v.(type) {
	case bool:
		if v && q.top == nil {
			return entry{}, errors.New("it is true, and the settings for all layers are not a scheme that MLX has")
		}
		if v {
			return entry{true, *q.top}, nil
		}
		return entry{}, nil
	case *jsonx.Object:
		scheme, err := parseScheme(v)
		return entry{true, scheme}, err
	}
	return entry{}, errors.New("it is neither an object nor true nor false")
}

// parseScheme reads group_size, bits and mode; what is null or missing is the mode's default.
func parseScheme(o *jsonx.Object) (quant.Scheme, error) {
	mode := quant.Affine
	if v, ok := o.Get("mode"); ok && v != nil {
		name, ok := v.(string)
		if !ok {
			return quant.Scheme{}, errors.New("mode is not text")
		}
		mode = quant.Mode(name)
	}
	s, ok := quant.Defaults(mode)
	if !ok {
		return s, quant.Scheme{Mode: mode}.Validate()
	}
	for key, at := range map[string]*int{"bits": &s.Bits, "group_size": &s.GroupSize} {
		v, ok := o.Get(key)
		if !ok || v == nil {
			continue
		}
		n, ok := o.Int(key)
		if !ok || n < 0 || n > 1<<20 {
			return s, fmt.Errorf("%s is not a number that can be", key)
		}
		if n != 0 { // 0 is missing in mlx too
			*at = int(n)
		}
	}
	return s, s.Validate()
}

// parseEOS reads eos_token_id, a number or a list; generation_config.json's counts where it says something (0 and an empty list do not).
func parseEOS(c *jsonx.Object, generation []byte) ([]int32, error) {
	if generation != nil {
		if g, err := jsonx.ParseObject(generation); err == nil { // mlx-lm takes one it cannot read as empty
			ids, err := eosOf(g, "generation_config.json")
			if err != nil || len(ids) > 0 && !isZero(g) {
				return ids, err
			}
		}
	}
	return eosOf(c, "config.json")
}

func isZero(g *jsonx.Object) bool {
	n, ok := g.Float("eos_token_id")
	return ok && n == 0
}

func eosOf(c *jsonx.Object, file string) (ids []int32, err error) {
	v, _ := c.Get("eos_token_id")
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	for _, e := range list {
		n, ok := e.(jsonx.Number)
		id, isInt := n.Int()
		if !ok || !isInt || id < 0 || id > 1<<31-1 {
			return nil, fmt.Errorf("%s: eos_token_id has %v, which is not a token id", file, e)
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

// weights are the parameters of a model, matrices still in the mapped files.
type weights struct {
	dir      string
	matrices map[string]*tensor.Matrix
	vectors  map[string][]float32
	maps     []*safetensors.Mapping
	files    []opened                  // that are mapped
	spans    map[*tensor.Matrix][]span // of those that are not laid out
	idle     []span                    // of those that are
	arena    tensor.Arena              // where matrices are laid out
	bytes    int64                     // of parameters, where they are mapped and in use
}

// opened is a file as it was when it was mapped.
type opened struct {
	path string
	info os.FileInfo
}

// span is where a tensor lies in a mapped file.
type span struct {
	file       int
	begin, end int64
}

func (w *weights) Arena() *tensor.Arena                { return &w.arena }
func (w *weights) Matrix(module string) *tensor.Matrix { return w.matrices[module] }
func (w *weights) Vector(name string) []float32        { return w.vectors[name] }

// laid notes that the tensors of a matrix are not needed any more, because it was laid out, and lets go of them when there are enough: in memory twice, weights were half of what a model of 1.2 billion took.
func (w *weights) laid(m *tensor.Matrix) {
	w.idle = append(w.idle, w.spans[m]...)
	delete(w.spans, m)
	bytes := int64(0)
	for _, s := range w.idle {
		bytes += s.end - s.begin
	}
	if bytes >= idleBytes {
		w.letGo()
	}
}

// idleBytes is what may be in memory twice, and leastSpan what is worth letting go of, which interrupts every core: doing it matrix by matrix made the first token of SmolLM2-135M 4 ms later.
const (
	idleBytes = 8 << 20
	leastSpan = 64 << 10
)

// letGo of what is idle, neighbours at once.
func (w *weights) letGo() {
	slices.SortFunc(w.idle, func(a, b span) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.begin, b.begin)) })
	for len(w.idle) > 0 {
		s := w.idle[0]
		for w.idle = w.idle[1:]; len(w.idle) > 0 && w.idle[0].file == s.file && w.idle[0].begin == s.end; w.idle = w.idle[1:] {
			s.end = w.idle[0].end
		}
		if s.end-s.begin >= leastSpan {
			w.bytes -= w.maps[s.file].Release(s.begin, s.end)
		}
	}
}

func (w *weights) close() error {
	errs := []error{w.arena.Release()}
	for _, m := range w.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// readFolder opens a folder and checks it whole: every parameter is there in the shape that config.json asks for, and nothing else is.
func readFolder(dir string) (_ *settings, _ *weights, err error) {
	defer catchCut(dir, &err)()
	config, err := readSmall(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &FolderError{dir, "there is no config.json in it: it is not a model folder", nil}
	}
	if err != nil {
		return nil, nil, err
	}
	generation, err := readSmall(filepath.Join(dir, "generation_config.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	s, err := parseConfig(config, generation)
	if err != nil {
		return nil, nil, &FolderError{dir, err.Error(), err}
	}
	files, err := safetensors.OpenFolder(dir)
	if err != nil {
		var format *safetensors.FormatError
		if errors.As(err, &format) && format.File != dir {
			return nil, nil, &FolderError{dir, format.Error(), format}
		}
		return nil, nil, err
	}
	w, err := load(s, files)
	if err != nil {
		return nil, nil, &FolderError{dir, err.Error(), err}
	}
	w.dir = dir
	return s, w, nil
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxConfig {
		return nil, fmt.Errorf("%s has %d bytes, too many for settings", path, info.Size())
	}
	return os.ReadFile(path)
}

// load maps the files and finds every parameter in them.
func load(s *settings, files *safetensors.Folder) (*weights, error) {
	l := loader{settings: s, files: files, used: map[string]bool{}, w: &weights{matrices: map[string]*tensor.Matrix{}, vectors: map[string][]float32{}, spans: map[*tensor.Matrix][]span{}}}
	l.w.arena.Laid = l.w.laid
	err := l.mapAll()
	for _, p := range s.model.Params() {
		if err == nil {
			err = l.param(p)
		}
	}
	if err == nil {
		err = l.nothingElse()
	}
	if err != nil {
		return nil, errors.Join(err, l.w.close())
	}
	return l.w, nil
}

type loader struct {
	*settings
	files *safetensors.Folder
	used  map[string]bool
	found []span // since it was last emptied
	w     *weights
}

func (l *loader) mapAll() error {
	for _, f := range l.files.Files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return err
		}
		m, err := safetensors.Map(f.Path)
		if err != nil {
			return err
		}
		l.w.maps, l.w.files = append(l.w.maps, m), append(l.w.files, opened{f.Path, info})
		if int64(len(m.Bytes())) != f.Size || !bytes.HasPrefix(m.Bytes(), f.Header.Raw) {
			return fmt.Errorf("%s changed while it was opened", f.Name)
		}
	}
	return nil
}

// param finds one parameter. The weight of a Linear or Embedding may be quantized.
func (l *loader) param(p arch.Param) error {
	if !p.Quantizable {
		values, err := l.vector(p)
		l.w.vectors[p.Name] = values
		return err
	}
	scheme, err := l.scheme(p)
	if err != nil {
		return err
	}
	l.found = nil
	m, err := l.matrix(p, scheme)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Module, err)
	}
	l.w.matrices[p.Module], l.w.spans[m] = m, l.found
	return nil
}

func (l *loader) vector(p arch.Param) ([]float32, error) {
	data, t, err := l.floats(p.Name, p.Shape)
	if err != nil {
		return nil, err
	}
	values := make([]float32, p.Shape[0])
	t.Decode(values, data)
	return values, nil
}

// scheme is how a module is quantized, Mode "" when it is not: as class_predicate in load_model decides.
func (l *loader) scheme(p arch.Param) (quant.Scheme, error) {
	if !l.there {
		return quant.Scheme{}, nil
	}
	if e, ok := l.layers[p.Module]; ok {
		return e.scheme, nil // Mode "" when the entry is false
	}
	_, scales, ok := l.files.Find(p.Module + ".scales")
	if !ok {
		return quant.Scheme{}, nil
	}
	return l.infer(p, scales)
}

// infer is infer_quant_config: group size and bits follow from the shapes, and one-byte scales leave one mode for each.
func (l *loader) infer(p arch.Param, scales safetensors.Tensor) (quant.Scheme, error) {
	_, weight, ok := l.files.Find(p.Module + ".weight")
	cols := p.Shape[1]
	if !ok || len(weight.Shape) != 2 || len(scales.Shape) != 2 || scales.Shape[1] < 1 || weight.Shape[1] > cols {
		return quant.Scheme{}, fmt.Errorf("%s: its weight and scales are not those of a quantized matrix with %d columns", p.Module, cols)
	}
	s := quant.Scheme{Mode: quant.Affine, GroupSize: int(cols / scales.Shape[1]), Bits: int(weight.Shape[1] * 32 / cols)}
	if scales.DType == "U8" {
		for _, m := range quant.Modes() {
			if d := m.Default; !m.HasBiases && d.Bits == s.Bits && d.GroupSize == s.GroupSize {
				s.Mode = m.Mode
			}
		}
		if s.Mode == quant.Affine {
			return s, fmt.Errorf("%s: %d bits in groups of %d with one-byte scales are no mode of MLX", p.Module, s.Bits, s.GroupSize)
		}
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("%s: by the shapes of its weight and scales, %w", p.Module, err)
	}
	return s, nil
}

// matrix finds the tensors of a Linear's or Embedding's weight.
func (l *loader) matrix(p arch.Param, s quant.Scheme) (*tensor.Matrix, error) {
	rows, cols := p.Shape[0], p.Shape[1]
	if s.Mode == "" {
		data, t, err := l.floats(p.Name, p.Shape)
		if err != nil {
			return nil, err
		}
		return tensor.NewMatrix(int(rows), int(cols), t, s, quant.Packed{Weight: data})
	}
	if cols%int64(s.GroupSize) != 0 {
		return nil, fmt.Errorf("config.json has it quantized in groups of %d, which do not divide its %d columns", s.GroupSize, cols)
	}
	weightShape, scaleShape := s.Shapes(rows, cols)
	var packed quant.Packed
	var err error
	if packed.Weight, err = l.exactly(p.Module+".weight", "U32", weightShape, s); err != nil {
		return nil, err
	}
	if !s.HasBiases() {
		if packed.Scales, err = l.exactly(p.Module+".scales", "U8", scaleShape, s); err != nil {
			return nil, err
		}
		return tensor.NewMatrix(int(rows), int(cols), quant.BF16, s, packed)
	}
	var t, other quant.Float
	if packed.Scales, t, err = l.floats(p.Module+".scales", scaleShape); err != nil {
		return nil, err
	}
	if packed.Biases, other, err = l.floats(p.Module+".biases", scaleShape); err != nil {
		return nil, err
	}
	if t != other {
		return nil, fmt.Errorf("its scales are %s and its biases %s", t, other)
	}
	return tensor.NewMatrix(int(rows), int(cols), t, s, packed)
}

// floats finds a tensor of one of the three float types.
func (l *loader) floats(name string, shape []int64) ([]byte, quant.Float, error) {
	data, t, err := l.find(name, shape)
	if err != nil {
		return nil, 0, err
	}
	f, ok := quant.ParseFloat(t.DType)
	if !ok {
		return nil, 0, fmt.Errorf("tensor %s is %s; it must be F32, F16 or BF16", name, t.DType)
	}
	return data, f, nil
}

func (l *loader) exactly(name, dtype string, shape []int64, s quant.Scheme) ([]byte, error) {
	data, t, err := l.find(name, shape)
	if err == nil && t.DType != dtype {
		err = fmt.Errorf("tensor %s is %s; in %s it is %s", name, t.DType, s, dtype)
	}
	return data, err
}

func (l *loader) find(name string, shape []int64) ([]byte, safetensors.Tensor, error) {
	file, t, ok := l.files.Find(name)
	if !ok {
		return nil, t, fmt.Errorf("tensor %s is missing, which config.json asks for", name)
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, t, fmt.Errorf("tensor %s has the shape %v; by config.json it is %v", name, t.Shape, shape)
	}
	l.used[name] = true
	l.found = append(l.found, span{file, t.Begin, t.End})
	l.w.bytes += t.Bytes()
	return l.w.maps[file].Bytes()[t.Begin:t.End], t, nil
}

// nothingElse refuses tensors that are no parameter and not dropped, as mlx-lm's strict loading does.
func (l *loader) nothingElse() error {
	for _, t := range l.files.Tensors() {
		if !l.used[t.Name] && l.model.Keep(t.Name) {
			return fmt.Errorf("tensor %s is not one that a model with this config.json has", t.Name)
		}
	}
	return nil
}
