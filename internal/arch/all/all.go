// Package all lists the architectures.
package all

import (
	"slices"

	"github.com/mlxbuild/mlxbuild/internal/arch"
	"github.com/mlxbuild/mlxbuild/internal/arch/llama"
)

// Archs in the order in which they are shown.
func Archs() []arch.Arch { return []arch.Arch{llama.Arch()} }

// Find the architecture of a model_type.
func Find(modelType string) (arch.Arch, bool) {
	for _, a := range Archs() {
		if slices.Contains(a.ModelTypes, modelType) {
			return a, true
		}
	}
	return arch.Arch{}, false
}

// ModelTypes that are supported, for messages.
func ModelTypes() (out []string) {
	for _, a := range Archs() {
		out = append(out, a.ModelTypes...)
	}
	return out
}
