package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// goal says whether a figure is as small as was meant.
func goal(out io.Writer, what string, got, most float64) {
	word := "met"
	if got > most || math.IsNaN(got) {
		word = "**missed**"
	}
	_, _ = fmt.Fprintf(out, "- %s: at most %.3g wanted, %.3g measured: %s.\n", what, most, got, word)
}

// requestGoals are those of what a request costs. The checks without rules for content
// are the first; with them it is three times nginx.
func requestGoals(out io.Writer, all []*record, secure bool) {
	wanted := map[string]float64{"nginx": 1.3, "Caddy": 1.0 / 4, "Traefik": 1.0 / 3, "KrakenD": 1.0 / 5}
	if secure {
		wanted = map[string]float64{"nginx": 1.4}
	}
	_, _ = fmt.Fprintln(out)
	for _, r := range all {
		for _, p := range all {
			ratio, peer := median(r.costs())/median(p.costs()), strings.Split(p.name, ",")[0]
			switch most, meant := wanted[peer]; {
			case p.ours:
			case r.name == houseNames[quiet] && meant && !*post:
				goal(out, "CPU of every check but the rules for content, × "+peer, ratio, most)
			case r.name == houseNames[full] && peer == "nginx" && !secure:
				goal(out, "CPU of every check, × nginx", ratio, 3)
			}
		}
	}
}
