#!/bin/sh
# Measures everything docs/performance.md has tables of, in one go of about ten minutes, and writes the tables to bench/out/performance.md.
#   CADDY=1        builds Caddy from its module first; CADDY=path takes that one
#   TRAEFIK=path   KRAKEND=path   take part too
#   SOAK=30        a soak of so many minutes at the end
#   PASTE=1        puts the tables into docs/performance.md
#   QUICK=1        a third of the time, to see whether it runs
# Wants nginx and wrk, and haproxy if it is to take part; installs nothing. Listens on loopback, ends what it starts.
set -eu
cd "$(dirname "$0")/.."
mkdir -p bench/out .testdeps/bin
out=bench/out/performance.md
caddy=${CADDY:-$(command -v caddy || :)}
if [ "$caddy" = 1 ]; then
	(cd /tmp && GOBIN="$OLDPWD/.testdeps/bin" go install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9)
	caddy=$PWD/.testdeps/bin/caddy
fi
go build -o bench/out/gatehouse ./cmd/gatehouse
go build -o bench/out/bench ./bench

pid=
stop() {
	trap '' INT TERM
	[ -z "$pid" ] || {
		kill "$pid" 2>/dev/null || :
		wait "$pid" || :
	}
	exit 130
}
trap stop INT TERM
failed=0
part() { # HEADING MODE [FLAG…]
	printf '\n### %s\n\n' "$1" | tee -a "$out"
	shift
	echo "\`go run ./bench $*\`" | sed 's/ `$/`/' >>"$out"
	echo >>"$out"
	bench/out/bench "$@" -gatehouse "$PWD/bench/out/gatehouse" -caddy "$caddy" -traefik "${TRAEFIK:-}" -krakend "${KRAKEND:-}" >bench/out/part.md &
	pid=$!
	wait "$pid" || {
		failed=1
		echo "(this part failed)" >>bench/out/part.md
	}
	pid=
	tee -a "$out" <bench/out/part.md
}
begun=$(date +%s)
printf '## Measured in one run\n\n' >"$out"
date -u '+Measured on %Y-%m-%d at %H:%M UTC' | tee -a "$out"
git log -1 --format='with Gatehouse %h.' | tee -a "$out" || :
if [ "${QUICK:-}" = 1 ]; then
	part "A request: GET" requests -rounds 1 -seconds 2
	part "A request: POST of 430 bytes of JSON" requests -post -rounds 1 -seconds 2
	part "The same over TLS 1.3: GET" tls -rounds 1 -seconds 2
	part "Waits at half load" latency -rounds 1 -seconds 2
	part "From 32 to 4,096 connections" connections -rounds 1 -seconds 1
	part "Bodies" sizes -rounds 1 -seconds 1
	part "Idle connections" idle -idle 2000 -seconds 3
else
	part "A request: GET" requests -rounds 5 -seconds 3
	part "A request: POST of 430 bytes of JSON" requests -post -rounds 3 -seconds 3
	part "The same over TLS 1.3: GET" tls -rounds 3 -seconds 3
	part "Waits at half load" latency -rounds 3 -seconds 2
	part "From 32 to 4,096 connections" connections -rounds 2 -seconds 2
	part "Bodies" sizes -rounds 2 -seconds 1
	part "Idle connections" idle -idle 10000 -seconds 12
fi
[ -z "${SOAK:-}" ] || part "A soak of $SOAK minutes" soak -minutes "$SOAK"
printf '\nAll of it took %d s.\n' $(($(date +%s) - begun)) | tee -a "$out"
rm -f bench/out/part.md
if [ "${PASTE:-}" = 1 ] && [ $failed = 0 ]; then
	sed -e '/<!-- bench\/all.sh: begin -->/r '"$out" -e '/<!-- bench\/all.sh: begin -->/,/<!-- bench\/all.sh: end -->/{/<!-- /!d;}' docs/performance.md >bench/out/document.md
	cp bench/out/document.md docs/performance.md
fi
echo "written to $out"
exit $failed
