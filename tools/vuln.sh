#!/bin/sh
# Known vulnerabilities in what the binary really calls. Without a way to the database it says so and goes on:
# a closed network must not look like a clean result.
set -eu
cd "$(dirname "$0")/.."
db=${GOVULNDB:-https://vuln.go.dev}
if curl -sf -m 10 -o /dev/null "$db/index/db.json"; then
	echo "== govulncheck"
	go tool -modfile=tools/go.mod govulncheck -db "$db" ./...
else
	echo "== govulncheck: LEFT OUT, the vulnerability database cannot be reached from here"
fi
