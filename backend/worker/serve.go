package worker

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mlxbuild/mlxbuild/backend"
)

// Serve is the other half of the protocol in Go: it answers requests with a runtime of its own process until in ends or says bye. A benchmark runs the built-in runtime in such a process, so that its memory,
// its threads and its end are its own.
func Serve(ctx context.Context, in io.Reader, out io.Writer, runtime backend.Runtime) error {
	s := &server{runtime: runtime, out: json.NewEncoder(out), models: map[int]backend.Model{}, cancels: map[int]context.CancelFunc{}}
	s.send(map[string]any{"hello": Hello, "runtime": runtime.Name(), "versions": map[string]string{}, "device": Device{Kind: "cpu"}})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go s.beat(ctx)
	requests := make(chan request)
	go s.read(ctx, in, requests)
	for r := range requests {
		if r.Op == "bye" {
			s.send(map[string]any{"id": r.ID, "ok": true})
			break
		}
		s.serve(r)
	}
	for _, m := range s.models {
		m.Close()
	}
	return ctx.Err()
}

type server struct {
	runtime backend.Runtime
	models  map[int]backend.Model

	mu      sync.Mutex
	out     *json.Encoder
	cancels map[int]context.CancelFunc // of requests that were read and not answered
}

// request has the fields of every operation.
type request struct {
	ID        int       `json:"id"`
	Op        string    `json:"op"`
	Of        int       `json:"of"`
	Model     int       `json:"model"`
	Dir       string    `json:"dir"`
	Compute   string    `json:"compute"`
	Tokens    []int32   `json:"tokens"`
	Positions []int     `json:"positions"`
	Out       string    `json:"out"`
	Prompts   [][]int32 `json:"prompts"`
	Options   struct {
		MaxTokens   int     `json:"max_tokens"`
		Temperature float64 `json:"temperature"`
		TopP        float64 `json:"top_p"`
		MinP        float64 `json:"min_p"`
		Seed        uint64  `json:"seed"`
		Stop        []int32 `json:"stop"`
		Speculate   bool    `json:"speculate"`
		Quiet       bool    `json:"quiet"`
	} `json:"options"`

	ctx context.Context
}

// send writes a line. A reader that is gone is seen at the other end of the pipes.
func (s *server) send(message map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(message)
}

func (s *server) beat(ctx context.Context) {
	for tick := time.NewTicker(10 * time.Second); ; {
		select {
		case <-tick.C:
			s.send(map[string]any{"beat": 1})
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// read passes requests on, and cancels those that it is told to while they are under way.
func (s *server) read(ctx context.Context, in io.Reader, requests chan<- request) {
	defer close(requests)
	for d := json.NewDecoder(bufio.NewReader(in)); ; {
		var r request
		if err := d.Decode(&r); err != nil {
			s.cancelAll()
			return
		}
		if r.Op == "cancel" {
			s.cancel(r.Of)
			continue
		}
		var cancel context.CancelFunc
		r.ctx, cancel = context.WithCancel(ctx)
		s.mu.Lock()
		s.cancels[r.ID] = cancel
		s.mu.Unlock()
		requests <- r
	}
}

func (s *server) cancel(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.cancels[id]; ok {
		cancel()
	}
}

func (s *server) cancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.cancels {
		cancel()
	}
}

func (s *server) serve(r request) {
	answer, err := s.answer(r)
	s.mu.Lock()
	s.cancels[r.ID]()
	delete(s.cancels, r.ID)
	s.mu.Unlock()
	if err != nil {
		s.send(map[string]any{"id": r.ID, "ok": false, "error": failure{classOf(err), err.Error()}})
		return
	}
	answer["id"], answer["ok"] = r.ID, true
	s.send(answer)
}

// classOf an error, for the other side.
func classOf(err error) string {
	var input *backend.InputError
	var compute *backend.ComputeError
	var finite interface{ NotFinite() string }
	switch {
	case errors.As(err, &input):
		return "bad_input"
	case errors.As(err, &compute):
		return "unsupported"
	case errors.As(err, &finite):
		return "not_finite"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return "internal"
}

func (s *server) answer(r request) (map[string]any, error) {
	if r.Op == "load" {
		return s.load(r)
	}
	m, ok := s.models[r.Model]
	if !ok {
		return nil, &backend.InputError{What: fmt.Sprintf("there is no model %d", r.Model)}
	}
	switch r.Op {
	case "unload":
		delete(s.models, r.Model)
		return map[string]any{}, m.Close()
	case "logits":
		rows, err := m.Logits(r.ctx, r.Tokens, r.Positions)
		return array(r.Out, rows, m.Info().VocabSize, err)
	case "hidden":
		row, err := m.Hidden(r.ctx, r.Tokens)
		return matrix(r.Out, []int{len(r.Tokens), m.Info().HiddenSize}, [][]float32{row}, err)
	case "layers":
		rows, err := m.Layers(r.ctx, r.Tokens)
		return matrix(r.Out, []int{len(rows), len(r.Tokens), m.Info().HiddenSize}, rows, err)
	case "generate":
		return s.generate(r, m)
	}
	return nil, &backend.InputError{What: "there is no operation " + r.Op}
}

func (s *server) load(r request) (map[string]any, error) {
	peakReset()
	m, err := s.runtime.Load(r.ctx, r.Dir, backend.Compute(r.Compute))
	if err != nil {
		return nil, err
	}
	s.models[r.Model] = m
	info := m.Info()
	eos := info.EOS
	if eos == nil {
		eos = []int32{}
	}
	return map[string]any{"vocab": info.VocabSize, "context": info.ContextLength, "hidden": info.HiddenSize, "eos": eos, "weights_bytes": info.WeightsBytes,
		"memory": map[string]int64{backend.PhaseLoad: max(m.Memory(backend.PhaseLoad), peak())}}, nil
}

// generate answers as the Python workers do. Memory is what the process had in each phase: mapped weights, buffers, and what Go holds.
func (s *server) generate(r request, m backend.Model) (map[string]any, error) {
	o, left, first := r.Options, len(r.Prompts), int64(0)
	peakReset()
	emit := func(e backend.Event) error {
		if !o.Quiet {
			s.send(map[string]any{"id": r.ID, "progress": map[string]any{"s": e.Sequence, "t": e.Token, "ns": int64(e.At)}})
		}
		if left--; left == 0 { // every text has its first token
			first = peak()
			peakReset()
		}
		return nil
	}
	results, err := m.Generate(r.ctx, r.Prompts, backend.GenerateOptions{MaxTokens: o.MaxTokens, Temperature: o.Temperature, TopP: o.TopP, MinP: o.MinP, Seed: o.Seed, Stop: o.Stop, Speculate: o.Speculate}, emit)
	if err != nil {
		return nil, err
	}
	tokens, ns, finish := [][]int32{}, [][]int64{}, []string{}
	for _, result := range results {
		at := make([]int64, len(result.At))
		for i, t := range result.At {
			at[i] = int64(t)
		}
		tokens, ns, finish = append(tokens, result.Tokens), append(ns, at), append(finish, result.FinishReason)
	}
	memory := map[string]int64{backend.PhasePrefill: max(first, m.Memory(backend.PhasePrefill)), backend.PhaseDecode: max(peak(), m.Memory(backend.PhaseDecode))}
	return map[string]any{"tokens": tokens, "ns": ns, "finish": finish, "memory": memory}, nil
}

func array(path string, rows [][]float32, columns int, err error) (map[string]any, error) {
	return matrix(path, []int{len(rows), columns}, rows, err)
}

// matrix writes rows one after the other, little-endian float32.
func matrix(path string, shape []int, rows [][]float32, err error) (map[string]any, error) {
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, row := range rows {
		for _, v := range row {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	return map[string]any{"shape": shape, "dtype": "float32"}, os.WriteFile(path, data, 0o600)
}

// peakReset begins a new peak of this process's memory, where the system can: Linux, proc_pid_clear_refs(5).
func peakReset() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peak is the most memory that this process had since the last reset, in bytes; 0 where the system does not say.
func peak() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, ok := strings.Cut(string(data), "VmHWM:")
	if !ok {
		return 0
	}
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
