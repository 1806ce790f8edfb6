#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Writes config/default, or the directory that is given, as one file: bin/install.yaml.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(pwd -P)/bin/tools
mkdir -p "${bin}"
(cd hack/tools && GOBIN="${bin}" go install sigs.k8s.io/kustomize/kustomize/v5)
"${bin}/kustomize" build "${1:-config/default}" >bin/install.yaml
echo "bin/install.yaml: $(grep -c '^kind:' bin/install.yaml) objects"
