#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Sees to it that there is protoc, which is needed to regenerate code, and for nothing else.

set -o errexit -o nounset -o pipefail

if command -v protoc >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "protoc is needed: install the protobuf compiler" >&2
    exit 1
fi
sudo=()
if [[ "$(id -u)" != 0 ]]; then
    sudo=(sudo)
fi
"${sudo[@]}" apt-get update -qq >&2
"${sudo[@]}" apt-get install -y -qq protobuf-compiler >&2
