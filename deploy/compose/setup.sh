#!/bin/sh
# Makes the secrets of compose.yaml, once. Keep secrets/node/house-key where the database's backups are not: it opens the keys in them.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets ] || {
	echo "setup.sh: secrets/ is there already; remove it, and the volumes, to begin anew" >&2
	exit 1
}
umask 077
mkdir -p secrets.part/node secrets.part/engines apis
word() { openssl rand -hex 24; }
database=$(word) shared=$(word)
printf '%s\n' "$database" >secrets.part/engines/database-password
printf 'requirepass %s\n' "$shared" >secrets.part/engines/valkey.conf
printf 'postgres://gatehouse:%s@/gatehouse?host=/run/postgresql\n' "$database" >secrets.part/node/database-url
printf 'unix://:%s@/run/valkey/valkey.sock\n' "$shared" >secrets.part/node/shared-url
openssl rand -base64 48 >secrets.part/node/house-key
# Users of the containers read them; nobody else on this machine passes secrets/ itself.
chmod 755 secrets.part/node secrets.part/engines
chmod 444 secrets.part/node/* secrets.part/engines/*
mv secrets.part secrets
echo "secrets/ is made; now: docker compose up --build --detach --wait"
