# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo v0.0.0-unreleased)
LDFLAGS := -X github.com/ironcore-dev/ipam-apiserver/pkg/version.version=$(VERSION)
BIN := bin
TOOLS := $(BIN)/tools

# Pure packages and the controllers are where the race detector pays; the rest waits for a server.
# What starts servers waits for them most of the time, so two packages run at once, and no more.
RACE := ./pkg/allocator/... ./pkg/cidr ./pkg/controller/... ./pkg/standalone/...

# The programs are static, so that they run in an image with nothing else. Only the race detector needs cgo.
export CGO_ENABLED := 0
# The image and the release are built so, too. With the same flags nothing is compiled twice.
export GOFLAGS := $(filter-out -trimpath,$(GOFLAGS)) -trimpath

.PHONY: help
help: ## Show what there is to make.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z.-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into bin/.
	go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...
	go build -C clusterapi -ldflags '$(LDFLAGS)' -o $(CURDIR)/$(BIN)/ ./cmd/...
	cp cmd/kubectl-ipam/kubectl_complete-ipam $(BIN)/

.PHONY: run
run: ## Serve on this machine, with the samples; Ctrl-C ends it.
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/ipam-standalone ./cmd/kubectl-ipam
	@echo 'In another terminal: export KUBECONFIG=.ipam/kubeconfig; $(BIN)/kubectl-ipam tree; or, in the browser: make ui' >&2
	@exec $(BIN)/ipam-standalone --samples config/samples

.PHONY: ui
ui: ## Show the address space of "make run" in the browser; Ctrl-C ends it.
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/kubectl-ipam
	@exec $(BIN)/kubectl-ipam ui --kubeconfig .ipam/kubeconfig

.PHONY: test
test: ## Run all tests.
	CGO_ENABLED=1 go test -race -short $(RACE)
	go test $$(go list ./... | grep -v -e /generated/ -e /pkg/allocator -e /registry/ -e /test/)
	hack/chromium.sh
	hack/web.sh install
	go test -C hack/image .
	go test -p 2 -timeout 20m ./registry/... $$(go list ./test/... | grep -v -e /test/cluster)
	$(MAKE) e2e

E2E := e2e-addon e2e-cluster e2e-clusterapi e2e-monitoring
.PHONY: e2e $(E2E)
e2e-addon e2e-monitoring: e2e-%:
	go test -C test/$* -timeout 20m ./...
e2e-cluster:
	go test -timeout 20m ./test/cluster
e2e-clusterapi:
	go test -C clusterapi -timeout 20m ./...
e2e: ## Run the tests on a real Kubernetes control plane, which takes minutes to build once.
	hack/controlplane.sh
	$(MAKE) -j 2 $(E2E)

.PHONY: test-long
test-long: ## Run the fault and race tests at full length; it takes hours.
	IPAM_TEST_LONG=1 go test -timeout 12h -count=1 ./registry/claims/... ./test/claims ./test/fault
	IPAM_TEST_LONG=1 go test -timeout 1h -count=1 ./test/cluster -run TestCapacity
	IPAM_TEST_LONG=1 go test -C clusterapi -timeout 12h -count=1 ./...

.PHONY: bench
bench: ## Run the benchmarks; ARGS=--help tells what can be said, for instance ARGS='--rows E1,A' or ARGS='--against main --rows E2'.
	@go build -C test/bench -o $(CURDIR)/$(BIN)/bench .
	@exec $(BIN)/bench $(ARGS)

.PHONY: install.yaml
install.yaml: ## Write all that is to be applied to a cluster into bin/install.yaml.
	VERSION=$(VERSION) hack/install-yaml.sh

.PHONY: ipam-components.yaml
ipam-components.yaml: ## Write the provider of Cluster API for clusterctl into bin/ipam-components.yaml.
	VERSION=$(VERSION) hack/install-yaml.sh config/clusterapi ipam-components.yaml
	cp config/clusterapi/metadata.yaml $(BIN)/

.PHONY: release
release: install.yaml ipam-components.yaml ## Write what is published with VERSION=v1.2.3 into bin/release: archives, krew manifest, manifests, chart, checksums.
	go run ./hack/release -version $(VERSION)

.PHONY: image
image: ## Write the container image as an OCI archive, bin/image.tar.
	VERSION=$(VERSION) hack/image.sh

.PHONY: generate
generate: ## Regenerate code.
	hack/update-codegen.sh

.PHONY: verify
verify: ## Check that generated code and go.mod are up to date.
	hack/verify.sh

.PHONY: lint
lint: ## Check format, vet, import rules and license headers, and run staticcheck.
	hack/lint.sh
