package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/spec"
)

// convertFlags are those of mlx_lm.convert, unabbreviated.
type convertFlags struct {
	QGroupSize     int    `name:"q-group-size" placeholder:"N" help:"Weights that share a scale (default by mode: affine 64, mxfp4 and mxfp8 32, nvfp4 16)."`
	QBits          int    `name:"q-bits" placeholder:"N" help:"Bits per weight (default by mode: 4, mxfp8 8)."`
	QMode          string `name:"q-mode" default:"affine" enum:"affine,mxfp4,mxfp8,nvfp4" help:"affine, mxfp4, mxfp8 or nvfp4 (default affine)."`
	QuantPredicate string `name:"quant-predicate" placeholder:"NAME" help:"mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6."`
	DType          string `name:"dtype" placeholder:"TYPE" help:"Type of what is not quantized: float16, bfloat16 or float32 (default: config.json's torch_dtype, else as stored)."`
	NoRepair       bool   `name:"no-repair" help:"Write config.json exactly as mlx_lm.convert does, also where mlx-lm then misreads the model."`
	PrintRecipe    bool   `name:"print-recipe" help:"Print the recipe that does the same, and stop."`
	Force          bool   `help:"Replace a folder that mlxbuild did not make."`
	UploadRepo     string `name:"upload-repo" hidden:""`
	TrustRemote    bool   `name:"trust-remote-code" hidden:""`
}

type convertCmd struct {
	HFPath     string `name:"hf-path" aliases:"model" required:"" placeholder:"MODEL" help:"The model: a Hugging Face folder, or org/name on the Hub (also --model)."`
	MLXPath    string `name:"mlx-path" default:"mlx_model" placeholder:"DIR" help:"Where to write (default mlx_model)."`
	Quantize   bool   `short:"q" help:"Quantize."`
	Dequantize bool   `short:"d" help:"Turn a quantized MLX model back into floats."`
	convertFlags
}

func (convertCmd) Help() string {
	return `The same bytes as mlx_lm.convert, tensor by tensor, in a fraction of the time and memory, and cached: the same conversion again is nothing to do.

  mlxbuild convert --hf-path HuggingFaceTB/SmolLM2-135M-Instruct -q
  mlxbuild convert --hf-path models/SmolLM2-135M-Instruct --mlx-path smollm2-mxfp4 -q --q-mode mxfp4
  mlxbuild convert --hf-path models/SmolLM2-135M-Instruct -q --quant-predicate mixed_4_6 --print-recipe`
}

func (c convertCmd) Run(a *app) error {
	return a.convert(conversion{command: "convert", hfPath: c.HFPath, out: c.MLXPath, quantize: c.Quantize, dequantize: c.Dequantize, convertFlags: c.convertFlags})
}

// conversion is one model's conversion from the command line.
type conversion struct {
	command              string
	hfPath, out          string
	quantize, dequantize bool
	convertFlags
}

// check refuses what mlx_lm.convert would do and mlxbuild does not, and combinations that mean nothing.
func (c conversion) check() error {
	switch {
	case c.UploadRepo != "":
		return &fault{code: exitUsage, msg: "--upload-repo: mlxbuild convert does not upload", hints: []string{"upload the folder afterwards: hf upload " + c.UploadRepo + " " + c.out}}
	case c.TrustRemote:
		return &fault{code: exitUsage, msg: "--trust-remote-code: mlxbuild never runs a model's code", hints: []string{"leave the flag out; models that need their own code are refused with the reason"}}
	case c.quantize && c.dequantize:
		return &fault{code: exitUsage, msg: "-q and -d exclude each other"}
	case !c.quantize && (c.QBits != 0 || c.QGroupSize != 0 || c.QuantPredicate != "" || c.QMode != "affine"):
		return &fault{code: exitUsage, msg: "quantization flags without -q", hints: []string{"add -q (--quantize)"}}
	}
	return nil
}

// recipe is the same conversion as a recipe file.
func (c conversion) recipe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\n\nmodels:\n  %s: {source: %q}\n\nquantizations:\n  %s: {%s}\n", c.model(), c.source(), c.quantization(), strings.Join(c.options(), ", "))
	var convert []string
	if c.DType != "" {
		convert = append(convert, "  dtype: "+c.DType)
	}
	if c.NoRepair {
		convert = append(convert, "  repair: false")
	}
	if convert != nil {
		fmt.Fprintf(&b, "\nconvert:\n%s\n", strings.Join(convert, "\n"))
	}
	return b.String()
}

var hubID = lazyregexp.New(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

func (c conversion) source() string { return sourceOf(c.hfPath) }

// sourceOf what --hf-path names: a folder where there is one, else a model on the Hub when it has the form of one.
func sourceOf(path string) string {
	if isOnHub(path) {
		return "hf:" + path
	}
	return "path:" + filepath.ToSlash(path)
}

func isOnHub(path string) bool {
	_, err := os.Stat(path)
	return err != nil && hubID().MatchString(path)
}

var unnameable = lazyregexp.New(`[^A-Za-z0-9._-]+`)

// model is a name made of the folder's.
func (c conversion) model() string {
	abs, err := filepath.Abs(c.hfPath)
	if err != nil {
		abs = c.hfPath
	}
	name := strings.Trim(unnameable().ReplaceAllString(filepath.Base(abs), "-"), "-.")
	if name == "" {
		return "model"
	}
	return name
}

// quantization is a name made of the options, so that other options are another target.
func (c conversion) quantization() string {
	if c.dequantize {
		return "dequantized"
	}
	if !c.quantize {
		return "float"
	}
	name := c.QMode
	if c.QuantPredicate != "" {
		name = c.QuantPredicate
	}
	if c.QBits != 0 {
		name += fmt.Sprintf("-%dbit", c.QBits)
	}
	if c.QGroupSize != 0 {
		name += fmt.Sprintf("-g%d", c.QGroupSize)
	}
	return name
}

func (c conversion) options() []string {
	if c.dequantize {
		return []string{"dequantize: true"}
	}
	if !c.quantize {
		return []string{"quantize: false"}
	}
	o := []string{"mode: " + c.QMode}
	if c.QuantPredicate != "" {
		o = append(o, "preset: "+c.QuantPredicate)
	}
	if c.QBits != 0 {
		o = append(o, fmt.Sprintf("bits: %d", c.QBits))
	}
	if c.QGroupSize != 0 {
		o = append(o, fmt.Sprintf("group_size: %d", c.QGroupSize))
	}
	return o
}

// convert makes a recipe in memory, plans it with the output folder that was asked for, and builds it.
func (a *app) convert(c conversion) error {
	a.streams = a.json && !c.PrintRecipe
	if err := c.check(); err != nil {
		return err
	}
	text := c.recipe()
	if c.PrintRecipe {
		fmt.Fprint(a.stdout, text)
		return nil
	}
	p, err := a.newProject()
	if err != nil {
		return err
	}
	defer p.close()
	r, diags := spec.LoadBytes(memoryRecipe, ".", []byte(text), spec.Options{})
	if diags.HasErrors() {
		return diags
	}
	if err := a.plan(p, []*spec.Recipe{r}, nil); err != nil {
		return err
	}
	if err := a.lockMissing(p); err != nil {
		return err
	}
	out, err := filepath.Abs(c.out)
	if err != nil {
		return err
	}
	for id := range p.graph.Steps {
		if p.graph.Steps[id].Folder != "" {
			p.graph.Steps[id].Folder = out
		}
	}
	if _, err := a.build(p, executor.Options{Jobs: 1, Force: c.Force}); err != nil {
		return err
	}
	if !a.json && !a.quiet {
		a.term.Line("%s: %.3f bits per weight", shortPath(out), folderBits(out))
	}
	return nil
}
