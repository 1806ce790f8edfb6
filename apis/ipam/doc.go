// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +groupName=ipam.ironcore.dev

// Package ipam contains the internal ("hub") types of the API group ipam.ironcore.dev. All served versions are
// converted to and from these types. They are never serialized.
package ipam
