package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Shell: ${enum}."`

	model *kong.Application
}

func (completionCmd) Help() string {
	return "Example:\n  gatehouse completion bash > /etc/bash_completion.d/gatehouse"
}

// Run prints the script. It is made from the commands themselves, so that it
// cannot know others than the program does.
func (c *completionCmd) Run(std *stdio) error {
	var words func(n *kong.Node, path string) [][2]string
	words = func(n *kong.Node, path string) [][2]string {
		var names []string
		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				names = append(names, child.Name)
			}
		}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				names = append(names, "--"+f.Name)
			}
		}
		out := [][2]string{{path, strings.Join(names, " ")}}
		for _, child := range n.Children {
			if child.Type == kong.CommandNode {
				out = append(out, words(child, strings.TrimSpace(path+" "+child.Name))...)
			}
		}
		return out
	}
	table := words(c.model.Node, "")
	takes := strings.Join(valueFlags(c.model.Node, nil), "|")
	var paths []string
	for _, row := range table[1:] {
		paths = append(paths, strconv.Quote(row[0]))
	}
	commands := strings.Join(paths, "|")
	var b strings.Builder
	switch c.Shell {
	case "bash":
		b.WriteString("_gatehouse() {\n  local at=\"\" before=\"\" w\n  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n")
		fmt.Fprintf(&b, completionWalk, takes, commands)
		b.WriteString("  done\n  case \"$at\" in\n")
		for _, row := range table {
			fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -W %q -- \"${COMP_WORDS[COMP_CWORD]}\")) ;;\n", row[0], row[1])
		}
		b.WriteString("    *) COMPREPLY=() ;;\n  esac\n}\ncomplete -o default -F _gatehouse gatehouse\n")
	case "zsh":
		b.WriteString("#compdef gatehouse\n_gatehouse() {\n  local at=\"\" before=\"\" w\n  for w in ${words[2,CURRENT-1]}; do\n")
		fmt.Fprintf(&b, completionWalk, takes, commands)
		b.WriteString("  done\n  case \"$at\" in\n")
		for _, row := range table {
			fmt.Fprintf(&b, "    %q) compadd -- %s; _files ;;\n", row[0], row[1])
		}
		b.WriteString("    *) _files ;;\n  esac\n}\ncompdef _gatehouse gatehouse\n")
	case "fish":
		for _, row := range table {
			cond := "__fish_use_subcommand"
			if row[0] != "" {
				cond = "__fish_seen_subcommand_from " + strings.ReplaceAll(row[0], " ", "; and __fish_seen_subcommand_from ")
			}
			for w := range strings.FieldsSeq(row[1]) {
				if long, ok := strings.CutPrefix(w, "--"); ok {
					fmt.Fprintf(&b, "complete -c gatehouse -n %q -l %s\n", cond, long)
				} else {
					fmt.Fprintf(&b, "complete -c gatehouse -n %q -a %s\n", cond, w)
				}
			}
		}
	}
	_, err := fmt.Fprint(std.out, b.String())
	return err
}

// completionWalk finds, in bash and in zsh, the command that the words before the
// cursor name: flags are left out, and so is the word after a flag that takes one,
// and what is no command, like a user's name.
const completionWalk = `    case "$w" in
      -*) ;;
      *) case "$before" in
        %s) ;;
        *) case "$at${at:+ }$w" in
          %s) at="$at${at:+ }$w" ;;
        esac ;;
      esac ;;
    esac
    before="$w"
`

// valueFlags lists the flags that take a word, as patterns of a case.
func valueFlags(n *kong.Node, out []string) []string {
	for _, f := range n.Flags {
		if f.IsBool() {
			continue
		}
		for _, name := range []string{"--" + f.Name, "-" + string(f.Short)} {
			if name != "-\x00" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	for _, child := range n.Children {
		out = valueFlags(child, out)
	}
	return out
}
