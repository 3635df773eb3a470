// Package schemas holds the JSON Schema of recipes: the contract with editors, and what a recipe is checked against.
package schemas

import _ "embed"

// Version of the schema and of the checks that belong to it; a recipe that passed an older one is checked again.
const Version = "recipe.v1/3"

//go:embed recipe.v1.json
var recipe []byte

// Recipe is the schema of version 1, JSON Schema draft 2020-12.
func Recipe() []byte { return recipe }
