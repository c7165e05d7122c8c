#!/bin/sh
# What Gatehouse's rules, Coraza and ModSecurity find and block by mistake: the tables of docs/waf.md.
# Wants Debian's nginx, libnginx-mod-http-modsecurity and modsecurity-crs; installs nothing. Listens on loopback, ends what it starts.
set -eu
cd "$(dirname "$0")/.."
modules=/usr/lib/nginx/modules rules=/usr/share/modsecurity-crs/rules
[ -e "$modules/ngx_http_modsecurity_module.so" ] && [ -e "$rules" ] || {
	echo "bench/waf.sh: wants libnginx-mod-http-modsecurity and modsecurity-crs (apt-get install)" >&2
	exit 1
}
dir=$(mktemp -d)
pids=
end() {
	for pid in $pids; do kill "$pid" 2>/dev/null || :; done
	wait
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM

port=${PORT:-19012}
for level in 1 2; do
	mkdir -p "$dir/$level"
	cat >"$dir/$level/main.conf" <<-CONF
		SecRuleEngine On
		SecRequestBodyAccess On
		SecRequestBodyLimit 13107200
		SecRequestBodyNoFilesLimit 13107200
		SecResponseBodyAccess Off
		SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
		SecAuditEngine Off
		SecTmpDir $dir
		SecDataDir $dir
		Include /etc/modsecurity/crs/crs-setup.conf
		SecAction "id:1000,phase:1,nolog,pass,t:none,setvar:tx.paranoia_level=$level,setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'"
		Include $rules/*.conf
	CONF
	cat >"$dir/$level/nginx.conf" <<-CONF
		load_module $modules/ndk_http_module.so;
		load_module $modules/ngx_http_modsecurity_module.so;
		daemon off; worker_processes 1; pid $dir/$level/pid; error_log $dir/$level/error.log;
		events { worker_connections 256; }
		http {
			access_log off; client_body_temp_path $dir/$level/b; proxy_temp_path $dir/$level/p; fastcgi_temp_path $dir/$level/f; uwsgi_temp_path $dir/$level/u; scgi_temp_path $dir/$level/s;
			client_max_body_size 20m; modsecurity on; modsecurity_rules_file $dir/$level/main.conf;
			server { listen 127.0.0.1:$((port + level)); location / { proxy_pass http://127.0.0.1:$((port + 2 + level)); } }
			server { listen 127.0.0.1:$((port + 2 + level)); modsecurity off; location / { return 200 "ok"; } }
		}
	CONF
	nginx -c "$dir/$level/nginx.conf" >"$dir/$level/log" 2>&1 &
	pids="$pids $!"
done
tries=0
until curl -s -o "$dir/up" "http://127.0.0.1:$((port + 1))/" && curl -s -o "$dir/up" "http://127.0.0.1:$((port + 2))/"; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || {
		cat "$dir"/*/log "$dir"/*/error.log >&2
		exit 1
	}
	sleep 0.1
done
nginx -v 2>&1
dpkg-query -W -f '${Package} ${Version}\n' libmodsecurity3 modsecurity-crs 2>/dev/null || :
go test ./internal/validate/waf -count 1 -run 'TestDetection' -v -modsecurity "127.0.0.1:$((port + 1)),127.0.0.1:$((port + 2))" | grep -v blocked:
