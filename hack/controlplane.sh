#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Builds a Kubernetes control plane for tests into bin/controlplane: etcd, kube-apiserver,
# kube-controller-manager and kubectl, of the versions in test/controlplane/go.mod, or those of them that are
# named. It takes minutes, and nothing if that has not changed since.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(pwd -P)/bin/controlplane
wanted="$(go env GOVERSION) $(cat test/controlplane/go.mod test/controlplane/go.sum "$0" | sha256sum)"
mkdir -p "${bin}"

cd test/controlplane
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
# Without these, the programs say that they are of version v0.0.0, and refuse to work together.
ldflags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    ldflags+=" -X ${package}.gitVersion=${version} -X ${package}.gitMajor=1 -X ${package}.gitMinor=$(cut -d. -f2 <<<"${version}")"
done
[[ $# -gt 0 ]] || set -- etcd kube-apiserver kube-controller-manager kubectl
for program in "$@"; do
    stamp="${bin}/${program}.built"
    if [[ -f "${stamp}" && "$(cat "${stamp}")" == "${wanted}" ]]; then
        continue
    fi
    rm -f "${stamp}"
    echo "Building ${program} of Kubernetes ${version} into bin/controlplane; this takes minutes, once." >&2
    case "${program}" in
    etcd) go build -o "${bin}/etcd" go.etcd.io/etcd/server/v3 ;;
    *) go build -ldflags "${ldflags}" -o "${bin}/${program}" "k8s.io/kubernetes/cmd/${program}" ;;
    esac
    echo "${wanted}" >"${stamp}"
done
