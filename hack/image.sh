#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Writes the container image of VERSION as an OCI archive, bin/image.tar, and what is in it, bin/image.spdx.json. VERSION is
# that of the source if it is not set. PLATFORMS says for which platforms. The same source gives the same bytes.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${VERSION:-$(git describe --tags --always --dirty)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
platforms=()
rm -rf bin/image
for platform in ${PLATFORMS:-linux/amd64 linux/arm64}; do
    dir=$(pwd -P)/bin/image/${platform/\//-}
    mkdir -p "${dir}"
    export CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/}
    flags=(-trimpath -buildvcs=false -ldflags "-s -w -X github.com/ironcore-dev/ipam-apiserver/pkg/version.version=${version}" -o "${dir}/")
    go build "${flags[@]}" ./cmd/ipam-apiserver ./cmd/ipam-controller-manager
    go build -C clusterapi "${flags[@]}" ./cmd/ipam-cluster-api
    platforms+=("--platform=${platform}=${dir}")
done
unset GOOS GOARCH
out=$(pwd -P)/bin
go run -C hack/image . --version "${version}" --revision "$(git rev-parse HEAD)" --source-date-epoch "${SOURCE_DATE_EPOCH}" \
    --license "$(pwd -P)/LICENSE" --out "${out}/image.tar" --sbom "${out}/image.spdx.json" "${platforms[@]}"
echo "bin/image.tar: ghcr.io/ironcore-dev/ipam-apiserver:${version} for ${PLATFORMS:-linux/amd64 linux/arm64}"
