#!/bin/sh
# Format, vet, staticcheck. golangci-lint (.golangci.yml) runs too where it is installed: building it takes longer than the tests.
set -eu
cd "$(dirname "$0")/.."
tool() { go tool -modfile=tools/go.mod "$@"; }

echo "== gofumpt"
unformatted=$(git ls-files '*.go' | xargs go tool -modfile=tools/go.mod gofumpt -l)
if [ -n "$unformatted" ]; then
	echo "not formatted (run: go tool -modfile=tools/go.mod gofumpt -w .):"
	echo "$unformatted"
	exit 1
fi
echo "== go mod tidy -diff"
go mod tidy -diff
echo "== go vet"
go vet ./...
echo "== staticcheck"
tool staticcheck ./...
if command -v golangci-lint >/dev/null 2>&1; then
	echo "== golangci-lint"
	golangci-lint run
else
	echo "== golangci-lint: not installed, left out"
fi
