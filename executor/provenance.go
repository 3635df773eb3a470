package executor

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/atomicfile"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
)

// ProvenanceFormat is the version of what this program writes: 1 was an object of our own, 2 is an in-toto Statement with SLSA's provenance. Both are read.
const ProvenanceFormat = 2

// What a Statement is known by.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	builderID     = "https://github.com/mlxbuild/mlxbuild"
	buildTypes    = builderID + "/buildtypes/" // then the kind of step and the version of what stands in a Statement
	buildVersion  = 1
)

// Provenance says where an output folder came from. It lies beside the folder, is input to nothing, and is how mlxbuild knows the folder for its own.
type Provenance struct {
	Format   int               `json:"format"`
	Target   string            `json:"target"`
	Recipe   string            `json:"recipe"` // file name, in the folder that build/ is in
	Key      cache.Digest      `json:"key"`
	Tree     cache.Digest      `json:"tree"`
	Origin   map[string]string `json:"origin,omitempty"`
	Placed   time.Time         `json:"placed"`
	Host     string            `json:"host"`
	Mlxbuild string            `json:"mlxbuild"`
	// Files are the digests of all files of the folder, by path; format 1 has none.
	Files map[string]cache.Digest `json:"-"`
}

// statement is an in-toto Statement v1: what the file holds, field by field in docs/formats.md.
type statement struct {
	Type          string            `json:"_type"`
	Subject       []step.Dependency `json:"subject"`
	PredicateType string            `json:"predicateType"`
	Predicate     predicate         `json:"predicate"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType string `json:"buildType"`
	External  struct {
		Recipe     *recipeFile                `json:"recipe,omitempty"` // nil when it was made of a command line
		Target     string                     `json:"target"`
		Origin     map[string]string          `json:"origin,omitempty"`
		Parameters map[string]json.RawMessage `json:"parameters"`
	} `json:"externalParameters"`
	Internal struct {
		Key       cache.Digest `json:"key"`
		KeyFormat int          `json:"keyFormat"`
		Code      []string     `json:"code"`
		Tree      cache.Digest `json:"tree"`
		Machine   string       `json:"machine,omitempty"`
	} `json:"internalParameters"`
	Dependencies []step.Dependency `json:"resolvedDependencies"`
}

// recipeFile is a recipe, or what one includes.
type recipeFile struct {
	Name     string            `json:"name"`
	Digest   map[string]string `json:"digest,omitempty"`
	Includes []recipeFile      `json:"includes,omitempty"`
}

type runDetails struct {
	Builder struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version"`
	} `json:"builder"`
	Metadata struct {
		Started  time.Time `json:"startedOn"`
		Finished time.Time `json:"finishedOn"`
		Placed   time.Time `json:"mlxbuild_placedOn"`
		Host     string    `json:"mlxbuild_host"`
		By       string    `json:"mlxbuild_placedBy"`
	} `json:"metadata"`
}

// ProvenanceFile of an output folder.
func ProvenanceFile(folder string) string { return folder + ".provenance.json" }

// ReadProvenance of an output folder; nil when there is none that can be read.
func ReadProvenance(folder string) *Provenance {
	p, _ := readProvenance(folder)
	return p
}

// maxProvenance is more than a folder of 10,000 files has.
const maxProvenance = 16 << 20

// readProvenance also says whether a newer program wrote what cannot be read.
func readProvenance(folder string) (p *Provenance, newer bool) {
	info, err := os.Stat(ProvenanceFile(folder))
	if err != nil || info.Size() > maxProvenance {
		return nil, false
	}
	data, err := os.ReadFile(ProvenanceFile(folder))
	if err != nil {
		return nil, false
	}
	return parseProvenance(data)
}

// parseProvenance reads either format.
func parseProvenance(data []byte) (p *Provenance, newer bool) {
	var old Provenance
	if json.Unmarshal(data, &old) == nil && old.Format > 0 {
		if old.Format == 1 {
			return &old, false
		}
		return nil, true
	}
	var head struct {
		Type      string `json:"_type"`
		Predicate struct {
			Definition struct {
				BuildType string `json:"buildType"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if json.Unmarshal(data, &head) != nil {
		return nil, false
	}
	kind, ok := strings.CutPrefix(head.Predicate.Definition.BuildType, buildTypes)
	if !ok {
		return nil, false
	}
	_, version, _ := strings.Cut(kind, "/v")
	if n, err := strconv.Atoi(version); err != nil || n != buildVersion || head.Type != statementType {
		return nil, err == nil && n > buildVersion || head.Type != statementType
	}
	var s statement
	if json.Unmarshal(data, &s) != nil {
		return nil, false
	}
	return s.provenance(), false
}

func (s *statement) provenance() *Provenance {
	d, r := s.Predicate.BuildDefinition, s.Predicate.RunDetails
	p := &Provenance{Format: ProvenanceFormat, Target: d.External.Target, Key: d.Internal.Key, Tree: d.Internal.Tree, Origin: d.External.Origin, Placed: r.Metadata.Placed, Host: r.Metadata.Host,
		Mlxbuild: r.Metadata.By}
	if d.External.Recipe != nil {
		p.Recipe = d.External.Recipe.Name
	}
	p.Files = map[string]cache.Digest{}
	for _, f := range s.Subject {
		if digest, err := cache.ParseDigest(f.Digest["sha256"]); err == nil {
			p.Files[f.Name] = digest
		}
	}
	return p
}

func (w worker) writeProvenance(rec *cache.Record, folder string) error {
	s := w.statement(rec)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err
	}
	return atomicfile.Write(ProvenanceFile(folder), out.Bytes(), 0o644)
}

// statement about a record that is put in place. What is known of the making comes from the record, so that a result that another machine made says so.
func (w worker) statement(rec *cache.Record) statement {
	s := w.run.graph.Steps[w.id]
	out := statement{Type: statementType, PredicateType: predicateType, Subject: []step.Dependency{}}
	for _, o := range rec.Outputs {
		out.Subject = append(out.Subject, step.Dependency{Name: o.Path, Digest: map[string]string{"sha256": o.Digest.String()}})
	}
	d, key := &out.Predicate.BuildDefinition, splitKey(rec.KeyText)
	d.BuildType = buildTypes + s.Kind + "/v" + strconv.Itoa(buildVersion)
	d.External.Recipe, d.External.Target, d.External.Origin, d.External.Parameters = w.recipe(), s.Target, told(s.Origin), key.params
	d.Internal.Key, d.Internal.KeyFormat, d.Internal.Code, d.Internal.Tree, d.Internal.Machine = rec.Key, key.format, key.code, rec.Tree, rec.Machine
	d.Dependencies = append(w.sources(), key.tools...)
	r := &out.Predicate.RunDetails
	r.Builder.ID, r.Builder.Version = builderID, map[string]string{"mlxbuild": rec.Mlxbuild}
	r.Metadata.Started = rec.Started.UTC().Truncate(time.Second)
	r.Metadata.Finished = rec.Started.Add(time.Duration(rec.Seconds * float64(time.Second))).UTC().Truncate(time.Second)
	r.Metadata.Placed, r.Metadata.Host, r.Metadata.By = time.Now().UTC().Truncate(time.Second), hostname(), w.run.o.Version
	return out
}

// told are facts that say something.
func told(origin map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range origin {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// recipe that asked for the step, with what it includes. Of a recipe as it was at another revision there is no file whose digest could be told.
func (w worker) recipe() *recipeFile {
	s := w.run.graph.Steps[w.id]
	if s.Pos.File == "" || strings.HasPrefix(s.Pos.File, "<") {
		return nil
	}
	out := &recipeFile{Name: filepath.Base(s.Recipe)}
	if s.Auxiliary {
		return out
	}
	for _, r := range w.run.graph.Recipes {
		if r.File != s.Recipe {
			continue
		}
		for i, file := range r.Files {
			f := recipeFile{Name: filepath.Base(file), Digest: map[string]string{"sha256": cache.Digest(r.Sums[i]).String()}}
			if i == 0 {
				out.Digest = f.Digest
				continue
			}
			if rel, err := filepath.Rel(filepath.Dir(r.File), file); err == nil {
				f.Name = filepath.ToSlash(rel)
			}
			out.Includes = append(out.Includes, f)
		}
		break
	}
	return out
}

// keyText is what provenance tells of a key.
type keyText struct {
	format int
	code   []string
	params map[string]json.RawMessage
	tools  []step.Dependency
}

func splitKey(text string) keyText {
	k := keyText{code: []string{}, params: map[string]json.RawMessage{}}
	for _, line := range strings.Split(text, "\n") {
		what, rest, _ := strings.Cut(line, " ")
		name, value, _ := strings.Cut(rest, " ")
		switch what {
		case "mlxbuild-key":
			k.format, _ = strconv.Atoi(rest)
		case "code":
			k.code = strings.Fields(rest)
		case "param":
			k.params[name] = json.RawMessage(value)
		case "tool":
			k.tools = append(k.tools, step.Dependency{Name: name, URI: "pkg:generic/" + url.PathEscape(name) + "@" + url.PathEscape(value)})
		}
	}
	return k
}

// sources that the step's inputs were taken from.
func (w worker) sources() []step.Dependency {
	out := []step.Dependency{}
	s, g := w.run.graph.Steps[w.id], w.run.graph
	for i, in := range s.Ins {
		maker := g.Steps[g.Maker(in.Artifact)]
		if maker.Source == nil {
			continue
		}
		if d, ok := maker.Source.(step.Described); ok {
			out = append(out, d.Dependencies(w.run.o.Cache)...)
			continue
		}
		out = append(out, w.tree(in.Role, sourceURI(s.Origin["source"]), w.inputs[i])...)
	}
	return out
}

// Names of digests that are not of a file's bytes: of a tree's listing, and of the listing of a weight file's header and tensors. See docs/formats.md.
const (
	treeAlgorithm    = "mlxbuildTree"
	tensorsAlgorithm = "mlxbuildTensors"
)

// tree names a folder by the digest of its listing, and each file of it.
func (w worker) tree(role, uri string, d cache.Digest) []step.Dependency {
	out := []step.Dependency{{Name: role, URI: uri, Digest: map[string]string{treeAlgorithm: d.String()}}}
	files := w.run.look.listing(d.String())
	names := make([]string, 0, len(files))
	for path := range files {
		names = append(names, path)
	}
	sort.Strings(names)
	for _, path := range names {
		algorithm := "sha256"
		if isWeights(path) {
			algorithm = tensorsAlgorithm
		}
		f := step.Dependency{Name: role + "/" + path, Digest: map[string]string{algorithm: strings.SplitN(files[path], " ", 4)[2]}}
		if uri != "" {
			f.URI = uri + "/" + escapePath(path)
		}
		out = append(out, f)
	}
	return out
}

// sourceURI makes a URI of what a recipe says: path:models/m. An absolute path is nobody else's business; digests say enough.
func sourceURI(source string) string {
	scheme, rest, ok := strings.Cut(source, ":")
	if !ok || rest == "" || filepath.IsAbs(rest) || strings.HasPrefix(rest, "/") || filepath.VolumeName(rest) != "" {
		return ""
	}
	return scheme + ":" + escapePath(strings.TrimSuffix(filepath.ToSlash(rest), "/"))
}

func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
