#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Writes config/default, or the directory that is given, as one file: bin/install.yaml, or the name that is given. The images
# are those of VERSION, which is that of the source if it is not set.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(pwd -P)/bin/tools
file=${2:-install.yaml}
version=${VERSION:-$(git describe --tags --always --dirty)}
mkdir -p "${bin}" bin/install
(cd hack/tools && GOBIN="${bin}" go install sigs.k8s.io/kustomize/kustomize/v5)
cat >bin/install/kustomization.yaml <<EOF
resources:
- ../../${1:-config/default}
images:
- name: ghcr.io/ironcore-dev/ipam-apiserver
  newTag: "${version}"
EOF
"${bin}/kustomize" build bin/install >"bin/${file}"
echo "bin/${file}: $(grep -c '^kind:' "bin/${file}") objects of version ${version}"
