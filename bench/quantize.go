package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// The matrix that both sides quantize: normally distributed weights in bfloat16.
const matrixRows, matrixCols = 4096, 4096

// matrixVar tells quant's benchmark where they are.
const matrixVar = "MLXBUILD_BENCH_MATRIX"

// quantizeScript quantizes the matrix in argv[1] with each scheme after it, and prints the best time and the bytes' digest of each.
const quantizeScript = `
import hashlib, json, sys, time
import numpy as np
import mlx.core as mx
mx.set_default_device(mx.cpu)
w = mx.array(np.fromfile(sys.argv[1], np.uint16).reshape(-1, int(sys.argv[2]))).view(mx.bfloat16)
mx.eval(w)
for name in sys.argv[3:]:
    mode, bits, group = name.split("-")
    best = 1e9
    for _ in range(3):
        if 0.5 < best < 1e9: # some modes take seconds
            break
        start = time.perf_counter()
        q = mx.quantize(w, group_size=int(group), bits=int(bits), mode=mode)
        mx.eval(q)
        best = min(best, time.perf_counter() - start)
    digest = hashlib.sha256()
    for a in q:
        digest.update(np.array(a.view(mx.uint8)).tobytes())
    print(json.dumps({"scheme": name, "seconds": best, "sha256": digest.hexdigest()}))
`

// quantized is what one process said of a scheme.
type quantized struct {
	Scheme  string
	Seconds float64
	SHA256  string
}

var quantizeSchemes = []string{"affine-4-64", "affine-8-64", "affine-2-64", "affine-3-64", "affine-6-64", "mxfp4-4-32", "mxfp8-8-32", "nvfp4-4-16"}

// quantize: one matrix in memory, by our Go benchmark and by mx.quantize in a Python process. Only the quantizing is timed, and the bytes are compared.
func (b *bench) quantize() error {
	dir, err := b.scratch("quantize")
	if err != nil {
		return err
	}
	matrix := filepath.Join(dir, "matrix")
	if err := writeMatrix(matrix, b.rows*matrixCols); err != nil {
		return err
	}
	test := filepath.Join(dir, "quant.test"+exeSuffix)
	build := b.command("go", "test", "-c", "-o", test, "./internal/quant")
	build.Dir = b.root
	if _, err := once(build); err != nil {
		return err
	}
	ours := &side{name: "mlxbuild", command: func(int) *exec.Cmd {
		cmd := b.command(test, "-test.run", "^$", "-test.bench", "^BenchmarkMatrix$/^("+strings.Join(quantizeSchemes, "|")+")$", "-test.benchtime", "2x", "-test.count", "10")
		cmd.Env = append(os.Environ(), matrixVar+"="+matrix)
		return cmd
	}}
	sides := []*side{ours}
	peer := &side{name: "mlx", peer: true, command: func(int) *exec.Cmd {
		return b.py(append([]string{"-c", quantizeScript, matrix, strconv.Itoa(matrixCols)}, quantizeSchemes...)...)
	}}
	if b.hasPython() {
		sides = append(sides, peer)
	}
	if err := b.takeTurns(b.turns(4), sides...); err != nil {
		return err
	}
	one, all, err := bestOfGo(ours.samples)
	if err != nil {
		return err
	}
	its, err := bestOfPython(peer.samples)
	if err != nil {
		return err
	}
	return b.printQuantized(one, all, its)
}

// printQuantized compares the best of each side, in bytes of source a second. its is empty where the peer was left out.
func (b *bench) printQuantized(one, all, its map[string]quantized) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "bfloat16, GB/s of source\tmlxbuild, 1 thread\t%d threads\tmlx on its CPU\tx mlx\tbytes\t\n", runtime.NumCPU())
	speed := func(q quantized) float64 { return float64(2*b.rows*matrixCols) / q.Seconds / 1e9 }
	for _, s := range quantizeSchemes {
		fmt.Fprintf(w, "  %s\t%.1f\t%.1f\t", s, speed(one[s]), speed(all[s]))
		if len(its) == 0 {
			fmt.Fprint(w, "\t\t\t\n")
			continue
		}
		if its[s].SHA256 != one[s].SHA256 || its[s].SHA256 != all[s].SHA256 {
			return fmt.Errorf("%s: mlxbuild's bytes are not those of mlx", s)
		}
		fmt.Fprintf(w, "%.2f\t%.1f\tequal\t\n", speed(its[s]), its[s].Seconds/all[s].Seconds)
	}
	w.Flush()
	fmt.Println()
	main := quantizeSchemes[0]
	if len(its) > 0 {
		atLeast(main+", of mlx's speed", its[main].Seconds/all[main].Seconds, 16, ratio)
	}
	atLeast(main, speed(all[main]), 9, func(v float64) string { return fmt.Sprintf("%.1f GB/s", v) })
	return nil
}

// A result of BenchmarkMatrix and what it logged; a benchmark that logs begins a line for it before its figures.
var (
	matrixResult = regexp.MustCompile(`^BenchmarkMatrix/(\S+?)/threads=(\d+)\S*\s+\d+\s+([\d.]+) ns/op`)
	matrixDigest = regexp.MustCompile(`sha256 ([0-9a-f]{64})`)
)

// bestOfGo reads the fastest run of each scheme by one thread and by all.
func bestOfGo(samples []sample) (one, all map[string]quantized, err error) {
	one, all = map[string]quantized{}, map[string]quantized{}
	for _, s := range samples {
		var current quantized
		var into []map[string]quantized
		for line := range strings.Lines(string(s.out)) {
			if m := matrixResult.FindStringSubmatch(line); m != nil {
				ns, err := strconv.ParseFloat(m[3], 64)
				if err != nil {
					return nil, nil, err
				}
				current, into = quantized{Scheme: m[1], Seconds: ns / 1e9}, nil
				if m[2] == "1" {
					into = append(into, one)
				}
				if m[2] == strconv.Itoa(runtime.NumCPU()) {
					into = append(into, all)
				}
			} else if m := matrixDigest.FindStringSubmatch(line); m != nil {
				current.SHA256 = m[1]
				for _, best := range into {
					better(best, current)
				}
			}
		}
	}
	if len(one) == 0 || len(all) == 0 {
		return nil, nil, fmt.Errorf("quant has no BenchmarkMatrix, or it said nothing:\n%s", tail(samples[0].out, 500))
	}
	return one, all, nil
}

// bestOfPython reads the fastest run of each scheme.
func bestOfPython(samples []sample) (map[string]quantized, error) {
	best := map[string]quantized{}
	for _, s := range samples {
		for line := range strings.Lines(string(s.out)) {
			var q quantized
			if err := json.Unmarshal([]byte(line), &q); err != nil {
				return nil, fmt.Errorf("mlx said %q: %w", line, err)
			}
			better(best, q)
		}
	}
	return best, nil
}

func better(best map[string]quantized, q quantized) {
	if had, ok := best[q.Scheme]; !ok || q.Seconds < had.Seconds {
		best[q.Scheme] = q
	}
}

// writeMatrix writes n weights in bfloat16.
func writeMatrix(name string, n int) error {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, 0, 2*n)
	for range n {
		out = binary.LittleEndian.AppendUint16(out, uint16(math.Float32bits(float32(r.NormFloat64()*0.02))>>16))
	}
	return os.WriteFile(name, out, 0o666)
}
