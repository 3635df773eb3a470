package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// flagsFirst puts the flags of a command line before its other arguments: the parser takes these only in one piece, and people write `build recipe.yaml -k 'smollm2/*'`.
func flagsFirst(parser *kong.Kong, args []string) []string {
	node, at := parser.Model.Node, 0
	var flags, rest []string
	for at < len(args) && args[at] != "--" {
		arg := args[at]
		at++
		if strings.HasPrefix(arg, "-") && arg != "-" {
			flags = append(flags, arg)
			if takesValue(node, arg) && at < len(args) {
				flags = append(flags, args[at])
				at++
			}
			continue
		}
		if child := childOf(node, arg); child != nil && len(rest) == 0 {
			node = child
			flags = append(flags, arg) // commands stay where they are between flags
			continue
		}
		rest = append(rest, arg)
	}
	return slices.Concat(flags, rest, args[at:])
}

func childOf(node *kong.Node, name string) *kong.Node {
	for _, c := range node.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// takesValue reports whether the argument behind a flag belongs to it.
func takesValue(node *kong.Node, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	for n := node; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			long := strings.TrimPrefix(arg, "--")
			if "--"+f.Name == arg || slices.Contains(f.Aliases, long) && strings.HasPrefix(arg, "--") || f.Short != 0 && "-"+string(f.Short) == arg {
				return !f.IsBool() && !f.IsCounter()
			}
		}
	}
	return false
}
