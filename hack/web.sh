#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Checks the types of the page of "kubectl ipam ui". It installs what that needs, in the versions of
# hack/web/package-lock.json, into hack/web/node_modules. "hack/web.sh install" does only that.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/web"
if ! command -v npm >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "npm is needed: install Node.js" >&2
        exit 1
    fi
    sudo=()
    if [[ "$(id -u)" != 0 ]]; then
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update -qq >&2
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends nodejs npm >&2
fi
stamp=node_modules/.installed
if ! cmp --silent package-lock.json "${stamp}"; then
    npm ci --silent
    cp package-lock.json "${stamp}"
fi
if [[ "${1:-}" != install ]]; then
    node_modules/.bin/tsc --project .
fi
