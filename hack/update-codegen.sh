#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
# SPDX-License-Identifier: Apache-2.0

# Regenerates everything under generated/, every zz_generated file, the definition of PrefixPool, and docs/reference.
# hack/verify.sh checks that this changes nothing.

set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
module=github.com/ironcore-dev/ipam-apiserver
boilerplate="${root}/hack/boilerplate.go.txt"

# The generators come from the tools module, at the versions pinned there.
tools="${root}/bin/codegen"
mkdir -p "${tools}"
(cd hack/tools && GOBIN="${tools}" go install \
    k8s.io/code-generator/cmd/{conversion-gen,deepcopy-gen,defaulter-gen,register-gen} \
    k8s.io/code-generator/cmd/{applyconfiguration-gen,client-gen,lister-gen,informer-gen} \
    k8s.io/code-generator/cmd/go-to-protobuf k8s.io/code-generator/cmd/go-to-protobuf/protoc-gen-gogo \
    golang.org/x/tools/cmd/goimports k8s.io/kube-openapi/cmd/openapi-gen)

api=${module}/apis/ipam/v1alpha1
hub=${module}/apis/ipam
common=(--go-header-file "${boilerplate}")

find apis \( -name 'zz_generated.*' -o -name 'generated.p*' \) -delete
rm -rf generated
mkdir -p generated

echo "Generating protobuf"
hack/protoc.sh
# The generator wants to find every package, ours and imported ones, under its import path in one tree.
tree=$(mktemp -d)
trap 'rm -rf "${tree}"' EXIT
place() { # import path, directory
    mkdir -p "$(dirname "${tree}/$1")"
    ln -s "$2" "${tree}/$1"
}
place "${module}" "${root}"
place k8s.io/apimachinery "$(go list -m -f '{{.Dir}}' k8s.io/apimachinery)"
place github.com/gogo/protobuf "$(cd hack/tools && go list -m -f '{{.Dir}}' github.com/gogo/protobuf)"
imported=$(printf -- '-k8s.io/apimachinery/pkg/%s,' util/intstr api/resource runtime/schema runtime apis/meta/v1)
(cd "${root}" && PATH="${tools}:${PATH}" "${tools}/go-to-protobuf" "${common[@]}" --output-dir "${tree}" \
    --proto-import "${tree}/github.com/gogo/protobuf/protobuf" \
    --apimachinery-packages "${imported%,}" --packages "${api}")

echo "Generating deepcopy, register, defaults, conversion"
"${tools}/deepcopy-gen" "${common[@]}" --output-file zz_generated.deepcopy.go "${hub}" "${api}"
"${tools}/register-gen" "${common[@]}" --output-file zz_generated.register.go "${api}"
"${tools}/defaulter-gen" "${common[@]}" --output-file zz_generated.defaults.go "${api}"
"${tools}/conversion-gen" "${common[@]}" --output-file zz_generated.conversion.go "${api}"

echo "Generating OpenAPI definitions"
readonly=()
for pkg in apis/meta/v1 api/resource runtime types util/intstr version; do
    readonly+=(--readonly-pkg "k8s.io/apimachinery/pkg/${pkg}")
done
"${tools}/openapi-gen" "${common[@]}" "${readonly[@]}" --readonly-pkg time \
    --output-file zz_generated.openapi.go --output-model-name-file zz_generated.model_name.go \
    --output-dir generated/openapi --output-pkg "${module}/generated/openapi" \
    --report-filename "${root}/bin/openapi-violations.list" \
    k8s.io/apimachinery/pkg/{apis/meta/v1,runtime,version,api/resource} "${api}"
# Only our own types are ours to mend.
if grep -F "${module}" "${root}/bin/openapi-violations.list"; then
    echo "the API rules above are broken by types of this module" >&2
    exit 1
fi

echo "Generating apply configurations, clientset, listers, informers"
go run ./hack/openapi-schema >"${root}/bin/openapi-schema.json"
"${tools}/applyconfiguration-gen" "${common[@]}" --openapi-schema "${root}/bin/openapi-schema.json" \
    --output-dir generated/applyconfiguration --output-pkg "${module}/generated/applyconfiguration" "${api}"
"${tools}/client-gen" "${common[@]}" --clientset-name versioned --input-base "${root}/apis" --input ipam/v1alpha1 \
    --apply-configuration-package "${module}/generated/applyconfiguration" \
    --output-dir generated/clientset --output-pkg "${module}/generated/clientset"
"${tools}/lister-gen" "${common[@]}" \
    --output-dir generated/listers --output-pkg "${module}/generated/listers" "${api}"
"${tools}/informer-gen" "${common[@]}" \
    --versioned-clientset-package "${module}/generated/clientset/versioned" \
    --listers-package "${module}/generated/listers" \
    --output-dir generated/informers --output-pkg "${module}/generated/informers" "${api}"

echo "Generating PrefixPool"
rm -f clusterapi/api/v1alpha1/zz_generated.* config/clusterapi/crd/*.yaml
(cd clusterapi && go tool controller-gen "object:headerFile=${boilerplate}" crd paths=./api/... output:crd:artifacts:config=../config/clusterapi/crd)
{
    sed -n '1,4p' config/chart/ipam/templates/apiservice.yaml
    echo '{{- if .Values.clusterAPI.enabled }}'
    sed 1d config/clusterapi/crd/capi.ipam.ironcore.dev_prefixpools.yaml
    echo '{{- end }}'
} >config/chart/ipam/templates/cluster-api-crd.yaml

echo "Generating docs/reference"
mkdir -p docs/reference
rm -f docs/reference/*.md
go run ./hack/reference "${root}"

echo "Generating dashboards"
go run -C test/monitoring ./generate "${root}"
