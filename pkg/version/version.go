// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package version tells the version of the programs.
package version

// version is set by the linker.
var version = "v0.0.0-unreleased"

// Get returns the version of the running program, such as v1.2.3.
func Get() string { return version }
