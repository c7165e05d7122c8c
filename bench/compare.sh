#!/bin/sh
# Compares Gatehouse with plain proxies: GET, then POST of 430 bytes of JSON. CADDY=1 builds Caddy from its module first.
set -eu
cd "$(dirname "$0")/.."
caddy=
if [ "${CADDY:-}" = 1 ]; then
	mkdir -p .testdeps/bin
	(cd /tmp && GOBIN="$OLDPWD/.testdeps/bin" go install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9)
	caddy="$PWD/.testdeps/bin/caddy"
fi
echo "GET"
go run ./bench -caddy "$caddy" "$@"
echo "POST, 430 bytes of JSON"
go run ./bench -caddy "$caddy" -post "$@"
