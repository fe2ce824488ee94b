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

test: vet cross ## Vet, cross build and test; installs etcd, knot and Prometheus, and builds servers (once, minutes) unless ZEROHOP_CONSUL, ZEROHOP_KUBE_APISERVER and ZEROHOP_OTELCOL name them
	@GO="$(GO)" SEEDS="$(SEEDS)" exec tools/test.sh

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
