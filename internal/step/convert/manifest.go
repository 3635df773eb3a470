package convert

import (
	"bytes"
	"encoding/json"
	"sort"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/quant"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// ManifestName is the file that says what a folder was made from, and by which rules.
const ManifestName = "mlxbuild.json"

// ManifestFormat is raised when the manifest's fields change.
const ManifestFormat = 1

// Manifest holds only what follows from the key, so that the same key gives the same bytes. Where the source came from, when and where it was built stands in the provenance file beside the folder.
type Manifest struct {
	Format       int                       `json:"format"`
	Source       []ManifestSource          `json:"source"`
	DType        string                    `json:"dtype"` // as asked: auto, float16, bfloat16, float32
	Quantization ManifestScheme            `json:"quantization"`
	Code         []string                  `json:"code"` // versions of the code that decides bytes
	Repairs      []ManifestRepair          `json:"repairs"`
	Tensors      map[string]ManifestTensor `json:"tensors"`
	Files        []ManifestFile            `json:"files"` // every file but this one
}

// ManifestSource is a file that was read. A weight file's digest is that of its listing: header and tensors' digests.
type ManifestSource struct {
	Path   string       `json:"path"`
	Size   int64        `json:"size"`
	Digest cache.Digest `json:"digest"`
}

// ManifestScheme is the normalised quantization, and in whose arithmetic it was done.
type ManifestScheme struct {
	Rules   map[string]any `json:"rules"`
	Profile string         `json:"profile"`
}

// ManifestRepair is a key of config.json that mlx_lm.convert would not have written.
type ManifestRepair struct {
	Key string `json:"key"`
	Why string `json:"why"`
}

// ManifestTensor is one tensor of the folder.
type ManifestTensor struct {
	DType string   `json:"dtype"`
	Shape []int64  `json:"shape"`
	From  []string `json:"from"`
	Op    string   `json:"op"` // copy, cast, quantize (with its scheme), dequantize
}

// ManifestFile is one file of the folder.
type ManifestFile struct {
	Name   string       `json:"name"`
	SHA256 cache.Digest `json:"sha256"`
}

func (p *Plan) manifest(inputs []source.Input, files []step.File) ([]byte, error) {
	m := Manifest{Format: ManifestFormat, DType: p.Options.DType, Code: p.Options.code(p.Source.Arch.Code), Source: []ManifestSource{}, Repairs: []ManifestRepair{},
		Quantization: ManifestScheme{p.Options.Quantization.Normalised(), quant.Profile}, Tensors: map[string]ManifestTensor{}}
	for _, in := range inputs {
		m.Source = append(m.Source, ManifestSource{in.Role, in.Size, in.Digest})
	}
	for _, r := range p.Repairs {
		m.Repairs = append(m.Repairs, ManifestRepair{r.Key, r.Why})
	}
	for _, t := range p.Tensors {
		op := t.Op
		if t.Op == OpQuantize {
			op += " " + t.Scheme.String()
		}
		for _, o := range t.Outputs {
			m.Tensors[o.Name] = ManifestTensor{o.DType, o.Shape, t.From, op}
		}
	}
	for _, f := range files {
		m.Files = append(m.Files, ManifestFile{f.Path, f.Digest})
	}
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].Name < m.Files[j].Name })
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(m)
	return b.Bytes(), err
}
