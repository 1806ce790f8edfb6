#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Regenerates everything in a copy of the tree, and fails if that changes, adds or removes a file. Checks the types of the
# page of "kubectl ipam ui", which is served as it is written, so there is nothing of it to build.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if command -v npm >/dev/null; then
    hack/web.sh || {
        echo "The types of the page in pkg/cli/ui/web do not fit: 'hack/web.sh' shows what to change." >&2
        exit 1
    }
else
    echo "There is no npm, so the types of the page in pkg/cli/ui/web are not checked." >&2
fi

copy=$(mktemp -d)
trap 'rm -rf "${copy}"' EXIT

# The tree as it is, with what is not committed, but without what git ignores.
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
    if [[ -e "${f}" ]]; then printf '%s\0' "${f}"; fi
done | tar --create --null --files-from=- | tar --extract --directory "${copy}"

cd "${copy}"
git init --quiet
git add --all
git -c user.name=verify -c user.email=verify@localhost commit --quiet --message tree

hack/update-codegen.sh >/dev/null
if [[ -n "$(git status --porcelain)" ]]; then
    git status --short
    git --no-pager diff
    echo "Generated code is not up to date: run 'make generate' and commit the result." >&2
    exit 1
fi

for each in $(git ls-files go.mod '*/go.mod'); do
    (cd "$(dirname "${each}")" && go mod tidy)
done
if [[ -n "$(git status --porcelain)" ]]; then
    git --no-pager diff
    echo "go.mod is not tidy: run 'go mod tidy' in the directories above and commit the result." >&2
    exit 1
fi
echo "Generated code and go.mod are up to date."
