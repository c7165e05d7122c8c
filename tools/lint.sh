#!/bin/sh
# Format, vet, staticcheck. golangci-lint (.golangci.yml) runs too where it is installed: building it takes some
# 75 s of CPU and 190 modules (3 min on two busy cores), running it a minute. To have it:
#	go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
set -eu
cd "$(dirname "$0")/.."
tool() { go tool -modfile=tools/go.mod "$@"; }

echo "== gofumpt"
unformatted=$(git ls-files '*.go' | xargs go tool -modfile=tools/go.mod gofumpt -extra -l)
if [ -n "$unformatted" ]; then
	echo "not formatted (run: go tool -modfile=tools/go.mod gofumpt -extra -w .):"
	echo "$unformatted"
	exit 1
fi
echo "== go mod tidy -diff"
go mod tidy -diff
echo "== go vet"
go vet ./...
echo "== go fix"
unmodern=$(go fix -diff ./... 2>/dev/null || true)
if [ -n "$unmodern" ]; then
	echo "older than this Go (run: go fix ./...):"
	echo "$unmodern"
	exit 1
fi
echo "== staticcheck"
tool staticcheck ./...
if command -v golangci-lint >/dev/null 2>&1; then
	echo "== golangci-lint"
	golangci-lint run
else
	echo "== golangci-lint: not installed, left out"
fi
