// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// +kubebuilder:object:generate=true
// +groupName=capi.ipam.ironcore.dev

// Package v1alpha1 contains the version v1alpha1 of the API group capi.ipam.ironcore.dev: pools from which Cluster API
// takes the addresses of machines.
package v1alpha1
