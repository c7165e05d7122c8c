#!/bin/sh
# What HTTP/2 and HTTPS cost in front: CPU of Gatehouse and of nginx for a request through each, in turns.
# Wants Debian's nginx, openssl, curl and nghttp2-client (h2load); installs nothing. Listens on loopback, ends what it starts.
# bench/http2.sh [NAME=BINARY …]: Gatehouses to compare; one is built when none is named.
# ROUNDS=5 SECONDS_=3 CLIENTS=32 STREAMS=10 of each turn; MODES="h2 h1" which protocols; BYTES=802 of each answer.
set -eu
cd "$(dirname "$0")/.."
for tool in nginx openssl h2load curl; do
	command -v "$tool" >/dev/null || {
		echo "bench/http2.sh: wants $tool (apt-get install nginx-light openssl nghttp2-client curl)" >&2
		exit 1
	}
done
rounds=${ROUNDS:-5} seconds=${SECONDS_:-3} clients=${CLIENTS:-32} streams=${STREAMS:-10} modes=${MODES:-h2 h1} bytes=${BYTES:-802}
port=${PORT:-19040}
dir=$(mktemp -d)
pids=
end() {
	for pid in $pids; do kill "$pid" 2>/dev/null || :; done
	wait
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM

[ $# -gt 0 ] || {
	go build -o "$dir/gatehouse" ./cmd/gatehouse
	set -- "Gatehouse=$dir/gatehouse"
}
mkdir -p "$dir/www" "$dir/b" "$dir/p" "$dir/f" "$dir/u" "$dir/s"
chmod 711 "$dir" && chmod 755 "$dir/www" # the workers of nginx may be another user
head -c "$bytes" /dev/zero | tr '\0' x >"$dir/www/answer"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -keyout "$dir/key" -out "$dir/cert" 2>/dev/null
common="access_log off; keepalive_requests 100000000; keepalive_timeout 600s; open_file_cache max=10; client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;"
cat >"$dir/up.conf" <<-CONF
	daemon off; worker_processes 1; pid $dir/up.pid; error_log $dir/up.log;
	events { worker_connections 4096; }
	http { $common server { listen 127.0.0.1:$port; location / { root $dir/www; default_type application/json; try_files /answer =404; } } }
CONF
cat >"$dir/nginx.conf" <<-CONF
	daemon off; worker_processes 2; pid $dir/px.pid; error_log $dir/px.log;
	events { worker_connections 4096; }
	http {
		$common
		upstream u { server 127.0.0.1:$port; keepalive 512; keepalive_requests 100000000; }
		server {
			listen 127.0.0.1:$((port + 1)) ssl http2;
			ssl_certificate $dir/cert; ssl_certificate_key $dir/key; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
			location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host; proxy_set_header X-Forwarded-For \$remote_addr; }
		}
	}
CONF
nginx -e "$dir/up.log" -c "$dir/up.conf" & pids="$pids $!"
nginx -e "$dir/px.log" -c "$dir/nginx.conf" & nginx=$!
pids="$pids $nginx"
lines="$((port + 1)):$nginx:nginx"
cat >"$dir/openapi.yaml" <<-'YAML'
	openapi: 3.1.0
	info: {title: customers, version: "1"}
	paths:
	  /v1/customers/{id}:
	    get:
	      operationId: get
	      parameters: [{name: id, in: path, required: true, schema: {type: string, pattern: "^[0-9]{1,12}$"}}]
	      responses: {"200": {description: ok}}
YAML
n=2
for each in "$@"; do
	home=$dir/$n
	mkdir "$home"
	cat >"$home/gatehouse.yaml" <<-YAML
		gatehouse: 1
		data: ./data
		listeners:
		  - {address: "127.0.0.1:$((port + n))", limits: {connections_per_address: 10000}}
		admin: {address: "127.0.0.1:$((port + n + 1))"}
		waf: {mode: "off", leaks: "off"}
		apis:
		  customers:
		    openapi: ../openapi.yaml
		    upstreams: ["http://127.0.0.1:$port"]
		    limits: [{id: address, per: address, rate: 1000000/s, burst: 1000000}]
		    operations: {get: {public: true}}
	YAML
	"${each#*=}" serve --config "$home/gatehouse.yaml" --log-level warn >"$home/log" 2>&1 & pid=$!
	pids="$pids $pid"
	lines="$lines $((port + n)):$pid:${each%%=*}"
	n=$((n + 2))
done
for line in $lines; do
	tries=0
	until curl -sk -o "$dir/one" --http2 "https://127.0.0.1:${line%%:*}/v1/customers/42" && [ "$(wc -c <"$dir/one")" -eq "$bytes" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || {
			tail -n 5 "$dir"/*/log "$dir"/*.log "$dir/one" >&2
			exit 1
		}
		sleep 0.1
	done
done

# ticks of CPU, of a process and its children: a hundredth of a second each
ticks() {
	total=0
	for p in "$1" $(cat "/proc/$1/task/$1/children"); do
		total=$((total + $(awk '{sub(/.*\) /, ""); print $12 + $13}' "/proc/$p/stat")))
	done
	echo "$total"
}
for mode in $modes; do
	args="-m $streams"
	[ "$mode" = h2 ] || args="--h1 -m 1"
	round=0
	while [ "$round" -lt "$rounds" ]; do
		for line in $lines; do
			rest=${line#*:} before=$(ticks "$(echo "$line" | cut -d: -f2)")
			h2load $args -t 1 -c "$clients" -D "$seconds" -H "x-request-id: 0123456789abcdef0123456789abcdef" -H "accept: application/json" \
				"https://127.0.0.1:${line%%:*}/v1/customers/42" >"$dir/load" 2>&1
			after=$(ticks "$(echo "$line" | cut -d: -f2)")
			done_=$(awk '/^requests:/ {print $8}' "$dir/load")
			bad=$(awk '/^status codes:/ {print $5 + $7 + $9}' "$dir/load")
			echo "$mode ${rest#*:} $(((after - before) * 10000000 / (done_ + 1))) $done_ $bad"
		done
		round=$((round + 1))
	done
done >"$dir/all"
echo "| protocol | proxy | µs of CPU a request (least – most) | × nginx | requests/s | not 2xx |"
echo "|---|---|---|---|---|---|"
for mode in $modes; do
	base=
	for line in $lines; do
		name=${line##*:}
		grep "^$mode $name " "$dir/all" | sort -n -k3 >"$dir/one"
		mid=$(awk '{v[NR] = $3} END {print v[int((NR + 1) / 2)]}' "$dir/one")
		base=${base:-$mid}
		awk -v mode="$mode" -v name="$name" -v mid="$mid" -v base="$base" -v s="$seconds" \
			'NR == 1 {least = $3} {most = $3; n += $4; bad += $5} END {printf "| %s | %s | %.1f (%.1f – %.1f) | %.2f | %.0f | %d |\n", mode, name, mid / 1000, least / 1000, most / 1000, mid / base, n / NR / s, bad}' "$dir/one"
	done
done
