#!/bin/sh
# make fuzz: every fuzz target for SECONDS_EACH (default 20).
set -eu
cd "$(dirname "$0")/.."
each=${SECONDS_EACH:-20}
git grep -lE '^func Fuzz' -- '*_test.go' | while read -r file; do
	dir=$(dirname "$file")
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "== $dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${each}s" "./$dir"
	done
done
