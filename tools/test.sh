#!/bin/sh
# make test: fetches the published documents some tests read (never committed), then runs every test with the race detector.
# What cannot be fetched is left out, and the test that wanted it says so.
set -eu
cd "$(dirname "$0")/.."
deps=.testdeps
mkdir -p "$deps"

# Real OpenAPI documents, from the packages their vendors publish.
if [ ! -e "$deps/github.json" ]; then
	if command -v npm >/dev/null 2>&1 && npm install --silent --no-save --no-package-lock --prefix "$deps" @octokit/openapi@23.0.2 >/dev/null 2>&1; then
		ln -sf node_modules/@octokit/openapi/generated/api.github.com.json "$deps/github.json"
	else
		echo "tools/test.sh: GitHub's OpenAPI document not available (npm): its test is left out"
	fi
fi
if [ ! -e "$deps/datadog" ]; then
	if dir=$(cd /tmp && go mod download -json github.com/DataDog/datadog-api-client-go/v2@v2.67.0 2>/dev/null | sed -n 's/^.*"Dir": "\(.*\)",*$/\1/p') && [ -n "$dir" ]; then
		ln -sfn "$dir/.generator/schemas" "$deps/datadog"
	else
		echo "tools/test.sh: Datadog's OpenAPI documents not available: their test is left out"
	fi
fi
# Published conformance data (JSON-Schema-Test-Suite, JSONTestSuite, Stripe's fixtures), where the checkout has it beside it.
if [ ! -e "$deps/corpora" ] && [ -d ../shared/corpora ]; then
	ln -sfn "$(cd ../shared/corpora && pwd)" "$deps/corpora"
fi
[ -e "$deps/corpora" ] || echo "tools/test.sh: no conformance corpora at $deps/corpora: their tests are left out"

exec go test -race -timeout 20m "$@" ./...
