package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxbuild/mlxbuild/executor"
	"github.com/mlxbuild/mlxbuild/internal/arch/all"
	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/chat"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/internal/jsonx"
	"github.com/mlxbuild/mlxbuild/internal/judge"
	"github.com/mlxbuild/mlxbuild/internal/lock"
	"github.com/mlxbuild/mlxbuild/internal/result"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
	"github.com/mlxbuild/mlxbuild/internal/snapshot"
	"github.com/mlxbuild/mlxbuild/internal/source"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
	"github.com/mlxbuild/mlxbuild/internal/tokenizer"
	"github.com/mlxbuild/mlxbuild/spec"
)

// target is a parser that strangers' bytes come to. open makes what it works with in an empty folder, once; the function it returns parses one input, and says what is wrong with what came of it: a panic,
// a second, and too much memory are seen by the driver.
type target struct {
	name  string
	share int // of the time
	seeds func(root string) ([][]byte, error)
	fix   func(data []byte) []byte // makes a mutated input whole again where a checksum or a length would end it at the door; may be nil
	open  func(dir string) (parse func(data []byte) string, err error)
}

// pure is a target that needs nothing.
func pure(parse func(data []byte) string) func(string) (func([]byte) string, error) {
	return func(string) (func([]byte) string, error) { return parse, nil }
}

// filed is a target that reads a file.
func filed(name string, parse func(path string) string) func(string) (func([]byte) string, error) {
	return func(dir string) (func([]byte) string, error) {
		path := filepath.Join(dir, name)
		return func(data []byte) string {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				return err.Error()
			}
			return parse(path)
		}, nil
	}
}

func texts(t ...string) func(string) ([][]byte, error) {
	return func(string) (out [][]byte, err error) {
		for _, s := range t {
			out = append(out, []byte(s))
		}
		return out, nil
	}
}

// globbed are the files of the checkout that patterns name, and some texts.
func globbed(most int64, patterns ...string) func(root string) ([][]byte, error) {
	return func(root string) (out [][]byte, err error) {
		for _, p := range patterns {
			files, err := filepath.Glob(filepath.Join(root, p))
			if err != nil || len(files) == 0 {
				return nil, fmt.Errorf("no seeds at %s: %v", p, err)
			}
			for _, f := range files {
				data, err := os.ReadFile(f)
				if err != nil {
					return nil, err
				}
				if int64(len(data)) <= most {
					out = append(out, data)
				}
			}
		}
		return out, nil
	}
}

const exampleConfig = `{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
 "rms_norm_eps": 1e-05, "vocab_size": 100, "max_position_embeddings": 512, "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": [1, 2],
 "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
 "quantization": {"group_size": 64, "bits": 4, "mode": "affine", "lm_head": false, "model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 8}}, "x": {"__float__": "Infinity"}}`

const exampleTree = `[{"type":"file","oid":"0123456789012345678901234567890123456789","size":658,"path":"config.json"},{"type":"directory","oid":"1123456789012345678901234567890123456789","size":0,"path":"sub"},
{"type":"file","oid":"2123456789012345678901234567890123456789","size":4000000000,"lfs":{"oid":"0123456789012345678901234567890123456789012345678901234567890123","size":4000000000,"pointerSize":135},"path":"sub/model.safetensors","xetHash":"0123456789012345678901234567890123456789012345678901234567890123"}]`

const exampleInfo = `{"_id":"1","id":"org/name","modelId":"org/name","author":"org","sha":"0123456789012345678901234567890123456789","private":false,"disabled":false,"gated":"auto","downloads":12345,"tags":["license:apache-2.0","safetensors"],"cardData":{"license":["mit","apache-2.0"]},"siblings":[{"rfilename":"a"}]}`

// targets are all parsers that can be called from here. Those that go through a file are slower and have smaller shares.
var targets = []target{
	{name: "safetensors header", share: 12, seeds: safetensorsSeeds, fix: fixLength, open: pure(func(data []byte) string {
		h, err := safetensors.ParseHeader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return ""
		}
		for _, t := range h.Tensors {
			if t.Begin < 0 || t.End < t.Begin || t.End > int64(len(data)) {
				return "a tensor lies outside the file"
			}
		}
		return ""
	})},
	{name: "index.json", share: 10, seeds: texts(`{"metadata":{"total_size":1},"weight_map":{"a":"model.safetensors","b.weight":"model-00001-of-00002.safetensors"}}`, `{"weight_map":{}}`), open: pure(func(data []byte) string {
		index, err := safetensors.ParseIndex(data)
		if err != nil {
			return ""
		}
		for _, file := range index {
			if strings.ContainsAny(file, "/\\") || !filepath.IsLocal(file) {
				return "a file outside the folder: " + file
			}
		}
		return ""
	})},
	{name: "JSON", share: 10, seeds: texts(exampleConfig, `[1,-2.5e3,"a\u00e9\ud83d\ude00",null,true,{"a":[{}]}]`), open: pure(func(data []byte) string {
		v, err := jsonx.Parse(data)
		if err != nil {
			return ""
		}
		if _, err := jsonx.Parse(jsonx.Python(v, 2)); err != nil {
			return "what was read and written cannot be read: " + err.Error()
		}
		return ""
	})},
	{name: "config", share: 10, seeds: texts(exampleConfig), open: pure(parseConfig)},
	{name: "config.json", share: 2, seeds: texts(exampleConfig), open: filed("config.json", func(path string) string {
		_, _ = source.ReadConfig(filepath.Dir(path))
		return ""
	})},
	{name: "tokenizer.json", share: 6, seeds: tokenizerSeeds, open: pure(func(data []byte) string {
		t, err := tokenizer.Parse(data)
		if err != nil {
			return ""
		}
		ids, err := t.Encode("a b  <s> ab\n\u0301 é 12 ▁x", true)
		if err == nil {
			_ = t.Decode(ids, false)
		}
		return ""
	})},
	{name: "chat template", share: 6, seeds: globbed(2000, "internal/chat/testdata/*.jinja"), open: pure(func(data []byte) string {
		_, _ = chat.Parse(string(data))
		return ""
	})},
	{name: "chat template, rendered", share: 3, seeds: globbed(2000, "internal/chat/testdata/*.jinja"), open: pure(func(data []byte) string {
		if t, err := chat.Parse(string(data)); err == nil {
			_, _ = t.Render([]chat.Message{{Role: "system", Content: "s"}, {Role: "user", Content: "u"}}, chat.Options{AddGenerationPrompt: true, Now: time.Unix(0, 0)})
		}
		return ""
	})},
	{name: "recipe", share: 4, seeds: recipeSeeds, open: pure(parseRecipe(false))},
	{name: "recipe past its schema", share: 6, seeds: recipeSeeds, open: pure(parseRecipe(true))},
	{name: "lock", share: 8, seeds: texts(string(exampleLock())), open: pure(func(data []byte) string {
		l, err := lock.Parse(lock.Name, data)
		if err != nil {
			return hinted(err)
		}
		if again, err := lock.Parse(lock.Name, l.Format()); err != nil || lock.Diff(l, again) != nil {
			return "what was read is not what is written"
		}
		return ""
	})},
	{name: "accepted figures", share: 2, seeds: texts(`{"target":"m/q4","validation":"v","metric":"kld_mean","value":0.0123,"machine":"any","tokens":"t","runtime":"builtin","compute":"float32"}`+"\n",
		`{"target":"m/q4","benchmark":"b","cell":"c","metric":"decode_tok_s","value":"NaN","machine":"m","runtime":"builtin","compute":"float32","values":[1,2.5],"measured":"2026-01-02"}`+"\n"),
		open: filed(judge.AcceptedName, func(path string) string { _, err := judge.ReadAccepted(path); return hinted(err) })},
	{name: "results", share: 2, seeds: texts(`{"schema":1,"kind":"generate","name":"g","target":"m/q4","key":"k","seconds":0.5,"machine":"linux/amd64","value":{"a":[1,2]}}` + "\n" + `{"schema":2,"x":1}` + "\n"),
		open: filed("results.jsonl", func(path string) string { _, err := result.Read(path); return hinted(err) })},
	{name: "provenance", share: 2, seeds: provenanceSeeds, open: func(dir string) (func([]byte) string, error) {
		folder := filepath.Join(dir, "q4")
		return func(data []byte) string {
			if err := os.WriteFile(executor.ProvenanceFile(folder), data, 0o644); err != nil {
				return err.Error()
			}
			_ = executor.ReadProvenance(folder)
			return ""
		}, nil
	}},
	{name: "manifest", share: 2, seeds: texts(`{"format":1,"source":[{"path":"config.json","size":1,"digest":"` + strings.Repeat("ab", 32) + `"}],"dtype":"auto","quantization":{"rules":{"bits":4},"profile":"p"},"code":["quant/1"],"repairs":[{"key":"k","why":"w"}],` +
		`"tensors":{"a":{"dtype":"F32","shape":[1,2],"from":["a"],"op":"copy"}},"files":[{"name":"config.json","sha256":"` + strings.Repeat("ab", 32) + `"}]}`),
		open: filed(convert.ManifestName, func(path string) string {
			_ = convert.VerifyFolder(context.Background(), filepath.Dir(path))
			return ""
		})},
	{name: "record", share: 2, seeds: recordSeeds, fix: seal, open: openRecord},
	{name: "memo", share: 2, seeds: memoSeeds, fix: fixMemo, open: openMemo},
	{name: "snapshot", share: 1, seeds: texts(snapshotBody), fix: fixSnapshot, open: pure(parseSnapshot)},
	{name: "names of repositories and files", share: 8, seeds: texts("org/name", "datasets/org/name", "name", "org/name@main", "a/b/c.json", "con.txt", "sub/model-00001-of-00002.safetensors"), open: pure(func(data []byte) string {
		name := string(data)
		if r, err := hub.ParseRepo(name); err == nil {
			if again, err := hub.ParseRepo(r.String()); err != nil || again != r {
				return fmt.Sprintf("%q becomes %q", name, r)
			}
		}
		if err := hub.CheckPath(name); err == nil && !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Sprintf("%q leaves its folder", name)
		}
		_ = hub.CheckPaths(strings.Split(name, "\n"))
		return ""
	})},
	{name: "listing of the Hub", share: 6, seeds: texts("\n\n"+exampleTree, "<http://hub.test/api/models/org/name/tree/x?cursor=a>; rel=\"next\"\n\"fixed window\";r=1;t=2\n"+exampleTree), open: openHub(func(c *hub.Client) string {
		files, err := c.Files(context.Background(), hub.Repo{Kind: "models", ID: "org/name"}, strings.Repeat("0123456789", 4))
		for _, f := range files {
			if err == nil && (f.Size < 0 || f.Path == "") {
				return "a file without name or of negative size"
			}
		}
		return hinted(err)
	})},
	{name: "page of the Hub about a model", share: 4, seeds: texts("\n\n" + exampleInfo), open: openHub(func(c *hub.Client) string {
		_, err := c.Info(context.Background(), hub.Repo{Kind: "models", ID: "org/name"}, "main")
		return hinted(err)
	})},
}

func parseConfig(data []byte) string {
	o, err := jsonx.ParseObject(data)
	if err != nil {
		return ""
	}
	a, ok := all.Find(source.ModelType(o))
	if !ok {
		return ""
	}
	for _, r := range a.Repairs(o, func(string) bool { return false }) {
		o.Set(r.Key, r.Value)
	}
	m, err := a.Parse(o)
	if err != nil {
		return ""
	}
	if m.Layers() < 1 {
		return "a model without layers"
	}
	return ""
}

// parseRecipe loads a recipe; seen: as one whose schema was checked before, which is what builds do from the second time on.
func parseRecipe(seen bool) func([]byte) string {
	return func(data []byte) string {
		r, diags := spec.LoadBytes("fuzz.yaml", "nowhere", data, spec.Options{Seen: func([32]byte) bool { return seen }})
		if !seen && (r == nil) != diags.HasErrors() {
			return fmt.Sprintf("recipe %v with %q", r != nil, diags.Error())
		}
		for _, d := range diags {
			if d.Pos.File == "" || d.Msg == "" {
				return fmt.Sprintf("a problem without a place: %+v", d)
			}
		}
		return ""
	}
}

func safetensorsSeeds(string) (out [][]byte, err error) {
	for _, h := range []string{`{"__metadata__":{"format":"mlx"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b.weight":{"dtype":"U32","shape":[4],"data_offsets":[12,28]}}`,
		`{"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, `{"z":{"dtype":"I64","shape":[0,5],"data_offsets":[0,0]}}`} {
		data := binary.LittleEndian.AppendUint64(nil, uint64(len(h)))
		out = append(out, append(append(data, h...), make([]byte, 28)...))
	}
	return out, nil
}

// fixLength makes the length in front of a header fit: behind the last brace the data begins.
func fixLength(data []byte) []byte {
	if end := bytes.LastIndexByte(data, '}'); end > 8 {
		binary.LittleEndian.PutUint64(data, uint64(end-7))
	}
	return data
}

func tokenizerSeeds(string) ([][]byte, error) {
	parts := []string{``, `"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "[a-c]+"}, "content": "x"}, {"type": "Strip", "strip_left": true}]},`,
		`"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}, "decoder": {"type": "Metaspace", "replacement": "▁"},`,
		`"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\p{L}+|[^\\s]"}, "behavior": "MergedWithNext", "invert": true},`,
		`"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "decoder": {"type": "ByteLevel"},`,
		`"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},`}
	var out [][]byte
	for _, p := range parts {
		out = append(out, []byte(`{"version": "1.0", `+p+`"added_tokens": [{"id": 4, "content": "<s>", "special": true, "lstrip": true, "single_word": false, "normalized": false}],
 "model": {"type": "BPE", "unk_token": "a", "byte_fallback": false, "ignore_merges": true, "vocab": {"a": 0, "b": 1, "ab": 2, "▁": 3}, "merges": ["a b", ["▁", "a"]]}}`))
	}
	return out, nil
}

func recipeSeeds(root string) ([][]byte, error) {
	out, err := globbed(3000, "recipes/*.yaml")(root)
	return append(out, []byte(fmt.Sprintf(recipeTwo, "path:m")), []byte("version: 1\nmodels: {m: \"hf:org/name@main\"}\nquantizations: {q: {mode: mxfp4}, r: {extends: q, bits: 8}}\nconvert: {dtype: float16}\n")), err
}

func provenanceSeeds(root string) ([][]byte, error) {
	out, err := texts(`{"format":1,"target":"m/q4","recipe":"r.yaml","key":"` + strings.Repeat("ab", 32) + `","tree":"` + strings.Repeat("cd", 32) + `","origin":{"a":"b"},"placed":"2026-01-02T03:04:05Z","host":"h","mlxbuild":"1"}`)(root)
	if err != nil {
		return nil, err
	}
	written, err := globbed(20_000, "cmd/mlxbuild/testdata/versions/provenance*.json")(root) // as versions of this program wrote them
	return append(out, written...), err
}

func recordSeeds(string) ([][]byte, error) {
	key := recordKey()
	d := cache.SumBytes([]byte("x")).String()
	return [][]byte{[]byte(fmt.Sprintf(`{"format":1,"key":%q,"key_text":%q,"step":"s","outputs":[{"path":"a/b","digest":%q,"size":1,"mode":420}],"tree":%q,"result":{"a":1},"started":"2026-01-02T03:04:05Z","seconds":1.5}`, key.Sum(), key.Text(), d, d))}, nil
}

func recordKey() *cache.KeyWriter {
	k := cache.NewKey("fuzz")
	k.Param("a", 1)
	return k
}

// seal puts the checksum behind a record, mostly: a flipped bit in a sealed one is what TestState is about.
func seal(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\n"), []byte(" "))
	return append(append(data, '\n'), []byte(`"`+cache.SumBytes(data).String()+"\"\n")...)
}

func openRecord(dir string) (func([]byte) string, error) {
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return nil, err
	}
	key := recordKey()
	hex := key.Sum().String()
	path := filepath.Join(dir, "records", hex[:2], hex)
	return func(data []byte) string {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err.Error()
		}
		r, ok := c.Record(key.Sum())
		if !ok {
			return ""
		}
		if r.Key != key.Sum() || r.KeyText != key.Text() {
			return "a record about another key"
		}
		_ = c.Complete(r)
		return ""
	}, os.MkdirAll(filepath.Dir(path), 0o755)
}

func memoSeeds(string) ([][]byte, error) {
	data := []byte("mlxbuild-stat 1\n")
	for i := range 3 {
		k := cache.SumBytes([]byte{byte(i)})
		data = append(append(append(data, k[:]...), k[:]...), 0, 80, 0, 0)
	}
	return [][]byte{fixMemo(data)}, nil
}

// snapshotBody is what a snapshot's only block says: an answer, a folder that is there and a file in it that is not.
const snapshotBody = "\x01\x06answer\x02\x01/\x03\x06nobody"

// fixSnapshot makes the block.
func fixSnapshot(body []byte) []byte {
	block := make([]byte, 16<<10)
	end := len(block) - crc32.Size
	copy(block[copy(block, "mlxbuild-snapshot 3\n\x00\x00\x00\x00\x01\x00\x00\x00"):end], body)
	binary.LittleEndian.PutUint32(block[end:], crc32.Checksum(block[:end], crc32.MakeTable(crc32.Castagnoli)))
	return block
}

func parseSnapshot(data []byte) string {
	snapshot.Same(bytes.NewReader(data), int64(len(data)))
	return ""
}

// fixMemo puts the checksum at the end.
func fixMemo(data []byte) []byte {
	body := data[:max(0, len(data)-32)]
	if len(data) == 16+3*68 {
		body = data
	}
	sum := cache.SumBytes(body)
	return append(bytes.Clone(body), sum[:]...)
}

func openMemo(dir string) (func([]byte) string, error) {
	if _, err := cache.Open(dir, cache.Options{}); err != nil {
		return nil, err
	}
	return func(data []byte) string {
		if err := os.WriteFile(filepath.Join(dir, "stat"), data, 0o644); err != nil {
			return err.Error()
		}
		c, err := cache.Open(dir, cache.Options{})
		if err != nil {
			return err.Error()
		}
		for i := range 4 {
			_, _ = c.Memo(cache.SumBytes([]byte{byte(i)}))
		}
		return ""
	}, nil
}

// answers is a Hub that answers everything with one text: the first line is its Link header, the second its rate limits, the rest the body.
type answers struct{ data []byte }

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	link, rest, _ := bytes.Cut(a.data, []byte("\n"))
	limit, body, _ := bytes.Cut(rest, []byte("\n"))
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "X-Repo-Commit": {strings.Repeat("0123456789", 4)}}
	if len(link) > 0 {
		h.Set("Link", string(link))
	}
	if len(limit) > 0 {
		h.Set("RateLimit", string(limit))
		h.Set("Retry-After", string(limit))
	}
	return &http.Response{StatusCode: 200, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
}

func openHub(ask func(*hub.Client) string) func(string) (func([]byte) string, error) {
	return func(string) (func([]byte) string, error) {
		a := &answers{}
		c := hub.New(hub.Settings{Endpoint: "http://hub.test"}, hub.Options{Transport: a, Sleep: func(context.Context, time.Duration) error { return nil }})
		return func(data []byte) string {
			a.data = data
			return ask(c)
		}, nil
	}
}
