package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxbuild/mlxbuild/internal/lazyregexp"
	"github.com/mlxbuild/mlxbuild/internal/metric"
	"github.com/mlxbuild/mlxbuild/internal/report/page"
	"github.com/mlxbuild/mlxbuild/internal/safetensors"
)

// inLayer is the path of a matrix inside a layer.
var inLayer = lazyregexp.New(`^(?:.*\.)?layers\.(\d+)\.(.+)$`)

// outside is the row of what is in no layer.
const outside = "other"

// quantizationMap reads off headers and config.json how each matrix of a folder is stored. errors are by tensor, nil when unknown.
func quantizationMap(dir, target string, errors map[string]metric.Number) (page.Map, bool) {
	m := page.Map{Target: target}
	weights, err := safetensors.OpenFolder(dir)
	if err != nil {
		return m, false
	}
	schemes := quantizationOf(dir)
	rows := map[string]map[string]page.MapCell{}
	var layers []int
	var columns, others []string
	for _, t := range weights.Tensors() {
		module, ok := strings.CutSuffix(t.Name, ".weight")
		if !ok || len(t.Shape) != 2 {
			continue
		}
		row, column := outside, module
		if found := inLayer().FindStringSubmatch(module); found != nil {
			row, column = found[1], found[2]
			if n, _ := strconv.Atoi(row); !slices.Contains(layers, n) {
				layers = append(layers, n)
			}
			if !slices.Contains(columns, column) {
				columns = append(columns, column)
			}
		} else {
			others = append(others, column)
		}
		c := mapCell(weights, schemes, module, t)
		if e, ok := errors[t.Name]; ok {
			c.Error = float64(e)
		}
		if rows[row] == nil {
			rows[row] = map[string]page.MapCell{}
		}
		rows[row][column] = c
	}
	slices.Sort(layers)
	slices.Sort(columns)
	slices.Sort(others)
	m.Columns = append(columns, others...)
	var names []string
	for _, n := range layers {
		names = append(names, strconv.Itoa(n))
	}
	if len(others) > 0 {
		names = append(names, outside)
	}
	for _, name := range names {
		r := page.MapRow{Name: name}
		for _, c := range m.Columns {
			r.Cells = append(r.Cells, rows[name][c])
		}
		m.Rows = append(m.Rows, r)
	}
	return m, len(m.Rows) > 0
}

func mapCell(weights *safetensors.Folder, schemes map[string]any, module string, t safetensors.Tensor) page.MapCell {
	c := page.MapCell{Kind: map[string]string{"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[t.DType], Error: -1}
	_, scales, ok := weights.Find(module + ".scales")
	if !ok {
		c.Bits = float64(8*t.Bytes()) / float64(t.Shape[0]*t.Shape[1])
		return c
	}
	scheme := schemes
	if own, ok := schemes[module].(map[string]any); ok {
		scheme = own
	}
	bits, _ := scheme["bits"].(float64)
	mode, _ := scheme["mode"].(string)
	if mode == "" {
		mode = "affine"
	}
	if bits < 1 {
		return page.MapCell{Kind: mode, Error: -1}
	}
	columns := float64(t.Shape[1]) * 32 / bits
	size := t.Bytes() + scales.Bytes()
	if _, biases, ok := weights.Find(module + ".biases"); ok {
		size += biases.Bytes()
	}
	c.Kind = fmt.Sprintf("%s %g bits, group %g", mode, bits, columns/float64(scales.Shape[1]))
	c.Bits = float64(8*size) / (float64(t.Shape[0]) * columns)
	return c
}

// quantizationOf is the quantization block of a folder's config.json.
func quantizationOf(dir string) map[string]any {
	var config struct {
		Quantization map[string]any `json:"quantization"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || json.Unmarshal(data, &config) != nil {
		return nil
	}
	return config.Quantization
}
