# make run    the demo: gateway, sample API, keys and tokens, and a tour of curl lines that work
# make test   installs what the tests need and passes them (race detector on)
# make check  what CI runs: format, vet, staticcheck, race tests, vulnerabilities
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod

.PHONY: run build test check lint bench fuzz clean

run: build
	bin/gatehouse demo

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gatehouse ./cmd/gatehouse

test:
	sh tools/test.sh

check:
	bash .ci/run

lint:
	sh tools/lint.sh

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:
	sh tools/fuzz.sh

clean:
	rm -rf bin dist .testdeps
