GO       ?= go
TOOL      = tool -modfile=tools/go.mod
FUZZTIME ?= 30s
# How many random scenarios of package sim are tried.
SEEDS    ?= 10000
# The file that bench writes, and an older one to compare it with.
BENCH    ?= bench.txt
OLD      ?=

.DEFAULT_GOAL := help
.PHONY: help test vet cross lint bench fuzz generate checkgenerate

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A simulation happens in one goroutine, where the race detector finds little and takes ten times as long: it only gets the
# short tests of package sim, beside those that need the other core.
#
# Many packages wait for servers and timeouts more than they compute: three run at a time, whatever the cores.
#
# Most of package loadbalance are such simulations too: under the race detector it makes a part of them, and all without. So do
# routing, vet, telemetry/incident, config/gatewayapi and config/istio with what they try at random or in great number.
#
# The fault tests hold real processes to latency bounds, which the race detector and a neighbour on the same cores would
# break: they run last and alone. Those of few calls run four at a time, for which two cores are enough. All runs always
# happen, so that one failure does not hide another. What the browser runs the race detector does not see.
test: vet cross ## Vet, cross build and test; installs etcd, knot and Prometheus, and builds servers (once, minutes) unless ZEROHOP_CONSUL, ZEROHOP_KUBE_APISERVER and ZEROHOP_OTELCOL name them
	@tools/servers.sh
	@if [ -z "$$ZEROHOP_CONSUL" ]; then \
		ZEROHOP_CONSUL=$$(tools/consul/build.sh) || \
			echo 'no Consul server could be built (see above): the tests that need one skip' >&2; \
	fi; \
	if [ -z "$$ZEROHOP_KUBE_APISERVER" ]; then \
		ZEROHOP_KUBE_APISERVER=$$(tools/kubernetes/build.sh) || \
			echo 'no Kubernetes API server could be built (see above): the tests that need one skip' >&2; \
	fi; \
	if [ -z "$$ZEROHOP_OTELCOL" ]; then \
		ZEROHOP_OTELCOL=$$(tools/otelcol/build.sh) || \
			echo 'no OpenTelemetry Collector could be built (see above): the tests that need one skip' >&2; \
	fi; \
	export ZEROHOP_CONSUL ZEROHOP_KUBE_APISERVER ZEROHOP_OTELCOL; \
	packages=$$($(GO) list ./... | grep -v -e /faulttest -e /sim$$ -e /simulate$$); rc=0; \
	echo '==> go test'; \
	$(GO) test -p 3 -race -shuffle=on -timeout=10m $$packages || rc=1; \
	echo '==> go test, what the race detector would slow down, and ./sim under it'; \
	$(GO) test -race -short -timeout=5m ./sim & sim=$$!; \
	$(GO) test -p 1 -timeout=10m ./loadbalance ./examples/simulate ./telemetry/incident ./routing ./vet ./config/gatewayapi ./config/istio || rc=1; \
	wait $$sim || rc=1; \
	echo '==> go test ./sim, $(SEEDS) seeds and all mutants'; \
	$(GO) test -timeout=20m ./sim -seeds=$(SEEDS) -mutants || rc=1; \
	$(GO) test -count=1 -parallel=4 -timeout=20m ./faulttest || rc=1; \
	$(GO) test -count=1 -timeout=5m ./faulttest/outage || rc=1; \
	$(GO) test -count=1 -timeout=5m ./faulttest/collector || rc=1; \
	$(GO) test -count=1 -race -timeout=5m ./faulttest/explain || rc=1; \
	echo '==> go test, interop'; \
	(cd interop && $(GO) test -race -shuffle=on -timeout=5m $$($(GO) list ./... | grep -v /console$$)) || rc=1; \
	(cd interop && $(GO) test -timeout=5m ./console) || rc=1; \
	echo '==> go test, bench'; \
	(cd bench && $(GO) test -timeout=5m ./...) || rc=1; \
	exit $$rc

vet: ## Run go vet
	@echo '==> go vet'
	@$(GO) vet ./...
	@cd interop && $(GO) vet ./...
	@cd bench && $(GO) vet ./...

cross: ## Build for darwin and windows, vet for linux/arm64
	@echo '==> cross: darwin, windows, linux/arm64'
	@GOOS=darwin $(GO) build ./...
	@GOOS=windows $(GO) build ./...
	@GOOS=linux GOARCH=arm64 $(GO) vet ./...

# What tests leave open is found by goleak. bodyclose also wants the bodies closed of calls that must fail, and in interop
# those that generated code hands on.
lint: ## Check format, vet, staticcheck, error wrapping, response bodies and spelling
	@rc=0; \
	echo '==> gofmt'; out=$$(gofmt -l .) && [ -z "$$out" ] || { echo "$$out"; rc=1; }; \
	for check in vet '$(TOOL) staticcheck' '$(TOOL) go-errorlint -errorf' '$(TOOL) bodyclose -test=false'; do \
		echo "==> $${check##*go.mod }"; $(GO) $$check ./... || rc=1; \
	done; \
	for check in staticcheck 'go-errorlint -errorf'; do \
		echo "==> $$check, interop"; (cd interop && $(GO) tool -modfile=../tools/go.mod $$check ./...) || rc=1; \
	done; \
	echo '==> misspell'; find . -name '*.go' -o -name '*.md' | xargs $(GO) $(TOOL) misspell -error || rc=1; \
	exit $$rc

# Those of module bench, which compare with other libraries, take a quarter of an hour: most of it to set others up.
bench: ## Run all benchmarks 10 times into BENCH=bench.txt and sum up, against OLD=file if given
	@$(GO) test -run='^$$' -bench=. -benchmem -count=10 -timeout=0 ./... >$(BENCH) || { cat $(BENCH); exit 1; }
	@(cd bench && $(GO) test -run='^$$' -bench=. -benchtime=0.1s -count=10 -timeout=0 ./...) >>$(BENCH) || { cat $(BENCH); exit 1; }
	@$(GO) $(TOOL) benchstat $(OLD) $(BENCH)

fuzz: ## Run every fuzz target for FUZZTIME=30s
	@list=$$($(GO) test -list='^Fuzz' ./...) || { echo "$$list"; exit 1; }; \
	echo "$$list" | awk '/^Fuzz/ { f[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, f[i]; n = 0 }' | \
	while read -r package target; do \
		echo "==> $$package $$target"; \
		$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$package" </dev/null || exit 1; \
	done

generate: ## Regenerate generated files; needs protoc, clang-19 and llvm-19
	@mkdir -p .bin
	@$(GO) build -modfile=tools/go.mod -o .bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@cd interop && $(GO) build -o ../.bin/ connectrpc.com/connect/cmd/protoc-gen-connect-go
	PATH="$(CURDIR)/.bin:$$PATH" $(GO) generate ./...
	cd interop && PATH="$(CURDIR)/.bin:$$PATH" $(GO) generate ./...

checkgenerate: ## Fail if go mod tidy or generate would change a committed file
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd interop && $(GO) mod tidy -diff
	cd bench && $(GO) mod tidy -diff
	@$(MAKE) --no-print-directory generate
	@out=$$(git status --porcelain) && [ -z "$$out" ] || { echo 'not as committed:'; echo "$$out"; git diff; exit 1; }
