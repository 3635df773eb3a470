package benchmark

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
	"github.com/mlxbuild/mlxbuild/internal/stat"
)

// Metric is one of the figures of a cell. t0 is when token ids were handed over, t1 when the first new token was readable, tN the last; P is the number of prompt tokens and N that of new ones, of one text.
type Metric struct {
	Name    string
	Unit    string
	Higher  bool   // more is better
	Exact   bool   // it has no noise
	Meaning string // definition, for people
}

// Table of metrics, in the order they are shown.
var Table = []Metric{
	{DecodeTokS, "tok/s", true, false, "new tokens a second of one text: (N - 1) / (tN - t1). The first token belongs to the prefill."},
	{BatchDecodeTokS, "tok/s", true, false, "new tokens a second of all texts of a batch together: the sum of N - 1 over all texts / (last tN - first t1)."},
	{PrefillTokS, "tok/s", true, false, "prompt tokens a second, up to the first new token: the sum of P over all texts / (last t1 - t0)."},
	{TTFT, "ms", false, false, "time to first token: the last t1 - t0, without tokenizing."},
	{ITL50, "ms", false, false, "median of the gaps between the tokens of a text, inside one run; then the median over runs."},
	{ITL99, "ms", false, false, "99th percentile of the gaps between the tokens of a text, inside one run; then the median over runs."},
	{RequestTokS, "tok/s", true, false, "new tokens a second of the whole call: the sum of N / (last tN - t0)."},
	{LoadMS, "ms", false, false, "time that the runtime takes to load the folder, with its files in the page cache; the start of its process is not in it. A runtime that maps its weights reads them in the first run."},
	{CompileMS, "ms", false, false, "time to first token of the very first run minus the median of those measured: what is compiled or read once."},
	{WeightsBytes, "bytes", false, true, "bytes of all weight tensors, as the runtime takes them from the folder."},
	{PeakMemory, "bytes", false, false, "the most memory in any phase: what MLX or CUDA have allocated; on the CPU, for PyTorch and the built-in runtime, what the process has in memory, mapped weights included."},
	{PeakLoad, "bytes", false, false, "the same while loading."},
	{PeakPrefill, "bytes", false, false, "the same while prompts are read; the peak is reset before each phase."},
	{PeakDecode, "bytes", false, false, "the same while tokens are made."},
	{Energy, "J/tok", false, false, "energy of the processor packages over a run / new tokens, idle power included, where the system has a counter (Linux, RAPL)."},
}

// Names of the metrics.
const (
	LoadMS          = "load_ms"
	CompileMS       = "compile_ms"
	TTFT            = "ttft_ms"
	PrefillTokS     = "prefill_tok_s"
	DecodeTokS      = "decode_tok_s"
	ITL50           = "itl_ms_p50"
	ITL99           = "itl_ms_p99"
	BatchDecodeTokS = "batch_decode_tok_s"
	RequestTokS     = "request_tok_s"
	WeightsBytes    = "weights_bytes"
	PeakMemory      = "peak_memory_bytes"
	PeakLoad        = "peak_memory_bytes.load"
	PeakPrefill     = "peak_memory_bytes.prefill"
	PeakDecode      = "peak_memory_bytes.decode"
	Energy          = "energy_j_per_tok"
)

// Find a metric by its name.
func Find(name string) (Metric, bool) {
	for _, m := range Table {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// Main is the metric that a cell is ranked by.
func (c Cell) Main() string {
	switch {
	case c.Batch > 1:
		return BatchDecodeTokS
	case c.Generated < 2:
		return PrefillTokS
	}
	return DecodeTokS
}

// errClock is a run whose times cannot be.
var errClock = errors.New("the clock went backwards during the run")

// figures of one run, from when each token was there.
func figures(results []backend.Result, generated int) (map[string]float64, error) {
	var lastFirst, end time.Duration
	firstFirst := time.Duration(1<<63 - 1)
	var prompt, tokens, after int
	var gaps, each []float64
	for _, r := range results {
		n := len(r.At)
		if n != generated {
			return nil, fmt.Errorf("the runtime made %d tokens where %d were asked for", n, generated)
		}
		if r.At[0] <= 0 || !slices.IsSorted(r.At) {
			return nil, errClock
		}
		lastFirst, firstFirst, end = max(lastFirst, r.At[0]), min(firstFirst, r.At[0]), max(end, r.At[n-1])
		prompt, tokens, after = prompt+r.PromptTokens, tokens+n, after+n-1
		for i := 1; i < n; i++ {
			gaps = append(gaps, ms(r.At[i]-r.At[i-1]))
		}
		if span := r.At[n-1] - r.At[0]; n > 1 && span > 0 {
			each = append(each, float64(n-1)/span.Seconds())
		}
	}
	out := map[string]float64{TTFT: ms(lastFirst), PrefillTokS: float64(prompt) / lastFirst.Seconds(), RequestTokS: float64(tokens) / end.Seconds()}
	if generated > 1 && len(each) == len(results) && end > firstFirst {
		slices.Sort(gaps)
		out[DecodeTokS] = stat.Median(each)
		out[ITL50], out[ITL99] = stat.Quantile(gaps, 0.5), stat.Quantile(gaps, 0.99)
		if len(results) > 1 {
			out[BatchDecodeTokS] = float64(after) / (end - firstFirst).Seconds()
		}
	}
	return out, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
