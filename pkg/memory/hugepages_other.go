// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package memory

// adviseHugePages does nothing: only Linux wants to be asked.
func adviseHugePages() (stop func()) { return func() {} }
