package main

import (
	"io"

	"github.com/mlxbuild/mlxbuild/internal/report"
)

type layerDetail struct{}

func (a *app) layerDetails(p *project, v []report.Validation) ([]*layerDetail, error) {
	return nil, nil
}
func (a *app) printLayers(w io.Writer, d *layerDetail) {}
