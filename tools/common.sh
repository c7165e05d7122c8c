#!/bin/sh
# The built-in list of common passwords: internal/identity/common.bin, the first 64
# bits of the SHA-256 of each, sorted. They are those of @zxcvbn-ts/language-common
# (MIT), which counted them in leaks.
set -eu
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && npm pack --silent @zxcvbn-ts/language-common@4.1.3 && tar xzf ./*.tgz) >/dev/null
node -e '
	const { createHash } = require("node:crypto"), fs = require("node:fs")
	const words = JSON.parse(fs.readFileSync(process.argv[1])).filter((w) => w.length >= 4)
	const sums = words.map((w) => createHash("sha256").update(w.normalize("NFC").toLowerCase()).digest().subarray(0, 8))
	const sorted = sums.sort(Buffer.compare).filter((s, i, all) => i === 0 || !s.equals(all[i - 1]))
	fs.writeFileSync(process.argv[2], Buffer.concat(sorted))
' "$tmp/package/src/passwords.json" internal/identity/common.bin
wc -c internal/identity/common.bin
