#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Checks what a compiler does not. Every failure names what to do about it.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
failed=0
complain() {
    echo "$1" >&2
    failed=1
}

unformatted=$(gofmt -l apis registry pkg cmd hack test clusterapi)
[[ -z "${unformatted}" ]] || complain "Run 'gofmt -w' on: ${unformatted}"

headless=$(git ls-files --cached --others --exclude-standard '*.go' '*.sh' Makefile | xargs grep -L 'SPDX-License-Identifier: Apache-2.0' || true)
[[ -z "${headless}" ]] || complain "Put the SPDX header of hack/boilerplate.go.txt on: ${headless}"

# The import rules of docs/architecture.md: who must not import whom, test files apart. Everybody
# may import pkg/cidr, which imports the standard library only.
module=github.com/ironcore-dev/ipam-apiserver
wall() {
    local from=$1 not=$2 why=$3 breaches
    breaches=$(go list -f '{{$p := .ImportPath}}{{range .Imports}}{{$p}} imports {{.}}{{"\n"}}{{end}}' "${from}" |
        grep -E " imports (${not})" | grep -v " imports ${module}/pkg/cidr$" || true)
    [[ -z "${breaches}" ]] || complain "${why}:
${breaches}"
}
wall ./apis/... "${module}/(registry|pkg|cmd|generated)|k8s.io/(api|apiserver|client-go)/" "apis imports apimachinery and pkg/cidr only"
wall ./registry/... "${module}/(pkg|cmd|generated)" "registry imports of pkg only cidr, and nothing generated"
wall ./registry/claims "${module}/registry/" "registry/claims is the lowest of the registry: claims/store and claims/audit import it"
wall ./registry/claims/store/... "${module}/registry/(claims/|ipam)" "registry/claims/store imports of the registry only claims"
wall ./registry/claims/audit/... "${module}/registry/(claims/|ipam)" "registry/claims/audit imports of the registry only claims"
wall ./... "${module}/registry/claims/claimstest" "only tests import claimstest"
wall ./pkg/apiserver/... "${module}/(cmd|pkg/controller|generated/(clientset|informers|listers))" "pkg/apiserver imports neither controllers nor clients"
wall ./pkg/admission/... "${module}/(registry|cmd|pkg/(apiserver|controller)|generated)" "pkg/admission imports apis and pkg/cidr only"
wall ./pkg/controller/... "${module}/(registry|cmd|pkg/apiserver|apis/ipam\$|apis/ipam/(install|validation|fuzzer))" "controllers use generated clients and v1alpha1 only"
wall ./pkg/cli/... "${module}/(registry|cmd|apis/ipam\$|apis/ipam/(install|validation|fuzzer)|pkg/(apiserver|admission|controller|standalone|pki))" "pkg/cli uses generated clients, v1alpha1 and what pkg/policy, pkg/request, pkg/cidr and pkg/allocator compute only"
for each in policy request; do
    wall "./pkg/${each}/..." "${module}/(registry|cmd|generated|apis/ipam\$|apis/ipam/(install|validation|fuzzer)|pkg/(apiserver|admission|controller|cli|standalone|pki))" "pkg/${each} imports v1alpha1, pkg/cidr and pkg/allocator only"
done
wall ./pkg/allocator/... "k8s.io/|sigs.k8s.io/|${module}" "pkg/allocator imports nothing of Kubernetes"
wall ./pkg/cidr/... "[^ ]*\\." "pkg/cidr imports the standard library only"
wall ./pkg/pki/... "${module}" "pkg/pki knows nothing but certificates"
wall ./pkg/standalone/... "${module}/(registry|cmd)" "pkg/standalone puts pkg/apiserver and pkg/controller together, and is no command"
wall ./generated/... "${module}/(registry|pkg|cmd)" "generated imports apis only"
wall ./... "sigs.k8s.io/controller-runtime" "there is no controller-runtime in the product"

# The provider of Cluster API is a client of the product: it knows the API, and otherwise only how to write prefixes.
breaches=$(go list -C clusterapi -f '{{$p := .ImportPath}}{{range .Imports}}{{$p}} imports {{.}}{{"\n"}}{{end}}' ./... |
    grep " imports ${module}/" | grep -vE " imports ${module}/(clusterapi/|apis/ipam/v1alpha1$|pkg/(cidr|version)$)" || true)
[[ -z "${breaches}" ]] || complain "clusterapi imports apis/ipam/v1alpha1, pkg/cidr and pkg/version only:
${breaches}"

# The modules of their own that have Go files. The others are lists of tools.
modules=(clusterapi hack/image test/addon test/bench test/monitoring)

go vet ./...
for each in "${modules[@]}"; do
    go vet -C "${each}" ./...
done

mkdir -p bin/tools
(cd hack/tools && GOBIN="${root}/bin/tools" go install honnef.co/go/tools/cmd/staticcheck)
bin/tools/staticcheck $(go list ./... | grep -v /generated/) || complain "staticcheck found the above"
for each in "${modules[@]}"; do
    (cd "${each}" && "${root}/bin/tools/staticcheck" ./...) || complain "staticcheck found the above in ${each}"
done

exit "${failed}"
