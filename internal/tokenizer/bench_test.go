package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// benchText is about a megabyte of prose, code and other scripts.
func benchText() string {
	rng := rand.New(rand.NewPCG(3, 4))
	words := strings.Fields("the of and to in a is that for it was on with as his they be at one have this from by hot word but what some we can out other were all there when up use your how said an each she which do their time if will way about many then them write would like so these her long make thing see him two has look more day could go come did number sound no most people my over know water than call first who may down side been now find")
	other := handMade()
	var b strings.Builder
	for b.Len() < 1<<20 {
		switch rng.IntN(20) {
		case 0:
			b.WriteString(randomCode(rng))
		case 1:
			if s := other[rng.IntN(len(other))]; len(s) < 300 {
				b.WriteString(s)
			}
		default:
			for range 12 {
				w := words[rng.IntN(len(words))]
				if rng.IntN(8) == 0 {
					w += words[rng.IntN(len(words))] + "ing"
				}
				b.WriteString(w + " ")
			}
			b.WriteString(".\n")
		}
	}
	return b.String()
}

// benchDocuments is a text as a list of documents that are encoded one by one, by so many threads.
type benchDocuments struct {
	Name      string   `json:"name"`
	Threads   int      `json:"threads"`
	Documents []string `json:"documents"`
}

// benchTexts are those of the file that MLXBUILD_BENCH_TEXTS names (bench/tokenize.go writes it), else benchText.
func benchTexts(b *testing.B) []benchDocuments {
	path := os.Getenv("MLXBUILD_BENCH_TEXTS")
	if path == "" {
		return []benchDocuments{{"mix", 1, []string{benchText()}}}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var texts []benchDocuments
	if err := json.Unmarshal(data, &texts); err != nil {
		b.Fatal(err)
	}
	return texts
}

// benchFolders are the tokenizers that MLXBUILD_BENCH_TOKENIZERS lists, else all that are there.
func benchFolders(b *testing.B) []string {
	if list := os.Getenv("MLXBUILD_BENCH_TOKENIZERS"); list != "" {
		return filepath.SplitList(list)
	}
	folders := []string{oracle.TinyStories(b)}
	paths, _ := filepath.Glob(filepath.Join(os.Getenv("MLXBUILD_ORACLE_TOKENIZERS"), "*", "tokenizer.json"))
	if smol := filepath.Join(oracle.TinyStories(b), "..", "SmolLM2-135M-Instruct", "tokenizer.json"); exists(smol) {
		paths = append(paths, smol)
	}
	for _, path := range paths {
		folders = append(folders, filepath.Dir(path))
	}
	return folders
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func BenchmarkEncode(b *testing.B) {
	texts := benchTexts(b)
	for _, dir := range benchFolders(b) {
		tok, err := Load(dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, text := range texts {
			b.Run(filepath.Base(dir)+"/"+text.Name, func(b *testing.B) { benchEncode(b, tok, text) })
		}
	}
}

// benchEncode also prints a checksum of the ids, for a comparison with another program.
func benchEncode(b *testing.B, tok *Tokenizer, text benchDocuments) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(text.Threads))
	size := 0
	for _, d := range text.Documents {
		size += len(d)
	}
	ids := make([][]int32, len(text.Documents))
	b.SetBytes(int64(size))
	for b.Loop() {
		var next atomic.Int64
		var group sync.WaitGroup
		for range text.Threads {
			group.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(ids) {
						return
					}
					ids[i], _ = tok.Encode(text.Documents[i], false)
				}
			})
		}
		group.Wait()
	}
	sum := crc32.NewIEEE()
	if err := binary.Write(sum, binary.LittleEndian, slices.Concat(ids...)); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(sum.Sum32()), "crc32")
}

func BenchmarkLoad(b *testing.B) {
	for _, dir := range benchFolders(b) {
		info, err := os.Stat(filepath.Join(dir, "tokenizer.json"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Base(dir), func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				if _, err := Load(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
