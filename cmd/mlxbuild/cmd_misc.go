package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mlxbuild/mlxbuild/schemas"
)

type schemaCmd struct{}

func (schemaCmd) Help() string {
	return `  mlxbuild schema > recipe.v1.json

and in the first line of a recipe:  # yaml-language-server: $$schema=./recipe.v1.json`
}

func (schemaCmd) Run(a *app) error {
	_, err := a.stdout.Write(schemas.Recipe())
	return err
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `  source <(mlxbuild completion bash)                  in ~/.bashrc
  mlxbuild completion zsh > _mlxbuild                 in a folder of $$fpath
  mlxbuild completion fish > ~/.config/fish/completions/mlxbuild.fish`
}

// Run prints a script made from the command line's own description, so that it cannot lag behind.
func (c completionCmd) Run(a *app, k *kong.Context) error {
	words := map[string][]string{}
	gather(k.Model.Node, "", words)
	var paths []string
	for p := range words {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	switch c.Shell {
	case "bash":
		fmt.Fprint(a.stdout, bashCompletion(paths, words, false))
	case "zsh":
		fmt.Fprint(a.stdout, bashCompletion(paths, words, true))
	case "fish":
		fmt.Fprint(a.stdout, fishCompletion(paths, words))
	}
	return nil
}

// gather collects, for each command path, the words that may follow.
func gather(n *kong.Node, path string, words map[string][]string) {
	var list []string
	for _, f := range n.Flags {
		if !f.Hidden {
			list = append(list, "--"+f.Name)
		}
	}
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		list = append(list, child.Name)
		gather(child, strings.TrimSpace(path+" "+child.Name), words)
	}
	words[path] = list
}

func bashCompletion(paths []string, words map[string][]string, zsh bool) string {
	var b strings.Builder
	if zsh {
		b.WriteString("#compdef mlxbuild\nautoload -U +X bashcompinit && bashcompinit\n")
	}
	b.WriteString("_mlxbuild() {\n  local cur=${COMP_WORDS[COMP_CWORD]} path=\"\" w\n  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case \"$path $w\" in\n")
	for _, p := range paths {
		if p == "" {
			continue
		}
		parent, name := "", p
		if i := strings.LastIndex(p, " "); i >= 0 {
			parent, name = p[:i], p[i+1:]
		}
		fmt.Fprintf(&b, "      %q) path=%q;;\n", parent+" "+name, p)
	}
	b.WriteString("    esac\n  done\n  case \"$path\" in\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -W %q -- \"$cur\"));;\n", p, strings.Join(words[p], " "))
	}
	b.WriteString("  esac\n  [[ $cur == -* ]] || COMPREPLY+=($(compgen -f -- \"$cur\"))\n}\ncomplete -o filenames -F _mlxbuild mlxbuild\n")
	return b.String()
}

func fishCompletion(paths []string, words map[string][]string) string {
	var b strings.Builder
	for _, p := range paths {
		condition := "__fish_use_subcommand"
		if p != "" {
			var tests []string
			for _, part := range strings.Fields(p) {
				tests = append(tests, "__fish_seen_subcommand_from "+part)
			}
			condition = strings.Join(tests, "; and ")
		}
		for _, w := range words[p] {
			if flag, ok := strings.CutPrefix(w, "--"); ok {
				fmt.Fprintf(&b, "complete -c mlxbuild -n %q -l %s\n", condition, flag)
			} else {
				fmt.Fprintf(&b, "complete -c mlxbuild -n %q -a %s\n", condition, w)
			}
		}
	}
	return b.String()
}
