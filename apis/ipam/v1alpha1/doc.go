// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// +k8s:openapi-gen=true
// +k8s:deepcopy-gen=package
// +k8s:conversion-gen=github.com/ironcore-dev/ipam-apiserver/apis/ipam
// +k8s:defaulter-gen=TypeMeta
// +k8s:register-gen=package
// +k8s:openapi-model-package=dev.ironcore.ipam.v1alpha1
// +groupName=ipam.ironcore.dev

// Package v1alpha1 contains the version v1alpha1 of the API group ipam.ironcore.dev: prefixes of IP addresses, and
// the allocation of prefixes from other prefixes.
package v1alpha1
